"""nerfstudio: transforms.json, images/, sparse_pc.ply.

Cameras are camera-to-world in OpenGL's axes (x right, y up, z backwards) and the world is turned as nerfstudio's own
converter turns it, (x, y, z) to (x, z, -y), which `applied_transform` says; the points are turned with it. Intrinsics
and distortion stand in each frame, as nerfstudio reads several cameras. Pixels are counted from the image's corner, as
in COLMAP.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from datasets.cameras import Camera, Pose
from desdis.errors import UserError
from pipeline.exports import ExportOptions
from pipeline.finished import FinishedRun

TURN = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]])  # the applied transform, (3, 4)

# COLMAP's parameters after the focal lengths and the principal point, by the names of transforms.json
_DISTORTION = {
    "SIMPLE_PINHOLE": ("OPENCV", ()),
    "PINHOLE": ("OPENCV", ()),
    "SIMPLE_RADIAL": ("OPENCV", ("k1",)),
    "RADIAL": ("OPENCV", ("k1", "k2")),
    "OPENCV": ("OPENCV", ("k1", "k2", "p1", "p2")),
    "OPENCV_FISHEYE": ("OPENCV_FISHEYE", ("k1", "k2", "k3", "k4")),
    "SIMPLE_RADIAL_FISHEYE": ("OPENCV_FISHEYE", ("k1",)),
    "RADIAL_FISHEYE": ("OPENCV_FISHEYE", ("k1", "k2")),
}


def write(run: FinishedRun, folder: Path, options: ExportOptions) -> str:
    from datasets.scenes.colmap_model import load, read_model

    model = read_model(run.require_model())
    frames = []
    kinds = set()
    for name in sorted(model.poses):
        target = folder / "images" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run.images / name, target)
        kind, intrinsics = _intrinsics(model.cameras[name])
        kinds.add(kind)
        frames.append(
            {
                "file_path": f"images/{name}",
                "transform_matrix": _camera_to_world(model.poses[name]).tolist(),
                **intrinsics,
            }
        )
    if len(kinds) > 1:
        raise UserError(f"{run.model}: nerfstudio cannot mix fisheye and ordinary cameras in one transforms.json")
    points = load(run.model).points3D.values()
    _write_ply(
        folder / "sparse_pc.ply",
        np.array([point.xyz for point in points]).reshape(-1, 3) @ TURN[:, :3].T,
        np.array([point.color for point in points], np.uint8).reshape(-1, 3),
    )
    content: dict[str, Any] = {
        "camera_model": kinds.pop(),
        "applied_transform": TURN.tolist(),
        "ply_file_path": "sparse_pc.ply",
        "frames": frames,
    }
    (folder / "transforms.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return f"{len(frames)} images: transforms.json, images/, sparse_pc.ply"


def _camera_to_world(pose: Pose) -> np.ndarray:
    """(4, 4) from a cam_from_world pose in COLMAP's axes."""
    moved = np.eye(4)
    moved[:3, :3] = pose.R.T * (1, -1, -1)  # camera axes: y up, z backwards
    moved[:3, 3] = pose.centre
    return np.vstack([TURN, [0, 0, 0, 1]]) @ moved


def _intrinsics(camera: Camera) -> tuple[str, dict[str, Any]]:
    if camera.model not in _DISTORTION:
        raise UserError(f"nerfstudio knows no camera model {camera.model}: reconstruct with images.camera_model=OPENCV")
    kind, names = _DISTORTION[camera.model]
    K = camera.K
    values = {"w": camera.width, "h": camera.height, "fl_x": K[0, 0], "fl_y": K[1, 1], "cx": K[0, 2], "cy": K[1, 2]}
    values.update(dict.fromkeys(("k1", "k2", "p1", "p2") if kind == "OPENCV" else ("k1", "k2", "k3", "k4"), 0.0))
    values.update(zip(names, camera.params[len(camera.params) - len(names) :], strict=True))
    return kind, values


def _write_ply(path: Path, xyz: np.ndarray, rgb: np.ndarray) -> None:
    properties = [f"property float {axis}" for axis in "xyz"]
    properties += [f"property uint8 {colour}" for colour in ("red", "green", "blue")]
    lines = ["ply", "format ascii 1.0", f"element vertex {len(xyz)}", *properties, "end_header"]
    rows = [f"{x:.8g} {y:.8g} {z:.8g} {r} {g} {b}" for (x, y, z), (r, g, b) in zip(xyz, rgb, strict=True)]
    path.write_text("\n".join([*lines, *rows]) + "\n")
