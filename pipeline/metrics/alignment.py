"""Similarity between estimated and true camera centres, and the errors that remain.

Source: Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Similarity:
    """y = scale R x + t; R (3, 3) a rotation, t (3,)."""

    scale: float
    R: np.ndarray
    t: np.ndarray

    def points(self, x: np.ndarray) -> np.ndarray:
        """(N, 3) points moved by the similarity."""
        return self.scale * x @ self.R.T + self.t

    def rotations(self, R: np.ndarray) -> np.ndarray:
        """(N, 3, 3) cam_from_world rotations, in the new world."""
        return R @ self.R.T


def umeyama(x: np.ndarray, y: np.ndarray) -> Similarity | None:
    """The similarity of least squares from x to y, both (N, 3).

    None where it is not determined: fewer than three points, or all points of x or of y on a line or in one place.
    """
    if len(x) < 3:
        return None
    x0, y0 = x - x.mean(axis=0), y - y.mean(axis=0)
    if not (_spans_plane(x0) and _spans_plane(y0)):
        return None
    U, D, Vt = np.linalg.svd(y0.T @ x0 / len(x))
    W = np.array([1.0, 1.0, np.sign(np.linalg.det(U) * np.linalg.det(Vt))])
    R = U @ np.diag(W) @ Vt
    scale = float((D * W).sum() / np.mean(np.sum(x0**2, axis=1)))
    if scale <= 0 or not np.isfinite(scale):
        return None
    return Similarity(scale, R, y.mean(axis=0) - scale * R @ x.mean(axis=0))


def ate(x: np.ndarray, y: np.ndarray) -> np.ndarray | None:
    """(N,) distances between the aligned centres x and the true centres y (N, 3), in y's unit; None if not alignable.

    Worth nothing without the registered ratio beside it: it rewards a method that drops the hard images.
    """
    similarity = umeyama(x, y)
    return None if similarity is None else np.linalg.norm(similarity.points(x) - y, axis=1)


def _spans_plane(centred: np.ndarray, tolerance: float = 1e-9) -> bool:
    sizes = np.linalg.svd(centred, compute_uv=False)
    return bool(sizes[1] > tolerance * max(sizes[0], np.finfo(float).tiny))
