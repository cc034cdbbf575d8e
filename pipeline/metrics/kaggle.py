"""The scores of Kaggle's Image Matching Challenges 2022 to 2025.

Rotations and translations are cam_from_world; the truth is metric. Written after the public copies of the organisers'
scoring notebooks; where text and code of 2025 disagree (how a scene chooses its cluster), the code is followed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from pipeline.metrics.poses import relative_poses, rotation_error_deg

OUTLIERS = "outliers"
ROTATIONS_2022 = np.linspace(1, 10, 10)
METRES_2022 = np.geomspace(0.2, 5, 10)
# (dataset, scene) of the training set of 2023: degrees and metres, taken together one by one.
THRESHOLDS_2023: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = {
    **{("haiper", s): (np.linspace(1, 10, 10), np.geomspace(0.05, 0.5, 10)) for s in ("bike", "chairs", "fountain")},
    **{("heritage", s): (np.linspace(1, 10, 10), np.geomspace(0.1, 2, 10)) for s in ("cyprus", "dioscuri")},
    ("heritage", "wall"): (np.linspace(0.2, 10, 10), np.geomspace(0.05, 1, 10)),
    ("urban", "kyiv-puppet-theater"): (np.linspace(1, 10, 10), np.geomspace(0.5, 5, 10)),
}
METRES_2024 = np.array([0.025, 0.05, 0.1, 0.2, 0.5, 1.0])
METRES_2024_TRANSPARENT = METRES_2024 / 10


def translation_error_metres(t: np.ndarray, t_true: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Distance between the true translation (..., 3) in metres (times `scale`) and the estimate at its length, with
    the better of both signs (2022, 2023)."""
    t, t_true = np.asarray(t, float), np.asarray(t_true, float) * scale
    length = np.linalg.norm(t_true, axis=-1, keepdims=True)
    t = t * length / (np.linalg.norm(t, axis=-1, keepdims=True) + 1e-15)
    return np.minimum(np.linalg.norm(t_true - t, axis=-1), np.linalg.norm(t_true + t, axis=-1))


def joint_maa(
    degrees: np.ndarray, metres: np.ndarray, max_degrees: np.ndarray, max_metres: np.ndarray, *, strict: bool
) -> float:
    """Mean over the thresholds k of the share of pairs within both of them; strict: below, else equality counts."""
    e, t = np.asarray(degrees, float)[:, None], np.asarray(metres, float)[:, None]
    within = (e < max_degrees) & (t < max_metres) if strict else (e <= max_degrees) & (t <= max_metres)
    return float(within.mean())


def maa_2022(degrees: np.ndarray, metres: np.ndarray) -> float:
    """One scene of 2022: rotation (degrees) and translation (metres) errors of its pairs. Final: mean over scenes."""
    return joint_maa(degrees, metres, ROTATIONS_2022, METRES_2022, strict=True)


def maa_2023(
    R: np.ndarray, t: np.ndarray, R_true: np.ndarray, t_true: np.ndarray, thresholds: tuple[np.ndarray, np.ndarray]
) -> float:
    """One scene of 2023: poses of all its images, (N, 3, 3) and (N, 3), over all pairs. An unregistered image carries
    the identity and zero, as the challenge wants; never NaN. Final: `mean_of_datasets`."""
    if not (np.isfinite(R).all() and np.isfinite(t).all()):
        raise ValueError("2023 has no NaN: an unregistered image has the identity and zero")
    (dR, dt), (dR_true, dt_true) = relative_poses(R, t), relative_poses(R_true, t_true)
    metres = translation_error_metres(dt, dt_true)
    return joint_maa(rotation_error_deg(dR, dR_true), metres, *thresholds, strict=False)


def mean_of_datasets(by_scene: Mapping[tuple[str, str], float]) -> float:
    """Mean over scenes of a dataset, then over datasets (2023); keys are (dataset, scene)."""
    datasets: dict[str, list[float]] = {}
    for (dataset, _), value in by_scene.items():
        datasets.setdefault(dataset, []).append(value)
    return float(np.mean([np.mean(values) for values in datasets.values()]))


