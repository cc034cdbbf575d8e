"""Scores of features and matches between two pictures of one plane.

H (3, 3) maps points of picture a to picture b, scaled so that visible points have a positive third coordinate (files
with H[2, 2] = 1 are); points are (N, 2) in pixels, in any convention that H shares. Sizes are (width, height).
Sources: Dusmanu et al., "D2-Net", CVPR 2019 (MMA); DeTone et al., "SuperPoint", 2018 (repeatability, corner error);
Barroso-Laguna et al., "Key.Net", ICCV 2019 (circle overlap, matching score); Lindenberger et al., "LightGlue", ICCV
2023 with glue-factory (corner error for the AUC, symmetric error).
"""

import numpy as np

Size = tuple[int, int]


def warp(points: np.ndarray, H: np.ndarray) -> np.ndarray:
    """(N, 2) points under H; a point that falls on or behind the line at infinity becomes NaN."""
    p = np.c_[points, np.ones(len(points))] @ H.T
    w = np.where(p[:, 2:] > 0, p[:, 2:], np.nan)
    return p[:, :2] / w


def inside(points: np.ndarray, size: Size) -> np.ndarray:
    """(N,) bool: 0 <= x < width and 0 <= y < height; NaN is outside."""
    with np.errstate(invalid="ignore"):
        return np.asarray(((points >= 0) & (points < np.array(size))).all(axis=1))


def reprojection_errors(a: np.ndarray, b: np.ndarray, H: np.ndarray) -> np.ndarray:
    """(M,) distance in picture b between the matches' points b and H a; inf where H a does not exist."""
    return np.nan_to_num(np.linalg.norm(warp(a, H) - b, axis=1), nan=np.inf)


def symmetric_errors(a: np.ndarray, b: np.ndarray, H: np.ndarray) -> np.ndarray:
    """(M,) mean of the distances in both pictures (glue-factory)."""
    return (reprojection_errors(a, b, H) + reprojection_errors(b, a, np.linalg.inv(H))) / 2


def matching_accuracy(errors: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """(T,) share of a pair's matches within each threshold, equality included; 0 without a match. MMA is its mean
    over pairs (D2-Net)."""
    if len(errors) == 0:
        return np.zeros(len(thresholds))
    return np.asarray((errors[None] <= np.asarray(thresholds, float)[:, None]).mean(axis=1))


def common_area(
    a: np.ndarray, b: np.ndarray, H: np.ndarray, size_a: Size, size_b: Size
) -> tuple[np.ndarray, np.ndarray]:
    """(N_a,), (N_b,) bool: which points of each picture the other one shows."""
    return inside(warp(a, H), size_b), inside(warp(b, np.linalg.inv(H)), size_a)


def repeatability(
    a: np.ndarray, b: np.ndarray, H: np.ndarray, size_a: Size, size_b: Size, threshold: float = 3.0, top: int = 300
) -> float | None:
    """SuperPoint's: share of the points in the common area that have one of the other picture within `threshold`
    pixels (measured in picture b), among the first `top` of each (points come strongest first). None where no point
    lies in the common area: such a pair is left out of the mean."""
    in_a, in_b = common_area(a, b, H, size_a, size_b)
    warped, other = warp(a[in_a][:top], H), b[in_b][:top]
    if len(warped) + len(other) == 0:
        return None
    if len(warped) == 0 or len(other) == 0:
        return 0.0
    near = np.linalg.norm(warped[:, None] - other[None], axis=2) <= threshold
    return float((near.any(axis=1).sum() + near.any(axis=0).sum()) / (len(warped) + len(other)))


def circle_overlap(distance: np.ndarray, radius_a: np.ndarray, radius_b: np.ndarray) -> np.ndarray:
    """Intersection over union of circles; the arguments broadcast."""
    d, r, s = np.broadcast_arrays(*(np.asarray(v, float) for v in (distance, radius_a, radius_b)))
    with np.errstate(divide="ignore", invalid="ignore"):
        half_a = np.arccos(np.clip((d**2 + r**2 - s**2) / (2 * d * r), -1, 1))
        half_b = np.arccos(np.clip((d**2 + s**2 - r**2) / (2 * d * s), -1, 1))
    lens = r**2 * (half_a - np.sin(2 * half_a) / 2) + s**2 * (half_b - np.sin(2 * half_b) / 2)
    small = np.minimum(r, s)
    lens = np.where(d <= np.abs(r - s), np.pi * small**2, np.where(d >= r + s, 0.0, lens))
    return lens / (np.pi * (r**2 + s**2) - lens)


def repeatability_overlap(
    a: np.ndarray, radius_a: np.ndarray, b: np.ndarray, radius_b: np.ndarray, min_overlap: float = 0.6
) -> float:
    """Key.Net's: one-to-one correspondences of overlap >= `min_overlap`, taken greedily from the largest on, divided
    by the smaller number of points.

    a (N, 2), b (M, 2) already lie in one picture and in the common area; of each pair the larger radius is brought to
    30 pixels, as the protocol does.
    """
    if len(a) == 0 or len(b) == 0:
        return 0.0
    larger = np.maximum(radius_a[:, None], radius_b[None])
    distance = np.linalg.norm(a[:, None] - b[None], axis=2)
    overlap = circle_overlap(distance * 30 / larger, radius_a[:, None] * 30 / larger, radius_b[None] * 30 / larger)
    i, j = np.nonzero(overlap >= min_overlap)
    free_a, free_b, found = np.ones(len(a), bool), np.ones(len(b), bool), 0
    for k in np.argsort(-overlap[i, j], kind="stable"):
        if free_a[i[k]] and free_b[j[k]]:
            free_a[i[k]] = free_b[j[k]] = False
            found += 1
    return found / min(len(a), len(b))


def matching_score(errors: np.ndarray, shared_a: int, shared_b: int, threshold: float = 5.0) -> float:
    """Correct matches (error strictly below `threshold` pixels) per point of the common area, of the picture that has
    fewer there (Key.Net)."""
    return float((errors < threshold).sum() / max(1, min(shared_a, shared_b)))


def corner_error(H: np.ndarray | None, H_true: np.ndarray, size_a: Size, *, superpoint: bool = False) -> float:
    """Mean distance in pixels between picture a's corners under H and under H_true; inf where H is None.

    The corners are (0, 0) to (width, height) as in glue-factory, or to (width - 1, height - 1) as in SuperPoint.
    """
    if H is None or not np.isfinite(H).all():
        return float("inf")
    w, h = (v - superpoint for v in size_a)
    corners = np.array([(0, 0), (w, 0), (w, h), (0, h)], float)
    return float(np.nan_to_num(np.linalg.norm(warp(corners, H) - warp(corners, H_true), axis=1), nan=np.inf).mean())
