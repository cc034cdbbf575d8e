"""A quick look at matches: how well they agree with one fundamental matrix. No verification."""

import numpy as np


def epipolar_inliers(first: np.ndarray, second: np.ndarray, max_error: float, max_trials: int) -> int:
    """Of matches between first (M, 2) and second (M, 2), how many are within max_error pixels of one geometry."""
    return int(np.count_nonzero(epipolar_distances(first, second, max_error, max_trials) <= max_error))


def epipolar_distances(first: np.ndarray, second: np.ndarray, max_error: float, max_trials: int) -> np.ndarray:
    """(M,) float64: how far matches between first (M, 2) and second (M, 2) are from the fundamental matrix that
    OpenCV's MAGSAC++ finds (seeded) for errors up to max_error, in pixels (Sampson's approximation: Hartley and
    Zisserman, Multiple View Geometry, 2nd ed., 11.4.3); infinity for fewer than eight, which fit anything."""
    nowhere = np.full(len(first), np.inf)
    if len(first) < 8:
        return nowhere
    first, second = first.astype(np.float64), second.astype(np.float64)
    matrix, _ = fundamental_matrix(first, second, max_error, 0.999, max_trials)
    if matrix is None:
        return nowhere
    ones = np.ones((len(first), 1))
    x, y = np.hstack([first, ones]), np.hstack([second, ones])
    lines_y, lines_x = x @ matrix.T, y @ matrix
    slopes = (lines_y[:, :2] ** 2).sum(axis=1) + (lines_x[:, :2] ** 2).sum(axis=1)
    return np.abs((lines_y * y).sum(axis=1)) / np.sqrt(np.maximum(slopes, 1e-30))


def fundamental_matrix(
    first: np.ndarray, second: np.ndarray, max_error: float, confidence: float, max_trials: int, magsac: bool = True
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """OpenCV's robust fundamental matrix F, (3, 3) float64 with y F x = 0, of M >= 8 matches between first and second,
    both (M, 2) float64 pixels, and which of them agree with it, (M, 1) uint8; both None where there is none. By
    MAGSAC++, or RANSAC."""
    import cv2

    if magsac:
        try:
            return cv2.findFundamentalMat(first, second, cv2.USAC_MAGSAC, max_error, confidence, max_trials)
        except cv2.error:  # 5.0 asserts where it polishes a nearly flat sample and finds nothing: one turned pair in 50
            pass
    return cv2.findFundamentalMat(first, second, cv2.FM_RANSAC, max_error, confidence, max_trials)
