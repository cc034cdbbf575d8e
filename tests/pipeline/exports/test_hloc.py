"""Export to hloc, read back by its own rules."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from desdis.errors import UserError
from pipeline.export import export
from tests.pipeline.synthetic_run import HEIGHT, NESTED, WIDTH, verified, write_run


def hloc_names(path: Path) -> set[str]:
    """Every parent of a dataset is an image."""
    found = set()
    with h5py.File(path, "r", libver="latest") as file:
        file.visititems(
            lambda _, item: found.add(item.parent.name.strip("/")) if isinstance(item, h5py.Dataset) else None
        )
    return found


def hloc_matches(path: Path, a: str, b: str) -> tuple[np.ndarray, np.ndarray]:
    """New key, then reversed; -1 is no match; columns turn round for a reversed key."""
    with h5py.File(path, "r", libver="latest") as file:
        keys = ["/".join((x.replace("/", "-"), y.replace("/", "-"))) for x, y in ((a, b), (b, a))]
        reverse = keys[0] not in file
        group = file[keys[1] if reverse else keys[0]]
        assert group["matches0"].dtype == np.int16 and group["matching_scores0"].dtype == np.float16
        matches, scores = np.asarray(group["matches0"]), np.asarray(group["matching_scores0"])
    rows = np.where(matches != -1)[0]
    pairs = np.stack([rows, matches[rows]], -1)
    return (np.flip(pairs, -1) if reverse else pairs), scores[rows]


def test_hloc(run, matches, keypoints, tmp_path):
    told = export(run.work.output, "hloc", tmp_path / "hloc")
    assert "5 images" in told
    assert hloc_names(tmp_path / "hloc/features.h5") == set(NESTED)
    with h5py.File(tmp_path / "hloc/features.h5", "r", libver="latest") as file:
        for name in NESTED:
            group = file[name]
            stored = np.asarray(group["keypoints"])
            assert stored.dtype == np.float32
            np.testing.assert_allclose(stored + 0.5, keypoints[name], atol=1e-4)  # hloc's importer adds 0.5
            assert group["descriptors"].shape == (64, len(stored)) and group["scores"].shape == (len(stored),)
            assert group["image_size"][()].tolist() == [WIDTH, HEIGHT] and group["image_size"].dtype == np.int64
    pairs = [line.split() for line in (tmp_path / "hloc/pairs.txt").read_text().split("\n")]
    assert sorted(map(tuple, pairs)) == sorted(run.pairs)
    for a, b in run.pairs:
        for x, y in ((a, b), (b, a)):
            found, scores = hloc_matches(tmp_path / "hloc/matches.h5", x, y)
            expected = matches[a, b].indices if x == a else matches[a, b].indices[:, ::-1]
            assert {tuple(r) for r in found.tolist()} == {tuple(r) for r in expected.tolist()}
            assert len(scores) == len(found)


def test_the_runs_own_files_are_hlocs_too(run):
    assert hloc_names(run.work.features) == set(NESTED)


def test_hloc_refuses_what_int16_cannot_hold(tmp_path):
    run = verified(write_run(tmp_path, ("a.png", "b.png"), points=40))
    from pipeline.files import features as files
    from pipeline.types import Features

    many = 32768
    lafs = np.zeros((many, 2, 3), np.float32)
    lafs[:, 0, 0] = lafs[:, 1, 1] = 1
    with files.appending(run.work.features, {}) as file:
        big = Features(lafs, np.zeros(many, np.float32), {"oriented": np.zeros((many, 4), np.float32)}, (WIDTH, HEIGHT))
        files.write(file, "b.png", big)
    with pytest.raises(UserError, match=r"b\.png: 32768 keypoints.*wrap.*32767"):
        export(run.work.output, "hloc", tmp_path / "hloc")
    assert not (tmp_path / "hloc").exists() and not (tmp_path / "hloc.tmp").exists()
