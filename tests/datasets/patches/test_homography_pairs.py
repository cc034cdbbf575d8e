import cv2
import numpy as np
import pytest

from datasets.patches.homography_pairs import (
    HomographyOptions,
    carry_frames,
    change_light,
    homography_pairs,
    random_homography,
    warp,
    write_set,
)
from datasets.patches.patch_set import check_split
from desdis.errors import UserError
from desdis.patchsets import read_patch_set
from tests.datasets.patches.planes import texture

QUIET = HomographyOptions(
    gain=0, gamma=0, shade=0, blur=0, noise=0, frame_angle=0, frame_scale=0, frame_shift=0, rotation=30, zoom=0.2
)


def frames(n: int = 40, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    angle, sigma = generator.uniform(0, 2 * np.pi, n), generator.uniform(1.5, 3, n)
    c, s, xy = sigma * np.cos(angle), sigma * np.sin(angle), generator.uniform(60, 240, (n, 2))
    return np.stack([c, -s, xy[:, 0], s, c, xy[:, 1]], axis=1).reshape(-1, 2, 3).astype(np.float32)


def likeness(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (p.reshape(len(p), -1).astype(float) for p in (a, b))
    return np.array([np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)])


def test_pairs_correspond_and_repeat_with_the_seed():
    grey = texture()[:300, :300]
    first, second, rows = next(homography_pairs(grey, frames(), QUIET, seed=5))
    assert len(rows) > 15
    assert np.median(likeness(first, second)) > 0.75
    assert abs(np.median(likeness(first, np.roll(second, 1, axis=0)))) < 0.25
    again = next(homography_pairs(grey, frames(), QUIET, seed=5))
    assert all(np.array_equal(x, y) for x, y in zip((first, second, rows), again, strict=True))
    other = next(homography_pairs(grey, frames(), QUIET, seed=6))
    assert len(other[0]) != len(first) or not np.array_equal(other[1], second)


def test_rounds_differ():
    rounds = homography_pairs(texture()[:300, :300], frames(), HomographyOptions(), seed=0)
    (_, a, rows_a), (_, b, rows_b) = next(rounds), next(rounds)
    assert len(rows_a) != len(rows_b) or not np.array_equal(a, b)


def test_frames_are_carried_exactly():
    turn = np.array([[0, -2.0, 300], [2, 0, 10], [0, 0, 1]])  # a quarter turn clockwise, twice as large
    moved = carry_frames(np.array([[[3, 0, 20], [0, 3, 40]]], np.float32), turn)
    assert np.allclose(moved, [[[0, -6, 220], [6, 0, 50]]], atol=1e-4)


def test_warp_follows_the_convention():
    grey = np.zeros((100, 120), np.uint8)
    cv2.circle(grey, (60, 50), 3, 255, -1)  # centre (60.5, 50.5) in COLMAP's convention
    H = np.array([[0, -1.0, 110], [1, 0, -10], [0, 0, 1]])
    out = warp(grey, H).astype(float)
    y, x = np.mgrid[:100, :120] + 0.5
    at = H @ [60.5, 50.5, 1]
    assert (x * out).sum() / out.sum() == pytest.approx(at[0], abs=0.02)
    assert (y * out).sum() / out.sum() == pytest.approx(at[1], abs=0.02)


def test_light_changes_within_bounds():
    grey = texture()[:200, :200]
    generator = np.random.default_rng(0)
    assert np.array_equal(change_light(grey, QUIET, generator), grey)
    changed = change_light(grey, HomographyOptions(), generator)
    assert changed.dtype == np.uint8
    assert changed.shape == grey.shape
    assert np.abs(changed.astype(int) - grey).mean() > 1


def test_homographies_keep_the_photograph_right_side_up():
    generator = np.random.default_rng(0)
    for _ in range(50):
        H = random_homography(640, 480, HomographyOptions(), generator)
        assert np.linalg.det(H) > 0
        centre = H @ [320, 240, 1]
        assert np.hypot(*(centre[:2] / centre[2] - [320, 240])) < 200


def test_a_set_of_pairs_is_read_by_training(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), texture()[:300, :300])
    write_set(tmp_path / "set", {"a": tmp_path / "a.png"}, {"a": frames()}, QUIET, rounds=2)
    data = read_patch_set(tmp_path / "set")
    assert data.margin == 1.25
    assert np.diff(data.starts).max() == 3  # the original, and a patch of each round
    with pytest.raises(UserError, match="looks like|is a.png of"):  # the photograph is known again
        check_split(tmp_path / "set", tmp_path / "set")
    with pytest.raises(UserError, match="no point with two patches"):
        write_set(tmp_path / "x", {"a": tmp_path / "a.png"}, {"a": frames()[:0]}, QUIET)


def test_other_options_make_another_source(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), texture()[:300, :300])
    sources = set()
    for number, options in enumerate((QUIET, QUIET, QUIET.model_copy(update={"noise": 9.0}))):
        write_set(tmp_path / str(number), {"a": tmp_path / "a.png"}, {"a": frames()}, options)
        sources.add(read_patch_set(tmp_path / str(number)).manifest["source_sha256"])
    assert len(sources) == 2
