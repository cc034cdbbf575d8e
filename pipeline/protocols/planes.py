"""Matches between pictures of one plane: in, features.h5 and matches.h5; out, MMA, repeatability, homography AUC.

Sources: see pipeline/metrics/homographies.py. Pixels follow COLMAP's convention, and so do the homographies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.metrics import homographies as metrics
from pipeline.metrics.poses import auc

THRESHOLDS = np.arange(1, 11)  # pixels


@dataclass(frozen=True)
class PlanePair:
    """H (3, 3) maps pixels of the first picture to the second."""

    names: tuple[str, str]
    H: np.ndarray


def estimate_homography(a: np.ndarray, b: np.ndarray, seed: int, threshold_px: float = 1.0) -> np.ndarray | None:
    """Robust homography of matched points (M, 2); None where there is none. The seed shuffles the matches, because
    OpenCV's RANSAC draws the same samples in every run."""
    import cv2

    if len(a) < 4:
        return None
    order = np.random.default_rng(seed).permutation(len(a))
    H, _ = cv2.findHomography(
        a[order].astype(np.float64), b[order].astype(np.float64), cv2.RANSAC, threshold_px, maxIters=3000
    )
    return H


def score_planes(features: Path, matches: Path, pairs: Sequence[PlanePair], seed: int) -> dict[str, Any]:
    """Scores over all pairs: `scores` by name, `curve` (MMA at 1..10 pixels) and `pairs`, one entry a pair."""
    import h5py

    from pipeline.files import features as feature_files
    from pipeline.files import matches as match_files

    rows = []
    with h5py.File(features, "r") as feature_file, h5py.File(matches, "r") as match_file:
        for pair in pairs:
            a, b = pair.names
            there = match_files.has(match_file, a, b) or match_files.has(match_file, b, a)
            if not (there and feature_files.has(feature_file, a) and feature_files.has(feature_file, b)):
                raise ValueError(f"{a} + {b}: no features or no matches")
            first = feature_files.read(feature_file, a, descriptors=False)
            second = feature_files.read(feature_file, b, descriptors=False)
            indices = match_files.read(match_file, a, b).indices
            rows.append(
                _row(pair, first.keypoints, second.keypoints, indices, first.image_size, second.image_size, seed)
            )
    accuracy = np.mean([row["accuracy"] for row in rows], axis=0)
    corners = np.array([np.inf if row["corner_error_px"] is None else row["corner_error_px"] for row in rows])
    repeated = [row["repeatability"] for row in rows if row["repeatability"] is not None]
    scores = {
        "mma": float(accuracy.mean()),
        "mma_1": float(accuracy[0]),
        "mma_3": float(accuracy[2]),
        "mma_5": float(accuracy[4]),
        "repeatability": float(np.mean(repeated)) if repeated else 0.0,
        "plane_matching_score": float(np.mean([row["matching_score"] for row in rows])),
        "homography_auc_1": auc(corners, 1),
        "homography_auc_3": auc(corners, 3),
        "homography_auc_5": auc(corners, 5),
        "plane_matches": float(np.mean([row["matches"] for row in rows])),
    }
    return {"scores": scores, "curve": accuracy.tolist(), "pairs": rows}


def _row(
    pair: PlanePair,
    a: np.ndarray,
    b: np.ndarray,
    indices: np.ndarray,
    size_a: metrics.Size,
    size_b: metrics.Size,
    seed: int,
) -> dict[str, Any]:
    """Repeatability counts places once: several orientations of one keypoint are one point."""
    matched_a, matched_b = a[indices[:, 0]], b[indices[:, 1]]
    errors = metrics.reprojection_errors(matched_a, matched_b, pair.H)
    places_a, places_b = _places(a), _places(b)
    shared_a, shared_b = metrics.common_area(places_a, places_b, pair.H, size_a, size_b)
    corner = metrics.corner_error(estimate_homography(matched_a, matched_b, seed), pair.H, size_a)
    return {
        "names": list(pair.names),
        "matches": len(indices),
        "accuracy": metrics.matching_accuracy(errors, THRESHOLDS).tolist(),
        "repeatability": metrics.repeatability(places_a, places_b, pair.H, size_a, size_b, top=1000),
        "matching_score": metrics.matching_score(errors, int(shared_a.sum()), int(shared_b.sum())),
        "corner_error_px": corner if np.isfinite(corner) else None,
    }


def _places(points: np.ndarray) -> np.ndarray:
    """The points without repeats, in their order."""
    _, first = np.unique(points, axis=0, return_index=True)
    return points[np.sort(first)]
