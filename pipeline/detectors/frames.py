"""What detectors share: where a keypoint may lie, frames for methods that know only places, and an empty answer."""

import numpy as np

from pipeline.types import Detected, Image


def usable(centres: np.ndarray, image: Image) -> np.ndarray:
    """(N,) bool: which (N, 2) centres (COLMAP's pixels) lie in the image and, where there is a mask, on it."""
    height, width = image.grey.shape
    x, y = np.floor(centres).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    if image.mask is not None:
        inside &= image.mask[y.clip(0, height - 1), x.clip(0, width - 1)]
    return inside


def circles(centres: np.ndarray, sigma: np.ndarray | float) -> np.ndarray:
    """(N, 2, 3) float32 upright frames of scale sigma (one, or one a row) at the (N, 2) centres."""
    lafs = np.zeros((len(centres), 2, 3), np.float32)
    lafs[:, 0, 0] = lafs[:, 1, 1] = sigma
    lafs[:, :, 2] = centres
    return lafs


def nothing(dimensions: int | None = None) -> Detected:
    """No keypoint; with descriptors of that many dimensions where the method describes too."""
    descriptors = None if dimensions is None else np.zeros((0, dimensions), np.float32)
    return Detected(circles(np.zeros((0, 2)), 1.0), np.zeros(0, np.float32), descriptors)
