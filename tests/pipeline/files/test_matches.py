"""matches.h5 as hloc reads it (worked examples T1.1 and T1.2 of the format's description)."""

import h5py
import numpy as np

from pipeline.files import matches as files
from pipeline.types import Matches

EXAMPLE = Matches(np.array([[0, 2], [2, 0]], np.int32), np.array([0.9, 0.5], np.float32), "upright")


def test_key():
    assert files.key("a/b/c.jpg", "d.png") == "a-b-c.jpg/d.png"


def test_read_in_both_directions(tmp_path):
    with files.appending(tmp_path / "m.h5", {}) as file:
        files.write(file, "a", "b", EXAMPLE, 3)
        forward, backward = files.read(file, "a", "b"), files.read(file, "b", "a")
    np.testing.assert_array_equal(forward.indices, [[0, 2], [2, 0]])
    np.testing.assert_array_equal(backward.indices, [[2, 0], [0, 2]])
    np.testing.assert_allclose(forward.scores, [0.9, 0.5], atol=1e-3)
    assert forward.orientation == "upright"
    assert files.pairs(tmp_path / "m.h5") == [("a", "b")]


def test_hloc_reads_it(tmp_path):
    with files.appending(tmp_path / "m.h5", {}) as file:
        files.write(file, "db/1.jpg", "q/2.jpg", EXAMPLE, 3)
    with h5py.File(tmp_path / "m.h5", "r") as hfile:
        group = hfile["db-1.jpg/q-2.jpg"]
        matches = group["matches0"][()]
        idx = np.where(matches != -1)[0]
        np.testing.assert_array_equal(np.stack([idx, matches[idx]], -1), EXAMPLE.indices)
        assert group["matching_scores0"].shape == (3,)


def test_indices_beyond_int16_survive(tmp_path):
    far = Matches(np.array([[40000, 65535]], np.int32), np.ones(1, np.float32))
    with files.appending(tmp_path / "m.h5", {}) as file:
        files.write(file, "a", "b", far, 50000)
        np.testing.assert_array_equal(files.read(file, "a", "b").indices, far.indices)
