"""A quick look at matches: how many agree with one fundamental matrix. No verification."""

import numpy as np


def epipolar_inliers(first: np.ndarray, second: np.ndarray, max_error: float, max_trials: int) -> int:
    """Of matches between first (M, 2) and second (M, 2), how many lie within max_error pixels of the epipolar lines
    that OpenCV's MAGSAC++ finds (seeded); 0 for fewer than eight, which fit anything."""
    import cv2

    if len(first) < 8:
        return 0
    first, second = first.astype(np.float64), second.astype(np.float64)
    _, mask = cv2.findFundamentalMat(first, second, cv2.USAC_MAGSAC, max_error, 0.999, max_trials)
    return 0 if mask is None else int(np.count_nonzero(mask))
