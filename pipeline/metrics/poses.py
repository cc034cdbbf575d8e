"""Errors of relative poses and what is made of them.

Poses are cam_from_world, x_cam = R X + t. Angles are in degrees. Errors come as arrays over pairs, with a failure as
inf or as 180: both count as a pair and neither is ever within a threshold.
Sources: Jin et al., "Image Matching across Wide Baselines", IJCV 2021 (mAA);
Sarlin et al., "SuperGlue", CVPR 2020 (AUC).
"""

from typing import Literal

import numpy as np

FAILED = 180.0  # degrees; the error of a pair of which one image at least has no pose


def rotation_error_deg(R: np.ndarray, R_true: np.ndarray) -> np.ndarray:
    """Angle of R R_true^T for rotations (..., 3, 3), in 0..180."""
    # |A - B|_F = 2 sqrt(2) sin(angle / 2): unlike the arc cosine of the trace, exact down to 1e-14 degrees.
    chord = np.linalg.norm(np.asarray(R, float) - np.asarray(R_true, float), axis=(-2, -1))
    return np.degrees(2 * np.arcsin(np.clip(chord / np.sqrt(8), 0, 1)))


def translation_error_deg(t: np.ndarray, t_true: np.ndarray, min_baseline: float = 0.0) -> np.ndarray:
    """Angle between the directions (..., 3), its sign ignored: in 0..90.

    Where the true baseline is at most `min_baseline` there is no direction to get wrong and the error is 0; an
    estimated baseline of zero is 90 degrees off, as in the IMC benchmark.
    """
    t, t_true = np.broadcast_arrays(np.asarray(t, float), np.asarray(t_true, float))
    length, true_length = np.linalg.norm(t, axis=-1), np.linalg.norm(t_true, axis=-1)
    sine = np.linalg.norm(np.cross(t, t_true), axis=-1)
    cosine = np.abs(np.sum(t * t_true, axis=-1))
    angle = np.degrees(np.arctan2(sine, cosine))
    angle = np.where(length == 0, 90.0, angle)
    return np.where(true_length <= min_baseline, 0.0, angle)


def relative_poses(R: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs i < j of N poses, in the order of numpy.triu_indices(N, 1): x_j = dR x_i + dt.

    R (N, 3, 3), t (N, 3) to dR (N(N-1)/2, 3, 3), dt (N(N-1)/2, 3).
    """
    i, j = np.triu_indices(len(R), 1)
    dR = R[j] @ R[i].transpose(0, 2, 1)
    return dR, t[j] - np.einsum("nab,nb->na", dR, t[i])


def estimated(R: np.ndarray, t: np.ndarray) -> np.ndarray:
    """(N,) bool: which of the poses R (N, 3, 3), t (N, 3) are there, that is finite."""
    return np.asarray(np.isfinite(np.c_[R.reshape(len(R), 9), t]).all(axis=1))


def pair_errors_deg(
    R: np.ndarray, t: np.ndarray, R_true: np.ndarray, t_true: np.ndarray, min_baseline: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Rotation and translation errors of all pairs of N poses, FAILED where an estimate is missing (not finite).

    R, R_true (N, 3, 3) and t, t_true (N, 3); the order of the pairs is numpy.triu_indices(N, 1)'s.
    """
    found = estimated(R, t)
    i, j = np.triu_indices(len(R), 1)
    both = found[i] & found[j]
    dR, dt = relative_poses(np.where(found[:, None, None], R, np.eye(3)), np.where(found[:, None], t, 0.0))
    dR_true, dt_true = relative_poses(R_true, t_true)
    rotation = np.where(both, rotation_error_deg(dR, dR_true), FAILED)
    translation = np.where(both, translation_error_deg(dt, dt_true, min_baseline), FAILED)
    return rotation, translation


def accuracy_curve(errors_deg: np.ndarray, last: int = 10) -> np.ndarray:
    """(last,) share of the pairs with an error below 1, 2, ... `last` degrees; at the last threshold equality counts.

    That is the cumulative histogram of the IMC benchmark, whose last bin is closed.
    """
    errors = _errors(errors_deg)
    counts = np.histogram(errors[np.isfinite(errors)], bins=np.arange(last + 1))[0]
    return np.cumsum(counts) / len(errors)


def maa(errors_deg: np.ndarray, max_deg: int = 10) -> float:
    """IMC's mean average accuracy: the mean of the first `max_deg` values of the curve up to 10 degrees."""
    return float(accuracy_curve(errors_deg)[:max_deg].mean())


def auc(errors_deg: np.ndarray, threshold: float) -> float:
    """Area under the recall curve up to `threshold`, divided by it: 0..1 (SuperGlue; errors strictly below count)."""
    return _auc(errors_deg, threshold, side="left")


def auc_colmap(errors_deg: np.ndarray, threshold: float, min_error: float = 0.0) -> float:
    """The same area as COLMAP's benchmark takes it: an error of exactly the threshold counts, and errors up to
    `min_error` count as found at once (the truth is not better than that)."""
    return _auc(errors_deg, threshold, side="right", min_error=min_error)


def _auc(errors_deg: np.ndarray, threshold: float, side: Literal["left", "right"], min_error: float = 0.0) -> float:
    errors = np.sort(_errors(errors_deg))
    recall = np.arange(1, len(errors) + 1) / len(errors)
    exact = int(np.searchsorted(errors, min_error, side="right")) if min_error > 0 else 0
    if exact:
        share = exact / len(errors)
        x, y = np.r_[0, min_error, errors[exact:]], np.r_[share, share, recall[exact:]]
    else:
        x, y = np.r_[0, errors], np.r_[0, recall]
    within = int(np.searchsorted(x, threshold, side=side))
    x, y = np.r_[x[:within], threshold], np.r_[y[:within], y[within - 1]]
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) / threshold)


def epipolar_distance(x0: np.ndarray, x1: np.ndarray, R: np.ndarray, t: np.ndarray) -> np.ndarray:
    """(M,) squared symmetric epipolar distance of SuperGlue's evaluation, in normalised camera coordinates.

    x0, x1 (M, 2) normalised points; R, t map camera 0 to camera 1. Below 5e-4 a match counts as correct there, below
    1e-4 in IMC's epipolar score.
    """
    x0, x1 = (np.c_[x, np.ones(len(x))] for x in (x0, x1))
    tx, ty, tz = t
    E = np.array([[0, -tz, ty], [tz, 0, -tx], [-ty, tx, 0]]) @ R
    line1, line0 = x0 @ E.T, x1 @ E
    residual = np.sum(x1 * line1, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = 1 / np.sum(line1[:, :2] ** 2, axis=1) + 1 / np.sum(line0[:, :2] ** 2, axis=1)
        return np.where(residual == 0, 0.0, residual**2 * weight)


def _errors(errors_deg: np.ndarray) -> np.ndarray:
    errors = np.asarray(errors_deg, float).ravel()
    if len(errors) == 0 or np.isnan(errors).any():
        raise ValueError("errors of at least one pair are needed, with failures as inf and not as NaN")
    return errors