def registered_within(estimated: np.ndarray, true: np.ndarray, thresholds: np.ndarray, batch: int = 4096) -> np.ndarray:
    """(K,) cameras that the best similarity for each threshold brings closer than it to the truth (2024, 2025).

    Centres (N, 3) of the images that have one. Exhaustive: a similarity of every triple, refitted for each threshold
    on the cameras within it where these are more than two; each refitted one is tried for all thresholds.
    """
    n, thresholds = len(true), np.asarray(thresholds, float)
    most = np.zeros(len(thresholds), int)
    if n < 3:
        return most
    triples = np.array(list(combinations(range(n), 3)))
    tried: set[bytes] = set()
    for start in range(0, len(triples), batch):
        chosen = triples[start : start + batch]
        weights = np.zeros((len(chosen), n))
        np.put_along_axis(weights, chosen, 1.0, axis=1)
        distance = _distances(estimated, true, weights)
        inliers = np.unique((distance[:, None] < thresholds[None, :, None]).reshape(-1, n), axis=0)
        fresh = [row for row in inliers if row.sum() > 2 and row.tobytes() not in tried]
        tried.update(row.tobytes() for row in fresh)
        for first in range(0, len(fresh), batch):
            refitted = _distances(estimated, true, np.array(fresh[first : first + batch], float))
            counts = (refitted[:, None] < thresholds[None, :, None]).sum(axis=2)
            most = np.maximum(most, counts.max(axis=0))
    return most


def _distances(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B, N) distances of b to a moved by the similarity that fits the rows of weight 1; weights (B, N).

    The scale is the ratio of the root mean square distances to the centroid, as the organisers take it.
    """
    total = weights.sum(axis=1)[:, None]
    mean_a, mean_b = weights @ a / total, weights @ b / total
    ac, bc = a[None] - mean_a[:, None], b[None] - mean_b[:, None]
    U, _, Vt = np.linalg.svd(np.einsum("kn,kni,knj->kij", weights, bc, ac))
    sign = np.sign(np.linalg.det(U) * np.linalg.det(Vt))
    U[:, :, 2] *= sign[:, None]
    R = U @ Vt
    spread_a, spread_b = (np.einsum("kn,kni,kni->k", weights, p, p) for p in (ac, bc))
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(spread_a > 0, np.sqrt(spread_b / spread_a), np.nan)
    return np.linalg.norm(scale[:, None, None] * np.einsum("kij,knj->kni", R, ac) - bc, axis=2)


def maa_2024(estimated: Mapping[str, np.ndarray], true: Mapping[str, np.ndarray], thresholds: np.ndarray) -> float:
    """One scene of 2024: camera centres (3,) by image. Images that are missing or not finite stay in the denominator.
    Raises ValueError for a scene of three images or fewer: its score is not defined. Final: mean over scenes."""
    if len(true) <= 3:
        raise ValueError("a scene needs more than three images")
    counts = registered_within(*_common(estimated, true), thresholds)
    return float(np.maximum(0, counts - 3).sum() / (len(thresholds) * (len(true) - 3)))


def _common(estimated: Mapping[str, np.ndarray], true: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    names = [n for n in true if n in estimated and np.isfinite(estimated[n]).all()]
    if not names:
        return np.empty((0, 3)), np.empty((0, 3))
    return np.array([estimated[n] for n in names], float), np.array([true[n] for n in names], float)


@dataclass(frozen=True)
class Score2025:
    """A dataset's score: the harmonic mean of registration (`maa`) and clustering."""

    score: float
    maa: float
    clustering: float


def score_2025(
    scenes: Mapping[str, Mapping[str, np.ndarray]],
    clusters: Mapping[str, Mapping[str, np.ndarray]],
    thresholds: Mapping[str, np.ndarray],
    skip: int = 2,
) -> Score2025:
    """One dataset of 2025.

    scenes: true centres (3,) by image, by scene, without the outliers. clusters: centres (3,), NaN where there is no
    pose, by image, by cluster, with the images named outliers under "outliers". thresholds: metres by scene; the first
    `skip` are not used, as in the public scorer. Final: mean over datasets.
    """
    correct = possible = common = claimed = 0.0
    for scene, true in scenes.items():
        metres = np.asarray(thresholds[scene], float)[skip:]
        best: tuple[int, float, str] | None = None
        for cluster, images in clusters.items():
            shared = {name: centre for name, centre in images.items() if name in true}
            if not shared:
                continue
            counts = registered_within(*_common(shared, true), metres) if cluster != OUTLIERS else np.zeros(len(metres))
            gained = float(np.maximum(0, counts - 3).sum() / len(metres))
            if best is None or (len(shared), gained) > best[:2]:
                best = (len(shared), gained, cluster)
        if best is None or best[2] == OUTLIERS:
            continue
        common, claimed = common + best[0], claimed + len(clusters[best[2]])
        correct, possible = correct + best[1], possible + len(true) - 3
    maa = correct / possible if possible > 0 else 0.0
    clustering = common / claimed if claimed else 0.0
    total = maa + clustering
    return Score2025(2 * maa * clustering / total if total else 0.0, maa, clustering)
