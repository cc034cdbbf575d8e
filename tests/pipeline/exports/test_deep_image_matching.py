"""Export to deep-image-matching, read back by its own rules."""

from pathlib import Path

import h5py
import numpy as np

from pipeline.export import export
from tests.pipeline.synthetic_run import HEIGHT, NESTED, WIDTH


def test_deep_image_matching(run, finished, matches, keypoints, tmp_path):
    export(run.work.output, "deep-image-matching", tmp_path / "dim")
    with h5py.File(tmp_path / "dim/features.h5", "r") as file:
        assert set(file.keys()) == {Path(name).name for name in NESTED}
        for name in NESTED:
            group = file[Path(name).name]
            assert group["image_size"][()].tolist() == [HEIGHT, WIDTH]
            np.testing.assert_array_equal(group["keypoints"][()], keypoints[name])
            assert group["descriptors"].shape == (64, len(keypoints[name]))
            assert group["tile_idx"].shape == group["scores"].shape == (len(keypoints[name]),)
    for file_name, expected in (
        ("raw_matches.h5", {pair: m.indices for pair, m in matches.items()}),
        ("matches.h5", dict(finished.inliers())),
    ):
        with h5py.File(tmp_path / "dim" / file_name, "r") as file:
            stored = {(a, b): file[a][b][()] for a in file for b in file[a]}
        assert len(stored) == len(expected)
        for (a, b), indices in expected.items():
            np.testing.assert_array_equal(stored[Path(a).name, Path(b).name], indices)
