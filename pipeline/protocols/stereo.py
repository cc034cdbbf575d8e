"""Relative pose of image pairs from their matches: in, features.h5 and matches.h5; out, one error a pair.

SuperGlue's protocol (Sarlin et al., CVPR 2020): RANSAC on the essential matrix at one pixel with the true intrinsics,
AUC at 5, 10 and 20 degrees, precision and matching score by the epipolar distance; mAA is IMC's. A pair that gives no
pose fails, it is never left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.cameras import Pose, Reference
from pipeline.metrics.poses import (
    FAILED,
    accuracy_curve,
    auc,
    epipolar_distance,
    maa,
    rotation_error_deg,
    translation_error_deg,
)

CORRECT = 5e-4  # SuperGlue's bound on the squared epipolar distance in normalised coordinates


@dataclass(frozen=True)
class PosePair:
    """A pair with true intrinsics (3, 3), COLMAP's pixel convention, and true pose x1 = R x0 + t."""

    names: tuple[str, str]
    K: tuple[np.ndarray, np.ndarray]
    pose: Pose


@dataclass(frozen=True)
class StereoPose:
    """An estimated pose x1 = R x0 + t, t of unit length, and which matches support it: inliers (M,) bool."""

    pose: Pose
    inliers: np.ndarray


def pairs_of(reference: Reference) -> list[PosePair]:
    """All pairs of a scene with poses and intrinsics, in the order of names."""
    names = sorted(name for name in reference.poses if name in reference.cameras)
    pairs = []
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            first, second = reference.poses[a], reference.poses[b]
            R = second.R @ first.R.T
            K = (reference.cameras[a].K, reference.cameras[b].K)
            pairs.append(PosePair((a, b), K, Pose(R, second.t - R @ first.t)))
    return pairs


def estimate_pose(
    x0: np.ndarray, x1: np.ndarray, K0: np.ndarray, K1: np.ndarray, seed: int, threshold_px: float = 1.0
) -> StereoPose | None:
    """Robust relative pose from matched points (M, 2), COLMAP convention; None where there is none.

    OpenCV's RANSAC draws the same samples in every run: the seed shuffles the matches instead.
    """
    import cv2

    if len(x0) < 5:
        return None
    order = np.random.default_rng(seed).permutation(len(x0))
    n0, n1 = normalised(x0, K0)[order], normalised(x1, K1)[order]
    E, mask = cv2.findEssentialMat(n0, n1, np.eye(3), cv2.RANSAC, 0.99999, threshold_px / mean_focal(K0, K1), 10000)
    if E is None:
        return None
    best: StereoPose | None = None
    most = 0
    for candidate in np.split(E, len(E) // 3):
        front, R, t, _ = cv2.recoverPose(candidate, n0, n1, np.eye(3), 1e9, mask=mask.copy())[:4]
        if front > most:
            inliers = np.zeros(len(x0), bool)
            inliers[order] = mask.ravel() > 0
            best, most = StereoPose(Pose(R, t.ravel()), inliers), front
    return best


def mean_focal(K0: np.ndarray, K1: np.ndarray) -> float:
    """Pixels per unit of camera coordinates: fx of one image and fy of the other, as in SuperGlue's evaluation."""
    return float(K0[0, 0] + K1[1, 1]) / 2


def normalised(x: np.ndarray, K: np.ndarray) -> np.ndarray:
    """(N, 2) pixels to camera coordinates."""
    return (np.asarray(x, float) - K[:2, 2]) / (K[0, 0], K[1, 1])


def score_pairs(features: Path, matches: Path, pairs: Sequence[PosePair], seed: int) -> dict[str, Any]:
    """Scores over all pairs: `scores` by name, `curve` (accuracy at 1..10 degrees) and `pairs`, one entry a pair.

    Raises ValueError where no pair is given; a pair without features or matches counts as failed.
    """
    import h5py

    from pipeline.files import features as feature_files
    from pipeline.files import matches as match_files

    rows = []
    with h5py.File(features, "r") as feature_file, h5py.File(matches, "r") as match_file:
        for pair in pairs:
            a, b = pair.names
            there = match_files.has(match_file, a, b) or match_files.has(match_file, b, a)
            if not (there and feature_files.has(feature_file, a) and feature_files.has(feature_file, b)):
                rows.append(_row(pair, np.empty((0, 2)), np.empty((0, 2)), 0, seed))
                continue
            first, second = (feature_files.read(feature_file, n, descriptors=False).keypoints for n in pair.names)
            indices = match_files.read(match_file, a, b).indices
            rows.append(_row(pair, first[indices[:, 0]], second[indices[:, 1]], len(first), seed))
    errors = np.array([row["error_deg"] for row in rows])
    scores = {
        "stereo_maa_10": maa(errors, 10),
        "stereo_maa_5": maa(errors, 5),
        "stereo_auc_5": auc(errors, 5),
        "stereo_auc_10": auc(errors, 10),
        "stereo_auc_20": auc(errors, 20),
        "stereo_precision": float(np.mean([row["precision"] for row in rows])),
        "stereo_matching_score": float(np.mean([row["matching_score"] for row in rows])),
        "stereo_matches": float(np.mean([row["matches"] for row in rows])),
        "stereo_inliers": float(np.mean([row["inliers"] for row in rows])),
    }
    return {"scores": scores, "curve": accuracy_curve(errors).tolist(), "pairs": rows}


def _row(pair: PosePair, x0: np.ndarray, x1: np.ndarray, keypoints: int, seed: int) -> dict[str, Any]:
    found = estimate_pose(x0, x1, *pair.K, seed)
    rotation = translation = FAILED
    if found is not None:
        rotation = float(rotation_error_deg(found.pose.R, pair.pose.R))
        translation = float(translation_error_deg(found.pose.t, pair.pose.t))
    correct = 0
    if len(x0):
        n0, n1 = normalised(x0, pair.K[0]), normalised(x1, pair.K[1])
        correct = int((epipolar_distance(n0, n1, pair.pose.R, pair.pose.t) < CORRECT).sum())
    return {
        "names": list(pair.names),
        "rotation_deg": rotation,
        "translation_deg": translation,
        "error_deg": max(rotation, translation),
        "matches": len(x0),
        "inliers": 0 if found is None else int(found.inliers.sum()),
        "precision": correct / len(x0) if len(x0) else 0.0,
        "matching_score": correct / keypoints if keypoints else 0.0,
    }
