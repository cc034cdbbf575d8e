"""features.h5 as hloc reads it, and as a kill leaves it."""

import subprocess
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest

from pipeline.files import features as files
from pipeline.types import Features


def some_features(n: int = 5, both: bool = True) -> Features:
    rng = np.random.default_rng(n)
    sets = {"oriented": rng.random((n, 8), np.float32)}
    if both:
        sets["upright"] = rng.random((n, 8), np.float32)
    return Features((rng.random((n, 2, 3)) * 100).astype(np.float32), rng.random(n, np.float32), sets, (640, 480))


def test_what_was_written_is_read_back(tmp_path):
    wrote = some_features()
    with files.appending(tmp_path / "f.h5", {"a": 1}) as file:
        files.write(file, "sub dir/ä.jpg", wrote)
        read = files.read(file, "sub dir/ä.jpg")
    np.testing.assert_allclose(read.lafs, wrote.lafs, atol=2e-5)
    assert read.image_size == (640, 480)
    for orientation, descriptors in wrote.descriptors.items():
        np.testing.assert_array_equal(read.descriptors[orientation], descriptors)


def test_hloc_reads_it(tmp_path):
    """hloc: group by image name, `descriptors` (D, N), keypoints with pixel centres at integers."""
    wrote = some_features()
    with files.appending(tmp_path / "f.h5", {}) as file:
        files.write(file, "db/1.jpg", wrote)
    with h5py.File(tmp_path / "f.h5", "r", libver="latest") as hfile:
        names = set()
        hfile.visititems(lambda _, o: names.add(o.parent.name.strip("/")) if isinstance(o, h5py.Dataset) else None)
        assert names == {"db/1.jpg"}
        group = hfile["db/1.jpg"]
        np.testing.assert_allclose(group["keypoints"][()] + 0.5, wrote.keypoints, atol=2e-5)
        assert group["keypoints"].dtype == np.float32
        assert group["descriptors"].shape == (8, 5)
        assert tuple(group["image_size"][()]) == (640, 480)


def test_an_item_without_its_mark_is_not_there(tmp_path):
    with files.appending(tmp_path / "f.h5", {}) as file:
        files.write(file, "a", some_features())
        files.write(file, "b", some_features())
        del file["b"].attrs["complete"]
        assert files.has(file, "a") and not files.has(file, "b")
        files.write(file, "b", some_features(3))
        assert len(files.read(file, "b").lafs) == 3
    assert files.names(tmp_path / "f.h5") == ["a", "b"]


def test_features_of_hloc_without_frames_are_read(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        group = file.create_group("x.jpg")
        group["keypoints"] = np.array([[1.0, 2.0]], np.float16)
        group["descriptors"] = np.ones((4, 1), np.float16)
        group["image_size"] = np.array([10, 20])
        features = files.read(file, "x.jpg")
    np.testing.assert_array_equal(features.keypoints, [[1.5, 2.5]])
    assert features.descriptors["oriented"].shape == (1, 4)


@pytest.mark.parametrize("torn", [b"", b"\x89HDF\r\n\x1a\n" + b"\0" * 200])
def test_a_torn_file_is_begun_anew(tmp_path, torn):
    path = tmp_path / "f.h5"
    path.write_bytes(torn)
    with files.appending(path, {}) as file:
        files.write(file, "a", some_features())
    assert files.names(path) == ["a"]


def test_a_killed_writer_leaves_what_was_complete(tmp_path):
    path = tmp_path / "f.h5"
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(files.__file__).rsplit("/pipeline/", 1)[0]!r})
import pathlib, numpy as np
from pipeline.files import features as files
from pipeline.types import Features
described = {{"oriented": np.ones((2000, 128), np.float32)}}
f = Features(np.ones((2000, 2, 3), np.float32), np.ones(2000, np.float32), described, (9, 9))
with files.appending(pathlib.Path({str(path)!r}), {{}}) as file:
    for i in range(5):
        files.write(file, f"{{i}}.jpg", f)
    file.create_group("5.jpg")["keypoints"] = np.ones((2000, 2), np.float32)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == -9
    assert files.names(path) == [f"{i}.jpg" for i in range(5)]


def test_a_probe_of_oriented_descriptors_is_kept_short_and_read_as_zero_rows(tmp_path, monkeypatch):
    full = some_features(6)
    oriented = full.descriptors["oriented"].copy()
    oriented[4:] = 0
    level = replace(full, descriptors={"upright": full.descriptors["upright"], "oriented": oriented})
    none = replace(level, descriptors={"upright": level.descriptors["upright"], "oriented": 0 * oriented})
    with files.appending(tmp_path / "f.h5", {}) as file:
        files.write(file, "level", level)
        files.write(file, "none", none)
        files.write(file, "both", full)
        assert file["level/descriptors_oriented"].shape == (8, 4)
        for name, wrote in (("level", level), ("none", none)):
            read = files.read(file, name)
            for way in ("upright", "oriented"):
                np.testing.assert_array_equal(read.descriptors[way], wrote.descriptors[way])
        assert set(files.read(file, "level", only=("upright",)).descriptors) == {"upright"}
        probe = files.read_probe(file, "level")
        np.testing.assert_array_equal(probe["oriented"], oriented[:4])
        np.testing.assert_array_equal(probe["upright"], level.descriptors["upright"][:4])
        monkeypatch.setattr(files, "PROBE", 3)
        np.testing.assert_array_equal(files.read_probe(file, "both")["upright"], full.descriptors["upright"][:3])
        wanted = [("upright",), ("upright", "probe"), ("oriented",), ("oriented", "upright")]
        assert [files.has(file, "level", ways) for ways in wanted] == [True, True, False, False]
        assert all(files.has(file, "both", ways) for ways in wanted)
        assert not files.has(file, "missing", ())
