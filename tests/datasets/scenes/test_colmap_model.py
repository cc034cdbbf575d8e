"""COLMAP models, text and binary, by pycolmap behind its door."""

import struct

import numpy as np
import pytest

from datasets.cameras import Camera, Pose
from datasets.scenes.colmap_model import load, read_cameras_txt, read_model, write_model
from desdis.errors import UserError

CAMERA = Camera("SIMPLE_RADIAL", 640, 480, (500.0, 320.0, 240.0, 0.02), prior_focal=True, known=True)
QUARTER = Pose(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([1.0, 2, 3]))


def test_text_worked_example(tmp_path):
    """T7.2; the second line of an image may be empty and must not be skipped."""
    (tmp_path / "cameras.txt").write_text("1 PINHOLE 640 480 500 501 320 240\n")
    q = 0.5**0.5
    lines = [f"{i} {q} 0 0 {q} 1 2 3 1 {name}\n\n" for i, name in ((1, "a b.jpg"), (2, "é.jpg"))]
    (tmp_path / "images.txt").write_text("# a comment\n" + "".join(lines), encoding="utf-8")
    for with_points in (False, True):
        if with_points:
            (tmp_path / "points3D.txt").write_text("")
        reference = read_model(tmp_path)
        assert set(reference.poses) == {"a b.jpg", "é.jpg"}
        pose = reference.poses["é.jpg"]
        np.testing.assert_allclose(pose.R, QUARTER.R, atol=1e-12)
        np.testing.assert_allclose(pose.centre, [-2, 1, -3], atol=1e-12)
        assert reference.cameras["a b.jpg"].params == (500, 501, 320, 240)


def test_binary_worked_example(tmp_path):
    """T7.3: files of the stated sizes, made here byte by byte, are read."""
    cameras = struct.pack("<QIiQQ3d", 1, 1, 0, 640, 480, 500, 320, 240)
    q = 0.5**0.5
    image = (
        struct.pack("<QI7dI", 1, 1, q, 0, 0, q, 1, 2, 3, 1) + b"a.jpg\0" + struct.pack("<QddQ", 1, 10, 20, 2**64 - 1)
    )
    assert (len(cameras), len(image)) == (56, 110)
    (tmp_path / "cameras.bin").write_bytes(cameras)
    (tmp_path / "images.bin").write_bytes(image)
    (tmp_path / "points3D.bin").write_bytes(struct.pack("<Q", 0))
    model = load(tmp_path)
    np.testing.assert_allclose(model.images[1].points2D[0].xy, [10, 20])
    reference = read_model(tmp_path)
    np.testing.assert_allclose(reference.poses["a.jpg"].R, QUARTER.R, atol=1e-12)
    assert reference.cameras["a.jpg"].model == "SIMPLE_PINHOLE"


def test_written_sizes(tmp_path):
    """T7.3, without a 2D point: the image is 24 bytes shorter."""
    camera = Camera("SIMPLE_PINHOLE", 640, 480, (500.0, 320.0, 240.0))
    write_model(tmp_path, {"a.jpg": QUARTER}, {"a.jpg": camera})
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes == {"cameras.bin": 56, "images.bin": 86, "points3D.bin": 8, "rigs.bin": 24, "frames.bin": 92}


@pytest.mark.parametrize("text", [True, False])
def test_what_is_written_is_read(tmp_path, text):
    other = Camera("OPENCV", 480, 640, (500.0, 501.0, 240.0, 320.0, 0.1, 0.01, 0.001, 0.002), True, True)
    poses = {"b/1.jpg": QUARTER, "a/1.jpg": Pose(np.eye(3), np.zeros(3)), "c.jpg": QUARTER}
    cameras = {"b/1.jpg": CAMERA, "a/1.jpg": other, "c.jpg": CAMERA}
    write_model(tmp_path / "new" / "model", poses, cameras, points=np.arange(6.0).reshape(2, 3), text=text)
    reference = read_model(tmp_path / "new" / "model")
    assert reference.cameras == cameras
    for name, pose in poses.items():
        np.testing.assert_allclose(reference.poses[name].R, pose.R, atol=1e-12)
        np.testing.assert_allclose(reference.poses[name].t, pose.t, atol=1e-12)
    model = load(tmp_path / "new" / "model")
    assert model.num_points3D() == 2 and model.num_cameras() == 2


def test_names_with_blanks(tmp_path):
    write_model(tmp_path, {"a b.jpg": QUARTER}, {"a b.jpg": CAMERA})
    assert set(read_model(tmp_path).poses) == {"a b.jpg"}
    with pytest.raises(UserError, match="cannot hold the name 'a b.jpg'"):
        write_model(tmp_path, {"a b.jpg": QUARTER}, {"a b.jpg": CAMERA}, text=True)


@pytest.mark.parametrize("part", ["cameras.bin", "images.bin"])
def test_damaged_models_are_refused(tmp_path, part):
    write_model(tmp_path, {"a.jpg": QUARTER}, {"a.jpg": CAMERA})
    data = (tmp_path / part).read_bytes()
    (tmp_path / part).write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="COLMAP model|pose|rotation|camera"):
        read_model(tmp_path)


def test_a_model_of_no_image_and_wrong_parameters_are_refused(tmp_path):
    write_model(tmp_path / "empty", {}, {})
    with pytest.raises(UserError, match="no registered image"):
        read_model(tmp_path / "empty")
    with pytest.raises(UserError, match="2 parameters do not fit"):
        write_model(tmp_path, {"a.jpg": QUARTER}, {"a.jpg": Camera("PINHOLE", 640, 480, (500.0, 320.0))})
    with pytest.raises(UserError, match="camera model NONE"):
        write_model(tmp_path, {"a.jpg": QUARTER}, {"a.jpg": Camera("NONE", 640, 480, (500.0, 320.0))})


def test_cameras_txt_alone(tmp_path):
    path = tmp_path / "cameras.txt"
    path.write_text("# cameras\n1 PINHOLE 640 480 500 501 320 240\n\n7 SIMPLE_RADIAL 480 640 500 240 320 0.1\n")
    cameras = read_cameras_txt(path)
    assert cameras[1] == Camera("PINHOLE", 640, 480, (500, 501, 320, 240), True, True)
    assert cameras[7].model == "SIMPLE_RADIAL"
    for line, message in (
        ("1 PINHOLE 640 480 500", r"line 2: camera model PINHOLE: 1 parameters"),
        ("1 PINHOLE 640", "line 2: expected CAMERA_ID"),
        ("1 WHAT 640 480 500 501 320 240", "line 2: camera model WHAT"),
        ("1 PINHOLE 640 480 500 501 320 nan", "line 2: size and parameters"),
        ("1 PINHOLE 640 480 500 501 320 240\n1 PINHOLE 640 480 500 501 320 240", "line 3: camera 1 is there twice"),
    ):
        path.write_text(f"# cameras\n{line}\n")
        with pytest.raises(UserError, match=message):
            read_cameras_txt(path)
    path.write_text("# none\n")
    with pytest.raises(UserError, match="holds no camera"):
        read_cameras_txt(path)
