"""Export to COLMAP, read back by its own rules."""

from pathlib import Path

import numpy as np

from pipeline.export import export
from tests.pipeline.synthetic_run import NESTED


def colmap_blocks(path: Path) -> dict[tuple[str, str], list[list[int]]]:
    """Two names, rows, an empty line."""
    blocks, pair = {}, None
    for line in path.read_text().split("\n"):
        words = line.split()
        if not words:
            pair = None
        elif pair is None:
            pair = (words[0], words[1])
            blocks[pair] = []
        else:
            blocks[pair].append([int(word) for word in words])
    return blocks


def test_colmap(run, finished, matches, keypoints, tmp_path):
    import pycolmap

    export(run.work.output, "colmap", tmp_path / "colmap")
    with pycolmap.Database.open(tmp_path / "colmap/database.db") as database:
        ids = {image.name: image.image_id for image in database.read_all_images()}
        assert set(ids) == set(NESTED)
        np.testing.assert_array_equal(database.read_keypoints(ids["z.png"])[:, :2], keypoints["z.png"])
    assert pycolmap.Reconstruction(tmp_path / "colmap/sparse/0").num_reg_images() == len(NESTED)
    for name in NESTED:
        header, *rows = (tmp_path / f"colmap/features/{name}.txt").read_text().splitlines()
        assert header == f"{len(keypoints[name])} 128" and len(rows) == len(keypoints[name])
        table = np.array([[float(word) for word in row.split()] for row in rows])
        assert table.shape[1] == 4 + 128 and (table[:, 2] > 0).all()
        np.testing.assert_allclose(table[:, :2], keypoints[name], atol=1e-5)
    raw = colmap_blocks(tmp_path / "colmap/matches.txt")
    assert {pair: len(rows) for pair, rows in raw.items()} == {pair: len(m.indices) for pair, m in matches.items()}
    inliers = colmap_blocks(tmp_path / "colmap/inliers.txt")
    expected = dict(finished.inliers())
    assert set(inliers) == set(expected) and len(inliers) > 5
    for pair, rows in inliers.items():
        assert {tuple(row) for row in rows} == {tuple(row) for row in expected[pair].tolist()}
        assert {tuple(row) for row in rows} <= {tuple(row) for row in matches[pair].indices.tolist()}
