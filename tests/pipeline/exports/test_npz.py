"""Export to npz, read back by its own rules."""

import numpy as np

from pipeline.export import export
from tests.pipeline.synthetic_run import FOCAL, HEIGHT, NESTED, WIDTH, verified, write_run


def test_npz(run, matches, keypoints, tmp_path):
    export(run.work.output, "npz", tmp_path / "npz")
    for name in NESTED:
        stored = np.load(tmp_path / f"npz/features/{name}.npz")
        np.testing.assert_array_equal(stored["keypoints"], keypoints[name])
        assert stored["descriptors_oriented"].shape == (len(keypoints[name]), 64)
    stored = np.load(tmp_path / "npz/matches.npz")
    for row, (a, b) in enumerate(stored["names"]):
        part = slice(stored["offsets"][row], stored["offsets"][row + 1])
        np.testing.assert_array_equal(stored["indices"][part], matches[str(a), str(b)].indices)
    poses = np.load(tmp_path / "npz/poses.npz")
    assert poses["names"].tolist() == sorted(NESTED) and poses["cam_from_world"].shape == (5, 3, 4)
    assert poses["K"][0, 0, 0] == FOCAL


def test_npz_leaves_the_probe_out(tmp_path):
    """A run that chose upright frames holds oriented descriptors of some keypoints only: nothing for others."""
    from pipeline.files import features as files
    from pipeline.types import Features

    run = verified(write_run(tmp_path, ("a.png", "b.png"), points=40))
    lafs = np.tile(np.array([[1, 0, 50], [0, 1, 50]], np.float32), (6, 1, 1))
    upright = np.ones((6, 64), np.float32)
    probe = np.concatenate([upright[:4], np.zeros((2, 64), np.float32)])
    both = Features(lafs, np.zeros(6, np.float32), {"upright": upright, "oriented": probe}, (WIDTH, HEIGHT))
    with files.appending(run.work.features, {}) as file:
        files.write(file, "b.png", both)
    export(run.work.output, "npz", tmp_path / "npz")
    assert set(np.load(tmp_path / "npz/features/b.png.npz")) == {
        "keypoints", "lafs", "scores", "image_size", "descriptors_upright"
    }  # fmt: skip
