"""Turned scenes: pose, camera and pixels turn together."""

import cv2
import numpy as np
import pytest

from datasets.cameras import Camera, Pose, Reference
from datasets.scenes.krt import read_krt
from desdis.errors import UserError
from pipeline.protocols.turned import turned_camera, turned_grid, turned_pose, turns, write_turned

CAMERA = Camera.pinhole(np.array([[300.0, 0, 90.5], [0, 300, 70], [0, 0, 1]]), 200, 150)


def projected(camera: Camera, pose: Pose, X: np.ndarray) -> np.ndarray:
    p = (X @ pose.R.T + pose.t) @ camera.K.T
    return p[:, :2] / p[:, 2:]


@pytest.mark.parametrize("degrees", [0, 30, 90, 137.5, 180, 270])
def test_points_project_where_the_turned_pixels_lie(degrees):
    rng = np.random.default_rng(0)
    X = rng.uniform((-1, -0.7, 4), (1, 0.7, 6), (20, 3))
    pose = Pose(np.eye(3), np.array([0.1, -0.2, 0.3]))
    grid, width, height = turned_grid(200, 150, degrees)
    before = projected(CAMERA, pose, X)
    camera = turned_camera(CAMERA, degrees)
    after = projected(camera, turned_pose(pose, degrees), X)
    np.testing.assert_allclose(after, before @ grid[:, :2].T + grid[:, 2], atol=1e-9)
    assert (camera.width, camera.height) == (width, height)
    corners = np.array([(0, 0), (200, 0), (0, 150), (200, 150)]) @ grid[:, :2].T + grid[:, 2]
    assert (corners > -1e-6).all() and (corners < (width + 1e-6, height + 1e-6)).all()


def test_unequal_focal_lengths_turn_by_quarters_only():
    camera = Camera.pinhole(np.array([[300.0, 0, 90], [0, 330, 70], [0, 0, 1]]), 200, 150)
    K = turned_camera(camera, 90).K
    assert (K[0, 0], K[1, 1], K[0, 2], K[1, 2]) == pytest.approx((330, 300, 150 - 70, 90))
    with pytest.raises(UserError, match="quarter turns"):
        turned_camera(camera, 30)


def test_turns():
    names = [f"{k}.jpg" for k in range(40)]
    drawn = turns(names, "quarters")
    assert set(drawn.values()) == {0.0, 90.0, 180.0, 270.0}
    assert drawn == turns(names[::-1], "quarters")
    assert set(turns(names, 30).values()) == {30.0}


@pytest.mark.parametrize("turn", ["quarters", 30.0])
def test_a_written_scene_holds_the_dot_where_its_camera_sees_it(turn, tmp_path):
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    reference = Reference({}, {})
    X = np.array([[0.4, 0.2, 5.0]])
    for k in range(4):
        name, pose = f"{k}.png", Pose(np.eye(3), np.array([0.1 * k, 0, 0]))
        x, y = projected(CAMERA, pose, X)[0]
        yy, xx = np.mgrid[:150, :200] + 0.5
        dot = 255 * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / 8)
        cv2.imwrite(str(images / name), dot.astype(np.uint8))
        reference.poses[name], reference.cameras[name] = pose, CAMERA
    write_turned(images, reference, turn, out)
    read = read_krt(out / "cameras", sorted(reference.poses))
    assert (out / "masks").is_dir() == (turn == 30.0)
    for name, camera in read.cameras.items():
        grey = cv2.imread(str(out / "images" / name), cv2.IMREAD_GRAYSCALE).astype(float)
        assert grey.shape == (camera.height, camera.width)
        grey[grey < 20] = 0
        yy, xx = np.mgrid[: camera.height, : camera.width] + 0.5
        seen = np.array([(grey * xx).sum(), (grey * yy).sum()]) / grey.sum()
        np.testing.assert_allclose(seen, projected(camera, read.poses[name], X)[0], atol=0.15)
    stamp = (out / "images" / "0.png").stat().st_mtime_ns
    write_turned(images, reference, turn, out)
    assert (out / "images" / "0.png").stat().st_mtime_ns == stamp
