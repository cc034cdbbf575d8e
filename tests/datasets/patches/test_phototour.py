from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.patches.phototour import (
    export_set,
    import_set,
    main,
    read_pairs,
    read_patches,
    read_points,
    write_phototour,
)
from datasets.patches.plain_set import PlainScene, write_plain_set
from desdis.errors import UserError
from desdis.patchsets import read_patch_set


@pytest.fixture
def brown(tmp_path) -> tuple[Path, np.ndarray, np.ndarray, np.ndarray]:
    """300 patches (more than a page): point 0 once, all others twice."""
    generator = np.random.default_rng(0)
    patches = generator.integers(0, 256, (299, 64, 64), np.uint8)
    points = np.concatenate([[0], np.repeat(np.arange(1, 150), 2)])
    pairs = np.array([[1, 2, 1], [3, 4, 1], [0, 5, 0], [1, 4, 0]])
    write_phototour(tmp_path / "brown", patches, points, pairs)
    return tmp_path / "brown", patches, points, pairs


def test_what_is_written_is_read(brown):
    folder, patches, points, pairs = brown
    assert sorted(p.name for p in folder.iterdir()) == [
        "info.txt",
        "m50_4_4_0.txt",
        "patches0000.bmp",
        "patches0001.bmp",
    ]
    assert np.array_equal(read_patches(folder), patches)
    assert np.array_equal(read_points(folder), points)
    assert np.array_equal(read_pairs(folder / "m50_4_4_0.txt"), pairs)


def test_layout_is_browns(brown):
    folder, patches, _, _ = brown
    page = cv2.imread(str(folder / "patches0001.bmp"), cv2.IMREAD_GRAYSCALE)
    assert page.shape == (1024, 1024)
    assert np.array_equal(page[64:128, 128:192], patches[256 + 18])  # patch 18 of a page: row 1, column 2
    assert page[192:].max() == 0
    assert (folder / "m50_4_4_0.txt").read_text().split("\n")[0] == "1 1 0 2 1 0 0"
    assert (folder / "info.txt").read_text().split("\n")[1] == "1 0"


def test_becomes_a_patch_set(brown, tmp_path):
    folder, patches, _, _ = brown
    import_set(folder, tmp_path / "set")
    data = read_patch_set(tmp_path / "set")
    assert np.array_equal(data.patches["oriented"], patches[1:])  # the point seen once is gone
    assert data.margin == 1.0
    assert data.pairs.tolist() == [[0, 1, 1], [2, 3, 1], [0, 3, 0]]  # and the pair that named it
    assert len(data.points) == 149


def test_a_patch_set_becomes_phototour(tmp_path):
    generator = np.random.default_rng(1)
    noise = generator.standard_normal((40, 64, 64)).astype(np.float32)
    patches = np.array([np.clip(128 + 300 * cv2.GaussianBlur(n, (0, 0), 4), 0, 255) for n in noise]).astype(np.uint8)
    scene = PlainScene("s", patches, np.repeat(np.arange(20), 2), np.eye(20, 3) * 9, np.ones(20))
    write_plain_set(tmp_path / "set", [scene], margin=2.0, magnification=9.0, options={})
    export_set(tmp_path / "set", tmp_path / "brown")
    middle = read_patches(tmp_path / "brown")
    want = cv2.resize(patches[7][16:48, 16:48], (64, 64), interpolation=cv2.INTER_LINEAR)
    assert np.abs(middle[7][4:-4, 4:-4].astype(int) - want[4:-4, 4:-4]).max() <= 2
    lists = list((tmp_path / "brown").glob("m50_*.txt"))
    assert np.array_equal(read_pairs(lists[0]), np.load(tmp_path / "set" / "pairs.npy"))


def test_the_command_goes_both_ways(brown, tmp_path, capsys):
    folder = brown[0]
    assert main(["import", str(folder), str(tmp_path / "set")]) == 0
    assert main(["export", str(tmp_path / "set"), str(tmp_path / "again")]) == 0
    assert len(read_points(tmp_path / "again")) == len(read_patch_set(tmp_path / "set").point_ids)
    assert main(["import", str(folder), str(tmp_path / "set")]) == 2
    assert main(["export", str(tmp_path / "set"), str(folder / "info.txt")]) == 2
    assert capsys.readouterr().err.count("is there and no empty folder") == 2


def test_errors(brown, tmp_path):
    folder, patches, points, _pairs = brown
    (folder / "m50_9999_9999_0.txt").write_text("99999 1 0 2 1 0 0\n" * 200)
    with pytest.raises(UserError, match=r"names a patch beyond the \d+ of info\.txt"):
        import_set(folder, tmp_path / "set")
    (folder / "patches0001.bmp").unlink()
    with pytest.raises(UserError, match=r"patches0001\.bmp is absent"):
        read_patches(folder)
    with pytest.raises(UserError, match=r"info\.txt cannot be read"):
        read_points(tmp_path)
    with pytest.raises(UserError, match="64x64"):
        write_phototour(tmp_path / "x", patches[:, :32], points, np.zeros((0, 3), int))
    with pytest.raises(UserError, match="contradicts"):
        write_phototour(tmp_path / "x", patches, points, np.array([[1, 2, 0]]))
    (tmp_path / "m50_1_1_0.txt").write_text("1 2 3\n")
    with pytest.raises(UserError, match="3 numbers a line"):
        read_pairs(tmp_path / "m50_1_1_0.txt")
