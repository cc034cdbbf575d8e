"""Strecha et al. 2008: `<image>.camera` text files, and `K.txt`.

A file holds 26 numbers: K by rows, 0 0 0 (no distortion), the rotation Rs by rows, the centre C, width and height. Rs
is world_from_cam: a point projects by K [Rs^T | -Rs^T C] (checked against the photographs; a published guide has it the
other way round). K counts from the first pixel's centre.
"""

from pathlib import Path

import numpy as np

from datasets.cameras import Camera, Pose, Reference
from datasets.scenes.entries import checked_K, checked_pose, half_centre, pick, read_numbers, whole_centre
from desdis.errors import UserError

_LAYOUT = "K (9), 0 0 0, R (9), C (3), width height"


def read_camera_file(path: Path) -> tuple[Pose, Camera]:
    """Pose (cam_from_world) and camera (COLMAP's pixel convention) of one `.camera` file."""
    return parse_camera(read_numbers(path, 26, _LAYOUT), str(path))


def parse_camera(numbers: np.ndarray, where: str) -> tuple[Pose, Camera]:
    """As `read_camera_file`, from the (26,) numbers."""
    K = checked_K(numbers[:9], where)
    if np.any(numbers[9:12] != 0):
        raise UserError(f"{where}: the line after K must be 0 0 0 (undistorted images)")
    R = numbers[12:21].reshape(3, 3).T
    pose = checked_pose(R, -R @ numbers[21:24], where)
    width, height = numbers[24:26]
    if width < 1 or height < 1:
        raise UserError(f"{where}: width and height must be positive")
    return pose, Camera.pinhole(half_centre(K), int(width), int(height))


def format_camera(pose: Pose, camera: Camera) -> str:
    """The text of a `.camera` file: the inverse of `read_camera_file`, for a camera without distortion."""
    K = whole_centre(camera.K)
    rows = [*K, np.zeros(3), *pose.R.T, pose.centre]
    lines = [" ".join(f"{value:.12g}" for value in row) for row in rows]
    return "\n".join([*lines, f"{camera.width} {camera.height}"]) + "\n"


def read_strecha(folder: Path, names: list[str]) -> Reference:
    """Poses and cameras of the photographs, from the `.camera` files of a folder."""
    files = {path.name[: -len(".camera")]: path for path in sorted(folder.glob("*.camera"))}
    chosen = pick(files, names, str(folder))
    read = {name: read_camera_file(path) for name, path in chosen.items()}
    return Reference({n: pose for n, (pose, _) in read.items()}, {n: cam for n, (_, cam) in read.items()}, "strecha")


def read_K(path: Path) -> Camera:
    """The camera of a `K.txt` (3 rows of 3). It states no size: width and height are 0."""
    return Camera.pinhole(half_centre(checked_K(read_numbers(path, 9, "K, 3 rows of 3"), str(path))), 0, 0)
