"""Lists of pairs with truth, from folders as they are published."""

import cv2
import numpy as np
import pytest

from desdis.errors import UserError
from pipeline.protocols.planes import PlanePair
from pipeline.protocols.scenes import plane_pairs, pose_pairs, under_kept_names


def test_pairs_with_poses(tmp_path):
    K = "500 0 319.5 0 500 239.5 0 0 1"
    T = "0 -1 0 1 1 0 0 2 0 0 1 3 0 0 0 1"
    path = tmp_path / "pairs.txt"
    path.write_text(f"a.jpg b.jpg 0 1 {K} {K} {T}\n")
    (pair,) = pose_pairs(path)
    assert pair.names == ("a.jpg", "b.jpg")
    assert pair.K[0][0, 2] == 320  # counted from the corner here, from the first pixel's centre in the file
    np.testing.assert_allclose(pair.pose.t, (1, 2, 3))
    path.write_text("a.jpg b.jpg 0 0\n")
    with pytest.raises(UserError, match="no pose"):
        pose_pairs(path)
    path.write_text("")
    with pytest.raises(UserError, match="no pair"):
        pose_pairs(path)


def test_sequences_and_hand_made_pairs(tmp_path):
    for name in ("v_a", "v_b"):
        folder = tmp_path / "sequences" / name
        folder.mkdir(parents=True)
        for k in (1, 2, 3):
            (folder / f"{k}.jpg").touch()
        for k in (2, 3):
            (folder / f"H_1_{k}").write_text(f"1 0 {k}\n0 1 0\n0 0 1\n")
    pairs = plane_pairs(tmp_path / "sequences", "homographies")
    assert [pair.names for pair in pairs] == [(f"v_{s}/1.jpg", f"v_{s}/{k}.jpg") for s in "ab" for k in (2, 3)]
    np.testing.assert_allclose(pairs[0].H, [[1, 0, 2], [0, 1, 0], [0, 0, 1]])

    folder = tmp_path / "points" / "door"
    folder.mkdir(parents=True)
    for name in ("A.jpg", "B.jpg", "points.txt"):
        (folder / name).touch()
    square = [(0, 0), (100, 0), (0, 80), (90, 70), (30, 40)]
    (folder / "points.txt").write_text("".join(f"{x} {y} {x + 5} {y - 3}\n" for x, y in square))
    (pair,) = plane_pairs(tmp_path / "points", "homogr_pairs")
    assert pair.names == ("door/A.jpg", "door/B.jpg")
    np.testing.assert_allclose(pair.H / pair.H[2, 2], [[1, 0, 5], [0, 1, -3], [0, 0, 1]], atol=1e-9)
    with pytest.raises(UserError, match=r"points\.txt"):
        plane_pairs(tmp_path, "homogr_pairs")


def test_one_picture_under_two_names_is_known_by_the_first(tmp_path):
    rng = np.random.default_rng(0)
    shared, other = (rng.integers(0, 255, (40, 50, 3)).astype(np.uint8) for _ in range(2))
    for name, pixels in (("a.png", other), ("b.png", shared), ("c.png", shared)):
        cv2.imwrite(str(tmp_path / name), pixels)
    pairs = [PlanePair(("b.png", "a.png"), np.eye(3)), PlanePair(("c.png", "a.png"), 2 * np.eye(3))]
    one, two = under_kept_names(pairs, tmp_path)
    assert one.names == two.names == ("b.png", "a.png") and two.H[0, 0] == 2
