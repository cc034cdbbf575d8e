"""Export to nerfstudio, read back by its own rules."""

import json
from pathlib import Path

import numpy as np
import pytest

from desdis.errors import UserError
from pipeline.export import export
from tests.pipeline.synthetic_run import HEIGHT, NESTED, WIDTH


def ascii_ply(path: Path) -> np.ndarray:
    header, body = path.read_text().split("end_header\n")
    rows = np.array([[float(word) for word in line.split()] for line in body.splitlines()])
    assert f"element vertex {len(rows)}" in header
    return rows


def test_nerfstudio(run, keypoints, tmp_path):
    """Every point, projected by an OpenGL camera in nerfstudio's world, lands on the keypoints that see it."""
    import pycolmap

    export(run.work.output, "nerfstudio", tmp_path / "nerf")
    content = json.loads((tmp_path / "nerf/transforms.json").read_text())
    assert content["camera_model"] == "OPENCV"
    frames = {frame["file_path"]: frame for frame in content["frames"]}
    assert set(frames) == {f"images/{name}" for name in NESTED}
    points = ascii_ply(tmp_path / "nerf" / content["ply_file_path"])
    model = pycolmap.Reconstruction(run.work.sparse / "0")
    rows = {point_id: row for row, point_id in enumerate(model.points3D)}
    for image in model.images.values():
        frame = frames[f"images/{image.name}"]
        assert (tmp_path / "nerf" / frame["file_path"]).is_file()
        to_world = np.array(frame["transform_matrix"])
        assert np.isclose(np.linalg.det(to_world[:3, :3]), 1)
        seen = [(p.xy, points[rows[p.point3D_id], :3]) for p in image.points2D if p.has_point3D()]
        xy, xyz = (np.array(column) for column in zip(*seen, strict=True))
        camera = (xyz - to_world[:3, 3]) @ to_world[:3, :3]
        assert (camera[:, 2] < 0).all()  # OpenGL looks along -z
        x = frame["fl_x"] * camera[:, 0] / -camera[:, 2] + frame["cx"]
        y = -frame["fl_y"] * camera[:, 1] / -camera[:, 2] + frame["cy"]
        assert np.abs(np.stack([x, y], axis=1) - xy).max() < 4 and frame["w"] == WIDTH and frame["h"] == HEIGHT
    original = np.array([point.xyz for point in model.points3D.values()])
    applied = np.array(content["applied_transform"])
    np.testing.assert_allclose(points[:, :3], original @ applied[:, :3].T + applied[:, 3], atol=1e-4)


def test_nerfstudio_distortion_by_name():
    from datasets.cameras import Camera
    from pipeline.exports.nerfstudio import _intrinsics

    kind, values = _intrinsics(Camera("OPENCV", 640, 480, (500, 510, 320, 240, 0.1, 0.2, 0.3, 0.4)))
    assert kind == "OPENCV" and [values[k] for k in ("fl_x", "fl_y", "cx", "cy")] == [500, 510, 320, 240]
    assert [values[k] for k in ("k1", "k2", "p1", "p2")] == [0.1, 0.2, 0.3, 0.4]
    kind, values = _intrinsics(Camera("SIMPLE_RADIAL", 640, 480, (500, 320, 240, -0.1)))
    assert values["fl_y"] == 500 and values["k1"] == -0.1 and values["k2"] == 0
    assert _intrinsics(Camera("OPENCV_FISHEYE", 9, 9, (5, 5, 4, 4, 1, 2, 3, 4)))[0] == "OPENCV_FISHEYE"
    with pytest.raises(UserError, match="FULL_OPENCV"):
        _intrinsics(Camera("FULL_OPENCV", 9, 9, (5, 5, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0)))
