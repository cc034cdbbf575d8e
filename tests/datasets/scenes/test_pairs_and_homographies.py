"""Image pairs with poses, and planes with homographies."""

import numpy as np
import pytest

from datasets.cameras import Pose
from datasets.scenes.homographies import (
    fit_homography,
    project,
    read_homography,
    read_point_pair,
    read_sequence,
    read_sequences,
)
from datasets.scenes.pairs_with_poses import read_pairs_with_poses, turned_K, turned_pose
from desdis.errors import UserError

K = "500 0 300 0 600 200 0 0 1"
T = "0 -1 0 1 1 0 0 2 0 0 1 3 0 0 0 1"


def test_lines_of_2_4_and_38_fields(tmp_path):
    path = tmp_path / "pairs.txt"
    path.write_text(f"a.jpg b.jpg\n\na.jpg c.jpg 1 3\na.jpg d.jpg 0 2 {K} {K} {T}\n")
    plain, flags, posed = read_pairs_with_poses(path)
    assert plain.names == ("a.jpg", "b.jpg") and plain.pose is None
    assert flags.turns == (1, 3) and flags.K0 is None
    assert posed.turns == (0, 2)
    assert posed.K0 is not None and posed.pose is not None
    np.testing.assert_allclose(posed.K0, [[500, 0, 300.5], [0, 600, 200.5], [0, 0, 1]])
    np.testing.assert_allclose(posed.pose.t, [1, 2, 3])
    np.testing.assert_allclose(posed.pose.R @ [1, 0, 0], [0, 1, 0])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a b c", "line 1: 3 fields"),
        ("a b 0 4", "quarter turns"),
        (f"a b 0 0 {K} {K} {T[:-1]}2", "last row must be 0 0 0 1"),
        (f"a b 0 0 {K} {K} {T.replace('-1', '-2')}", "not orthonormal"),
        (f"a b 0 0 {K} {K} {T.replace('3', 'nan')}", "NaN"),
        (f"a b 0 0 {K} {K.replace('600', '0')} {T}", "line 1, K1: not a calibration"),
    ],
)
def test_lines_that_are_refused(tmp_path, line, message):
    (tmp_path / "pairs.txt").write_text(line)
    with pytest.raises(UserError, match=message):
        read_pairs_with_poses(tmp_path / "pairs.txt")


def test_turned_intrinsics_worked_example():
    """T6.4, half a pixel further."""
    stored = np.array([[500, 0, 300.5], [0, 600, 200.5], [0, 0, 1]])
    np.testing.assert_allclose(turned_K(stored, 1, 640, 480), [[600, 0, 200.5], [0, 500, 339.5], [0, 0, 1]])
    np.testing.assert_allclose(turned_K(stored, 2, 640, 480), [[500, 0, 339.5], [0, 600, 279.5], [0, 0, 1]])
    np.testing.assert_allclose(turned_K(stored, 4, 640, 480), stored)


@pytest.mark.parametrize("turns", [(1, 0), (0, 3), (2, 1)])
def test_turning_keeps_pixels_and_poses_together(turns):
    """A point seen in both images: turning them moves its pixels, and turned K and pose follow."""
    stored = np.array([[500, 0, 300.5], [0, 600, 200.5], [0, 0, 1]])
    pose = Pose(np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]), np.array([0.3, 0.2, 0.1]))
    X = np.array([0.4, -0.3, 5.0])
    turned = turned_pose(pose, *turns)
    depth_point = {}
    for image, Y, count in ((0, X, turns[0]), (1, pose.R @ X + pose.t, turns[1])):
        pixel = (stored @ Y)[:2] / Y[2]
        width, height = 640, 480
        for _ in range(count):
            pixel, width, height = np.array([pixel[1], width - pixel[0]]), height, width
        ray = np.linalg.solve(turned_K(stored, count, 640, 480), [*pixel, 1])
        depth_point[image] = ray * Y[2]
    np.testing.assert_allclose(turned.R @ depth_point[0] + turned.t, depth_point[1], atol=1e-9)


H = np.array([[1.1, 0.1, 5.0], [-0.05, 0.9, 3.0], [1e-4, 2e-4, 1.0]])


def write_sequence(folder, image: str, matrix: str, numbers) -> None:
    folder.mkdir()
    for k in (1, *numbers):
        (folder / image.format(k)).touch()
    for k in numbers:
        rows = "\n".join(" ".join(map(str, row)) for row in (np.eye(3) if k == 2 else H))
        (folder / matrix.format(k)).write_text(rows)


@pytest.mark.parametrize(("image", "matrix"), [("{}.ppm", "H_1_{}"), ("img{}.png", "H1to{}p")])
def test_sequences(tmp_path, image, matrix):
    write_sequence(tmp_path / "v_wall", image, matrix, (2, 3))
    write_sequence(tmp_path / "i_wall", image, matrix, (2, 3, 4, 5, 6))
    (tmp_path / "other").mkdir()
    first, second = read_sequences(tmp_path)
    assert (first.name, len(first.images), second.name) == ("i_wall", 6, "v_wall")
    np.testing.assert_allclose(second.homographies[0], np.eye(3), atol=1e-12)
    # Half a pixel: the homography of the file maps centres that count from 0.
    point = np.array([[100.0, 50.0]])
    np.testing.assert_allclose(project(second.homographies[1], point + 0.5), project(H, point) + 0.5)
    second.images[2].unlink()
    with pytest.raises(UserError, match="is missing"):
        read_sequence(tmp_path / "v_wall")
    with pytest.raises(UserError, match="no homographies"):
        read_sequence(tmp_path / "other")


def test_homography_files_that_are_refused(tmp_path):
    for text, message in (
        ("1 0 0 0 1 0", "6 numbers, 9 expected"),
        ("1 1 1 " * 3, "singular"),
        ("nan " * 9, "singular"),
    ):
        (tmp_path / "H").write_text(text)
        with pytest.raises(UserError, match=message):
            read_homography(tmp_path / "H")


def test_point_pairs(tmp_path):
    a = np.array([[0, 0], [400, 10], [390, 300], [5, 310], [200, 100]], float)
    rows = np.hstack([a, project(H, a)])
    (tmp_path / "points.txt").write_text("# xA yA xB yB\n" + "\n".join(" ".join(map(str, row)) for row in rows))
    for name in ("A.jpg", "B.jpg"):
        (tmp_path / name).touch()
    pair = read_point_pair(tmp_path)
    np.testing.assert_allclose(project(pair.homography, a + 0.5), project(H, a) + 0.5, atol=1e-6)
    (tmp_path / "points.txt").write_text("1 2 3\n")
    with pytest.raises(UserError, match="at least four lines"):
        read_point_pair(tmp_path)


def test_fitted_homography_is_exact():
    a = np.random.default_rng(0).uniform(0, 1000, (4, 2))
    np.testing.assert_allclose(fit_homography(a, project(H, a)), H, rtol=1e-6)
