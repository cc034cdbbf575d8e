"""Cameras and poses as they travel between the rooms.

Pixel convention everywhere: COLMAP's, the centre of the top-left pixel is (0.5, 0.5). Readers of formats that count
from the pixel centre add 0.5 to the principal point at their own door.
"""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Camera:
    """Intrinsics in COLMAP's camera models (names and parameter order as in COLMAP).

    `known` says that the parameters are calibrated and must stay fixed; `prior_focal` that the focal length is a
    measurement (EXIF, calibration) and not a guess.
    """

    model: str
    width: int
    height: int
    params: tuple[float, ...]
    prior_focal: bool = False
    known: bool = False

    @property
    def K(self) -> np.ndarray:
        """(3, 3) float64 calibration matrix, COLMAP pixel convention; distortion is not part of it."""
        if self.model in _ONE_FOCAL:
            fx = fy = self.params[0]
            cx, cy = self.params[1:3]
        else:
            fx, fy, cx, cy = self.params[:4]
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=np.float64)

    @staticmethod
    def pinhole(K: np.ndarray, width: int, height: int) -> "Camera":
        """A calibrated PINHOLE camera from a (3, 3) matrix in COLMAP's pixel convention."""
        params = (float(K[0, 0]), float(K[1, 1]), float(K[0, 2]), float(K[1, 2]))
        return Camera("PINHOLE", int(width), int(height), params, prior_focal=True, known=True)


_ONE_FOCAL = {
    "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "SIMPLE_FISHEYE",
    "SIMPLE_DIVISION",
}  # fmt: skip


@dataclass(frozen=True)
class Pose:
    """cam_from_world: x_cam = R X + t. R (3, 3) and t (3,) float64; camera axes x right, y down, z forward."""

    R: np.ndarray
    t: np.ndarray

    @property
    def centre(self) -> np.ndarray:
        """(3,) camera centre in the world."""
        return -self.R.T @ self.t


@dataclass(frozen=True)
class Reference:
    """What is known about photographs: poses and cameras by image name (posix path relative to the image folder)."""

    poses: dict[str, Pose]
    cameras: dict[str, Camera] = field(default_factory=dict)
    format: str = ""
