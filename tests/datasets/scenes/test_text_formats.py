"""Strecha, `K R t`, Olsson: worked examples, what is refused, and that writing and reading agree."""

import numpy as np
import pytest

from datasets.cameras import Camera, Pose
from datasets.scenes.krt import format_krt, read_krt, read_krt_file
from datasets.scenes.olsson import decompose, read_olsson
from datasets.scenes.strecha import format_camera, read_camera_file, read_K, read_strecha
from desdis.errors import UserError

STRECHA = """100 0 50
0 100 40
0 0 1
0 0 0
0 0 1
-1 0 0
0 -1 0
1 2 3
100 80
"""


def project(pose: Pose, K: np.ndarray, X) -> tuple[np.ndarray, float]:
    """Pixel and depth of a point."""
    x = K @ (pose.R @ np.asarray(X, float) + pose.t)
    return x[:2] / x[2], x[2]


def test_strecha_worked_example(tmp_path):
    """T7.1, whose pixels count from the first one's centre: here they are half a pixel larger."""
    path = tmp_path / "0000.jpg.camera"
    path.write_text(STRECHA)
    pose, camera = read_camera_file(path)
    np.testing.assert_allclose(pose.t, [2, 3, -1])
    np.testing.assert_allclose(pose.centre, [1, 2, 3])
    assert (camera.width, camera.height, camera.known) == (100, 80, True)
    for X, pixel in (((11, 2, 3), (50, 40)), ((11, 1, 3), (60, 40)), ((11, 2, 1), (50, 60))):
        found, depth = project(pose, camera.K, X)
        np.testing.assert_allclose(found, np.array(pixel) + 0.5, atol=1e-9)
        assert depth == pytest.approx(10)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("100 80", "100", "holds 25 numbers, 26 expected"),
        ("1 2 3\n", "1 2 x\n", "words where numbers"),
        ("1 2 3\n", "1 nan 3\n", "NaN"),
        ("-1 0 0\n", "-1.1 0 0\n", "not orthonormal"),
        ("-1 0 0\n", "1 0 0\n", "mirroring"),
        ("0 0 0\n", "0.1 0 0\n", "must be 0 0 0"),
        ("100 0 50", "-100 0 50", "not a calibration matrix"),
        ("100 80", "0 80", "must be positive"),
    ],
)
def test_strecha_refuses(tmp_path, old, new, message):
    path = tmp_path / "0000.jpg.camera"
    path.write_text(STRECHA.replace(old, new, 1))
    with pytest.raises(UserError, match=message) as error:
        read_camera_file(path)
    assert str(path) in str(error.value)


def some_pose(seed: int = 0) -> Pose:
    """A random rotation and translation."""
    generator = np.random.default_rng(seed)
    Q, R = np.linalg.qr(generator.normal(size=(3, 3)))
    Q *= np.sign(np.diag(R))
    return Pose(Q * np.sign(np.linalg.det(Q)), generator.normal(size=3))


CAMERA = Camera.pinhole(np.array([[700, 0, 321.25], [0, 710, 239.5], [0, 0, 1]]), 640, 480)


@pytest.mark.parametrize(
    ("write", "read", "suffix"), [(format_camera, read_camera_file, ".camera"), (format_krt, read_krt_file, ".txt")]
)
def test_written_files_are_read_back(tmp_path, write, read, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_text(write(some_pose(), CAMERA))
    pose, camera = read(path)
    np.testing.assert_allclose(pose.R, some_pose().R, atol=1e-10)
    np.testing.assert_allclose(pose.t, some_pose().t, atol=1e-10)
    np.testing.assert_allclose(camera.params, CAMERA.params)


def test_folders_by_photograph(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.jpg.camera").write_text(format_camera(some_pose(number), CAMERA))
    reference = read_strecha(tmp_path, ["sub/1.jpg", "sub/2.jpg", "sub/3.jpg"])
    assert set(reference.poses) == set(reference.cameras) == {"sub/1.jpg", "sub/2.jpg"}
    np.testing.assert_allclose(reference.poses["sub/2.jpg"].t, some_pose(2).t)
    with pytest.raises(UserError, match="belongs to other photographs"):
        read_strecha(tmp_path, ["x.jpg"])


def test_krt_folder_and_what_it_refuses(tmp_path):
    (tmp_path / "DSC_1.txt").write_text(format_krt(some_pose(), CAMERA))
    reference = read_krt(tmp_path, ["DSC_1.JPG"])
    np.testing.assert_allclose(reference.poses["DSC_1.JPG"].R, some_pose().R)
    text = format_krt(some_pose(), CAMERA)
    (tmp_path / "DSC_1.txt").write_text(text.replace("700 0 320.75", "700 9 320.75"))
    with pytest.raises(UserError, match="skew"):
        read_krt(tmp_path, ["DSC_1.JPG"])
    (tmp_path / "DSC_1.txt").write_text(text.replace("640 480", "640"))
    with pytest.raises(UserError, match="22 numbers, 23 expected"):
        read_krt(tmp_path, ["DSC_1.JPG"])


def test_K_txt(tmp_path):
    path = tmp_path / "K.txt"
    path.write_text("2759.48 0 1520.69\n0 2764.16 1006.81\n0 0 1\n")
    camera = read_K(path)
    np.testing.assert_allclose(camera.params, (2759.48, 2764.16, 1521.19, 1007.31))
    assert (camera.width, camera.height) == (0, 0)


def test_olsson_worked_example():
    """T7.4."""
    for sign in (1, -1):
        K, pose = decompose(sign * np.array([[2, 0, 0, 2], [0, 2, 0, 4], [0, 0, 1, 3]]))
        np.testing.assert_allclose(K, np.diag([2, 2, 1]), atol=1e-12)
        np.testing.assert_allclose(pose.R, np.eye(3), atol=1e-12)
        np.testing.assert_allclose(pose.t, [1, 2, 3])
        np.testing.assert_allclose(pose.centre, [-1, -2, -3])


def test_olsson_decomposition_of_any_camera():
    for seed in range(5):
        pose = some_pose(seed)
        K, found = decompose(-0.3 * CAMERA.K @ np.column_stack([pose.R, pose.t]))
        np.testing.assert_allclose(K, CAMERA.K, atol=1e-9)
        np.testing.assert_allclose(found.R, pose.R, atol=1e-10)
        np.testing.assert_allclose(found.t, pose.t, atol=1e-10)
    with pytest.raises(UserError, match="not the 3x4"):
        decompose(np.zeros((3, 4)))


def test_olsson_file(tmp_path):
    io = pytest.importorskip("scipy.io", reason="scipy is not installed")
    P = np.empty((1, 2), object)
    names = np.zeros((2, 1), [("name", object)])
    for i in range(2):
        P[0, i] = CAMERA.K @ np.column_stack([some_pose(i).R, some_pose(i).t])
        names[i, 0]["name"] = f"DSC_{i}.JPG"
    io.savemat(tmp_path / "data.mat", {"P": P, "imnames": names})
    reference = read_olsson(tmp_path / "data.mat", ["DSC_1.jpg", "DSC_0.jpg"])
    np.testing.assert_allclose(reference.poses["DSC_1.jpg"].R, some_pose(1).R, atol=1e-9)
    np.testing.assert_allclose(reference.cameras["DSC_0.jpg"].K[:2, 2], CAMERA.K[:2, 2] + 0.5)
