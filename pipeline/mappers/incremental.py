"""COLMAP's incremental mapper, started several times where one start is fragile.

With unknown focal lengths the first pair decides much: one bad start leaves 4 of 10 photographs registered. So small
collections with unknown intrinsics and few matches are mapped from several starts (COLMAP's own choice, then the
strongest verified pairs not yet tried) and the model with the most registered photographs, then the most observations,
is kept.
"""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pycolmap

from pipeline.mappers import MapperOptions, MappingTask, Progress
from pipeline.mappers.models import score, write_largest_first

_ENOUGH_INLIERS = 3000  # verified matches for each photograph that make a small collection's model sure
_SURE_GROWTH = 1.3  # growth between global adjustments where the model is sure: COLMAP's 1.1 takes longer for the same
# Where a robust adjustment follows at the end, those on the way need only be good enough for the next photograph. They
# end at such a relative decrease of the cost; one refinement is enough for strong collections, weak ones need two.
_COARSE = {
    "weak": {"ba_local_function_tolerance": 1e-3, "ba_global_function_tolerance": 1e-4, "ba_global_max_refinements": 2},
    "strong": {
        "ba_local_function_tolerance": 1e-3,
        "ba_global_function_tolerance": 1e-3,
        "ba_local_max_refinements": 1,
        "ba_global_max_refinements": 1,
    },
}

Footing = Literal["fragile", "weak", "strong"]


def incremental(task: MappingTask, options: MapperOptions, progress: Progress) -> list[str]:
    """Models under task.output, largest first; returns notes for the report.

    A KeyboardInterrupt leaves task.output as it was, so that running again maps anew.
    """
    scratch = task.output.with_name(task.output.name + ".tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    footing = _footing(task, options)
    best: list[pycolmap.Reconstruction] = []
    outcomes: list[tuple[int, int]] = []
    for attempt, start in enumerate(_starts(task, options)):
        models = _map_once(task, options, scratch, attempt, start, footing, progress)
        outcomes.append(score(models[0]) if models else (0, 0))
        if outcomes[-1] > (score(best[0]) if best else (0, 0)):
            best, chosen = models, attempt
        if attempt + 1 >= options.attempts or _settled(outcomes, task, footing):
            break
    write_largest_first(best, task.output)
    shutil.rmtree(scratch, ignore_errors=True)
    if len(outcomes) < 2 or not best:
        return []
    shown = ", ".join(f"{images}/{observations}" for images, observations in outcomes)
    return [f"mapped from {len(outcomes)} starts (photographs/observations {shown}); kept start {chosen + 1}"]


def _footing(task: MappingTask, options: MapperOptions) -> Footing:
    """How surely a collection is mapped: strong by its matches; else fragile where it is small, so that the start
    decides much, or weak."""
    with pycolmap.Database.open(task.database) as database:
        inliers = sum(database.read_two_view_geometry_num_inliers()[1])
    if inliers >= _ENOUGH_INLIERS * task.num_images:
        return "strong"
    return "fragile" if task.num_images <= options.attempts_max_images else "weak"


def _settled(outcomes: list[tuple[int, int]], task: MappingTask, footing: Footing) -> bool:
    """Whether another start would hardly help: every photograph is registered, and in a fragile collection whose focal
    lengths are guesses two starts agree on the number of observations."""
    (images, observations), *others = sorted(outcomes, reverse=True)
    if footing != "fragile":
        return images == task.num_images or len(outcomes) > 1
    if images < task.num_images:
        return False
    return task.focals_known or any(i == images and o > 0.99 * observations for i, o in others)


def _starts(task: MappingTask, options: MapperOptions) -> Iterator[tuple[int, int] | None]:
    """COLMAP's own choice of the initial pair (with two seeds), then other verified pairs, those with the most inliers
    under the widest angle (what is wider than wide enough counts no more) first; each photograph at most twice, for
    another start should be another place."""
    yield from (None, None)
    with pycolmap.Database.open(task.database) as database:
        gains = {
            pair: count * min(_angle(database, *pair), options.init_min_tri_angle)
            for count, pair in zip(*_pairs_by_inliers(database), strict=True)
            if count >= options.init_min_num_inliers // 2
        }
    used: Counter[int] = Counter()
    for pair in sorted(gains, key=lambda pair: -gains[pair]):
        if gains[pair] and all(used[image] < 2 for image in pair):
            used.update(pair)
            yield pair


def _pairs_by_inliers(database: pycolmap.Database) -> tuple[list[int], list[tuple[int, int]]]:
    ids, counts = database.read_two_view_geometry_num_inliers()
    order = sorted(range(len(ids)), key=lambda k: (-counts[k], ids[k]))
    return [counts[k] for k in order], [pycolmap.pair_id_to_image_pair(ids[k]) for k in order]


def _angle(database: pycolmap.Database, a: int, b: int) -> float:
    """Median angle in degrees under which a pair's inliers are triangulated, with the cameras as they are now."""
    cameras = [database.read_camera(database.read_image(i).camera_id) for i in (a, b)]
    points = [np.ascontiguousarray(database.read_keypoints(i)[:, :2], np.float64) for i in (a, b)]
    geometry = database.read_two_view_geometry(a, b)
    found = pycolmap.estimate_two_view_geometry_pose(cameras[0], points[0], cameras[1], points[1], geometry)
    return float(np.rad2deg(geometry.tri_angle)) if found else 0.0


def _map_once(
    task: MappingTask,
    options: MapperOptions,
    scratch: Path,
    attempt: int,
    start: tuple[int, int] | None,
    footing: Footing,
    progress: Progress,
) -> list[pycolmap.Reconstruction]:
    """Models of one start, largest first."""
    settings = pycolmap.IncrementalPipelineOptions(
        random_seed=task.seed + attempt,
        num_threads=task.threads,
        min_model_size=options.min_model_size,
        ba_refine_principal_point=options.refine_principal_point,
        constant_cameras=set(task.fixed_cameras),
    )
    settings.mapper.init_min_tri_angle = options.init_min_tri_angle
    settings.mapper.init_min_num_inliers = options.init_min_num_inliers
    settings.mapper.abs_pose_min_num_inliers = options.abs_pose_min_num_inliers
    settings.mapper.filter_max_reproj_error = options.filter_max_reproj_error
    settings.triangulation.ignore_two_view_tracks = task.num_images > 2 and not options.two_view_points
    if footing != "fragile":
        settings.ba_global_frames_ratio = settings.ba_global_points_ratio = _SURE_GROWTH
        if options.robust_scale:
            settings.mergedict(_COARSE[footing])
    if footing == "strong" and options.robust_scale:
        # Tracks are completed up to the error at which points are dropped. With COLMAP's 4 pixels the observations
        # between come and go in every refinement; weak collections need them to hold together.
        settings.triangulation.complete_max_reproj_error = options.filter_max_reproj_error
        settings.triangulation.merge_max_reproj_error = options.filter_max_reproj_error
    if start:
        settings.init_image_id1, settings.init_image_id2 = start
        settings.init_num_trials = 2  # an unsuitable pair stays unsuitable
    folder = scratch / str(attempt)
    folder.mkdir(parents=True)
    registered = 0

    def count(by: int) -> None:
        nonlocal registered
        registered += by
        progress(min(registered, task.num_images))

    models = pycolmap.incremental_mapping(
        task.database,
        task.images,
        folder,
        settings,
        initial_image_pair_callback=lambda: count(2),
        next_image_callback=lambda: count(1),
    )
    return sorted(models.values(), key=score, reverse=True)
