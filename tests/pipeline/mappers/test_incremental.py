from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from pipeline.mappers import MapperOptions, MappingTask
from pipeline.mappers.incremental import _angle, _footing, _map_once, _pairs_by_inliers, _starts, incremental
from pipeline.mappers.models import read_models, read_poses, refine_robustly
from pipeline.metrics.poses import pair_errors_deg
from pipeline.stages.verify import VerifyOptions, verify
from tests.pipeline.synthetic_run import Run, write_run


@pytest.fixture(scope="module")
def strong(tmp_path_factory) -> tuple[Run, MappingTask]:
    """Five photographs with some 4,000 verified matches each."""
    return _verified(tmp_path_factory.mktemp("strong"), points=3000)


def _verified(folder: Path, points: int) -> tuple[Run, MappingTask]:
    run = write_run(folder, points=points)
    verify(run.survey, run.pairs, VerifyOptions(), 0, run.work, 1, lambda n: None)
    count = len(run.survey.photos)
    task = MappingTask(
        run.work.database, run.survey.root, folder / "sparse", count, frozenset({1}), True, True, seed=0, threads=1
    )
    return run, task


def _error(run: Run, sparse: Path) -> float:
    """Median pose error in degrees over all pairs of photographs."""
    found = read_poses(sparse / "0")
    assert set(found) == set(run.poses)
    poses = [[which[name] for name in sorted(run.poses)] for which in (found, run.poses)]
    return float(np.median(pair_errors_deg(*(np.stack([getattr(p, k) for p in x]) for x in poses for k in "Rt"))))


def test_footing_goes_by_verified_matches_and_then_by_size(strong, tmp_path):
    _, task = strong
    options = MapperOptions()
    assert _footing(task, options) == "strong"
    _, few = _verified(tmp_path, points=250)
    assert _footing(few, options) == "fragile"
    assert _footing(few, MapperOptions(attempts_max_images=4)) == "weak"


def test_coarse_adjustments_and_a_robust_one_are_as_good_as_careful_ones(strong, tmp_path):
    run, task = strong
    observations, errors = [], []
    for name, scale in (("coarse", 0.5), ("careful", 0.0)):
        mapping = replace(task, output=tmp_path / name)
        assert incremental(mapping, MapperOptions(robust_scale=scale), lambda n: None) == []
        refine_robustly(mapping.output, mapping, MapperOptions())
        observations.append(read_models(mapping.output)[0].observations)
        errors.append(_error(run, mapping.output))
    assert observations[0] > 0.99 * observations[1]
    assert max(errors) < 0.05 and errors[0] < errors[1] + 0.005


@pytest.mark.parametrize("largest", [4, 100])
def test_a_weak_collection_is_mapped_whole(tmp_path, largest):
    run, task = _verified(tmp_path, points=250)
    incremental(task, MapperOptions(attempts_max_images=largest), lambda n: None)
    refine_robustly(task.output, task, MapperOptions())
    assert _error(run, task.output) < 0.2


def test_starts_are_the_widest_well_matched_pairs_and_narrow_ones_after_them(tmp_path):
    _, task = _verified(tmp_path, points=250)
    with pycolmap.Database.open(task.database) as database:
        angles = {pair: _angle(database, *pair) for pair in _pairs_by_inliers(database)[1]}
    wide = MapperOptions(init_min_num_inliers=20, init_min_tri_angle=89)
    first, second, *others = _starts(task, wide)
    assert (first, second) == (None, None) and len(others) >= 3
    assert angles[others[0]] > 1.5 * angles[others[-1]]
    assert max(Counter(image for pair in others if pair for image in pair).values()) <= 2
    (model, *_) = _map_once(task, wide, tmp_path / "scratch", 0, others[-1], "fragile", lambda n: None)
    assert model.num_reg_images() == task.num_images


def test_the_robust_adjustment_recovers_from_wrong_observations(strong, tmp_path):
    run, task = strong
    task = replace(task, output=tmp_path / "sparse")
    incremental(task, MapperOptions(), lambda n: None)
    model = pycolmap.Reconstruction(task.output / "0")
    generator = np.random.default_rng(0)
    for image in model.images.values():
        for point in image.points2D:
            if generator.random() < 0.1:
                point.xy = point.xy + (3.0, 1.0)  # all to the same side: least squares would give way
    model.write(task.output / "0")
    moved = read_models(task.output)[0].observations
    refine_robustly(task.output, task, MapperOptions())
    assert _error(run, task.output) < 0.05
    (refined,) = read_models(task.output)
    assert 0.8 * moved < refined.observations < 0.93 * moved  # the wrong ones are dropped
    assert refined.mean_reprojection_error_px < 0.5
    before = read_poses(task.output / "0")
    refine_robustly(task.output, task, MapperOptions())
    for name, pose in read_poses(task.output / "0").items():
        np.testing.assert_allclose(pose.R, before[name].R, atol=2e-4)  # 0.01 degrees
