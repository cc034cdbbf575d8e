"""Export to IMC, read back by its own rules."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from desdis.errors import UserError
from pipeline.export import export
from tests.pipeline.synthetic_run import HEIGHT, NESTED, WIDTH, verified, write_run


def test_imc(run, matches, keypoints, tmp_path):
    export(run.work.output, "imc", tmp_path / "imc", scene="phototourism/wall")
    scene = tmp_path / "imc/phototourism/wall"
    stems = {Path(name).stem: name for name in NESTED}
    with h5py.File(scene / "keypoints.h5") as file:
        assert set(file.keys()) == set(stems)
        for stem, name in stems.items():
            np.testing.assert_array_equal(file[stem][()], keypoints[name])
            assert file[stem].shape[1] == 2 and len(file[stem]) <= 2048
    with h5py.File(scene / "descriptors.h5") as file:
        assert set(file.keys()) == set(stems)
        for stem in stems:
            row = file[stem][()][0]
            assert 64 <= len(row) <= 2048 and row.dtype == np.float32 and row.nbytes <= 512
    for one_dimensional in ("scores", "scales", "angles", "orientations"):
        with h5py.File(scene / f"{one_dimensional}.h5") as file:
            assert {stem: file[stem].shape for stem in file} == {s: (len(keypoints[n]),) for s, n in stems.items()}
    with h5py.File(scene / "affine.h5") as file:
        assert all(file[stem].shape == (len(keypoints[name]), 2, 2) for stem, name in stems.items())
    with h5py.File(scene / "matches.h5") as file:
        keys = {f"{max(x, y)}-{min(x, y)}" for x in stems for y in stems if x != y}
        assert set(file.keys()) == keys
        for a, b in run.pairs:
            x, y = Path(a).stem, Path(b).stem
            stored = file[f"{max(x, y)}-{min(x, y)}"][()]
            assert stored.shape[0] == 2 and np.issubdtype(stored.dtype, np.integer)
            expected = matches[a, b].indices.T if x > y else matches[a, b].indices.T[::-1]
            np.testing.assert_array_equal(stored, expected)


def test_imc_configuration(run, tmp_path):
    import re

    run.work.recipe.write_text("detector: {name: dog}\ndescriptor: {name: desdis, weights: official/DesDis-32.pth}\n")
    export(run.work.output, "imc", tmp_path / "imc", scene="phototourism/wall")
    methods = json.loads((tmp_path / "imc/config.json").read_text())
    assert isinstance(methods, list) and len(methods) == 1
    common = methods[0]["config_common"]
    assert re.fullmatch(r"[a-z0-9._-]+", common["json_label"])
    assert re.fullmatch(r"[a-z0-9.-]+", common["keypoint"]) and re.fullmatch(r"[a-z0-9.-]+", common["descriptor"])
    assert common["num_keypoints"] == 2048 and common["descriptor"] == "desdis-32"
    for track in ("stereo", "multiview"):
        config = methods[0][f"config_phototourism_{track}"]
        assert config["use_custom_matches"] is True and config["custom_matches_name"]
        assert "matcher" not in config and "outlier_filter" not in config  # forbidden with own matches
    assert methods[0]["config_phototourism_stereo"]["geom"] == {"method": "cv2-8pt"}
    assert methods[0]["config_phototourism_multiview"]["colmap"] == {}


def test_imc_has_every_pair_also_those_not_matched(tmp_path):
    run = verified(write_run(tmp_path, ("a.png", "b.png", "c.png"), points=60))
    with h5py.File(run.work.matches, "a") as file:
        del file["a.png/c.png"]
    export(run.work.output, "imc", tmp_path / "imc", scene="d/s")
    with h5py.File(tmp_path / "imc/d/s/matches.h5") as file:
        assert set(file.keys()) == {"b-a", "c-a", "c-b"} and file["c-a"].shape == (2, 0)


@pytest.mark.parametrize(
    ("count", "size", "words"),
    [
        (40, 32, r"descriptors of 32 numbers; IMC takes 64 to 2048"),
        (40, 4096, r"descriptors of 4096 numbers"),
        (8001, 64, r"8001 keypoints in an image; IMC allows 8000"),
        (2049, 64, None),
    ],
)
def test_imc_limits(tmp_path, count, size, words):
    from pipeline.files import features as files
    from pipeline.types import Features

    run = verified(write_run(tmp_path, ("a.png", "b.png"), points=40))
    lafs = np.tile(np.array([[1, 0, 50], [0, 1, 50]], np.float32), (count, 1, 1))
    described = {"oriented": np.zeros((count, size), np.float32)}
    with files.appending(run.work.features, {}) as file:
        files.write(file, "b.png", Features(lafs, np.zeros(count, np.float32), described, (WIDTH, HEIGHT)))
    if words:
        with pytest.raises(UserError, match=words):
            export(run.work.output, "imc", tmp_path / "imc", scene="d/s")
        assert not (tmp_path / "imc").exists()
    else:
        export(run.work.output, "imc", tmp_path / "imc", scene="d/s")
        assert json.loads((tmp_path / "imc/config.json").read_text())[0]["config_common"]["num_keypoints"] == 8000
