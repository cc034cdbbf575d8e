"""A scene whose photographs are turned, with the poses turned along: what does a method lose when the camera rolls?

In: a folder of photographs and its reference. Out: `images/`, `masks/` (COLMAP's convention, only where turning leaves
empty corners) and `cameras/` ("K R t" text) under a new folder.
"""

import json
import zlib
from pathlib import Path

import numpy as np

from datasets.cameras import Camera, Pose, Reference
from datasets.scenes.krt import format_krt
from desdis.errors import UserError
from pipeline.workspace import write_atomically

_MARGIN = 4  # pixels at the edge of the turned photograph that the mask hides


def turned_pose(pose: Pose, degrees: float) -> Pose:
    """The pose of a photograph turned clockwise on screen about its optical axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    spin = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return Pose(spin @ pose.R, spin @ pose.t)


def turned_grid(width: int, height: int, degrees: float) -> tuple[np.ndarray, int, int]:
    """(2, 3) affine map of pixels (COLMAP convention) to the turned photograph that holds all of it, and its size."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    A = np.array([[c, -s], [s, c]])
    corners = np.array([(0, 0), (width, 0), (0, height), (width, height)], float) @ A.T
    low, high = corners.min(axis=0), corners.max(axis=0)
    new_width, new_height = (int(v) for v in np.ceil(high - low - 1e-6))
    shift = -low + (np.array([new_width, new_height]) - (high - low)) / 2
    return np.c_[A, shift], new_width, new_height


def turned_camera(camera: Camera, degrees: float) -> Camera:
    """The calibrated PINHOLE camera of the turned photograph.

    By a quarter turn the focal lengths change places; by other angles they become their mean. Raises UserError where
    they differ by more than 1 %: a turned camera would have a skew, which no camera model here has.
    """
    K = camera.K
    grid, width, height = turned_grid(camera.width, camera.height, degrees)
    fx, fy = K[0, 0], K[1, 1]
    if degrees % 180 == 90:
        fx, fy = fy, fx
    elif degrees % 180 != 0:
        if abs(fx - fy) > 0.01 * fx:
            raise UserError(f"turn {degrees}: the focal lengths {fx:.1f} and {fy:.1f} differ; use quarter turns")
        fx = fy = (fx + fy) / 2
    cx, cy = grid @ (K[0, 2], K[1, 2], 1)
    return Camera.pinhole(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), width, height)


def turns(names: list[str], turn: float | str) -> dict[str, float]:
    """Degrees clockwise by name; quarter turns are drawn by the name, so that they never change."""
    if turn != "quarters":
        return {name: float(turn) for name in names}
    return {name: 90.0 * (zlib.crc32(name.encode()) // 7 % 4) for name in names}


def write_turned(images: Path, reference: Reference, turn: float | str, output: Path) -> None:
    """Write the turned scene. A finished one is left as it is. Raises UserError where a camera cannot be turned."""
    import cv2

    done = output / "turned.json"
    names = sorted(reference.poses)
    angles = turns(names, turn)
    if done.is_file() and json.loads(done.read_text()) == angles:
        return
    for name, degrees in angles.items():
        pixels = cv2.imread(str(images / name), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if pixels is None:
            raise UserError(f"{images / name}: the photograph of a reference pose cannot be read")
        height, width = pixels.shape[:2]
        grid, new_width, new_height = turned_grid(width, height, degrees)
        if degrees % 90 == 0:
            turned, mask = np.rot90(pixels, -int(degrees // 90)), None
        else:
            # OpenCV counts from pixel centres: p_b = A p_a + s holds for p + 0.5 on both sides.
            warp = grid.copy()
            warp[:, 2] += grid[:, :2] @ (0.5, 0.5) - 0.5
            size = (new_width, new_height)
            # Reflected beyond the edge, so that patches near it see no black; the mask hides what is not real.
            turned = cv2.warpAffine(pixels, warp, size, flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT)
            whole = np.zeros((height, width), np.uint8)
            whole[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = 255
            mask = cv2.warpAffine(whole, warp, size, flags=cv2.INTER_NEAREST)
        _write(output / "images" / name, turned, [cv2.IMWRITE_JPEG_QUALITY, 98])
        if mask is not None:
            _write(output / "masks" / f"{name}.png", mask, [])
        pose = turned_pose(reference.poses[name], degrees)
        camera = turned_camera(Camera.pinhole(reference.cameras[name].K, width, height), degrees)
        path = (output / "cameras" / name).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(format_krt(pose, camera))
    write_atomically(done, json.dumps(angles))


def _write(path: Path, pixels: np.ndarray, options: list[int]) -> None:
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), np.ascontiguousarray(pixels), options):
        raise UserError(f"{path}: cannot be written")
