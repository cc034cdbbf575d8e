"""Image Matching Challenge 2020 and 2021: the scores of bags of images, and the benchmark's own ATE.

Source: Jin et al., "Image Matching across Wide Baselines", IJCV 2021, and the benchmark's code. mAA is
in poses.py.
"""

import math
from dataclasses import dataclass

import numpy as np

from pipeline.metrics.poses import accuracy_curve

CONFIDENCE = 0.9999  # that RANSAC meets a triple of inliers


@dataclass(frozen=True)
class Bag:
    """One bag: errors of all its pairs in degrees (180 or inf = failed), and its best model (None = the bag failed)."""

    size: int
    errors_deg: np.ndarray
    registered: int
    points3D: int
    track_length: float
    ate: float | None

    @property
    def failed(self) -> bool:
        return self.registered == 0


def rotation_between(m: np.ndarray, d: np.ndarray) -> np.ndarray:
    """(3, 3) rotation of least squares that turns the centred points m (N, 3) into d."""
    U, _, Vt = np.linalg.svd((d - d.mean(axis=0)).T @ (m - m.mean(axis=0)))
    return U @ np.diag([1, 1, np.sign(np.linalg.det(U) * np.linalg.det(Vt))]) @ Vt


def benchmark_alignment(m: np.ndarray, d: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale, R and translation as the benchmark computes them; it then moves points as s (R m + t).

    The centroid is scaled too, so the result is wrong unless s = 1 or the centroid is zero. For reproducing published
    numbers only; `alignment.umeyama` is right.
    """
    R = rotation_between(m, d)
    model, data = (np.linalg.norm(p - p.mean(axis=0), axis=1) for p in (m, d))
    there = model > 0
    scale = float(np.median(data[there] / model[there])) if there.any() else 1.0
    return scale, R, d.mean(axis=0) - R @ m.mean(axis=0)


def ransac_iterations(n: int) -> int:
    """How many triples of n cameras the benchmark draws."""
    share = max(3 / n, 0.5)
    return 1 if share == 1 else int(math.log(1 - CONFIDENCE) / math.log(1 - share**3))


def half_diagonal(centres: np.ndarray) -> float:
    """Half the diagonal of the centres' bounding box: the error of a failed alignment."""
    return float(np.linalg.norm(np.ptp(centres, axis=0)) / 2)


def benchmark_ate(estimated: np.ndarray, true: np.ndarray, seed: int = 0) -> float | None:
    """The benchmark's absolute trajectory error of the registered cameras' centres (N, 3); None below three.

    RANSAC over triples: most cameras within half the true centres' spread, then the smallest mean error of those.
    """
    n = len(true)
    if n < 3:
        return None
    spread = math.sqrt(np.mean(np.sum((true - true.mean(axis=0)) ** 2, axis=1)))
    rng = np.random.default_rng(seed)
    best = (0, -math.inf)
    for _ in range(ransac_iterations(n)):
        triple = rng.choice(n, 3, replace=False)
        scale, R, t = benchmark_alignment(estimated[triple], true[triple])
        distance = np.linalg.norm(scale * (estimated @ R.T + t) - true, axis=1)
        inliers = distance < 0.5 * spread
        if inliers.any():
            best = max(best, (int(inliers.sum()), -float(distance[inliers].mean())))
    worst = half_diagonal(true)
    inliers, error = best[0], -best[1]
    return worst if inliers < 0.3 * n or error > worst else error


def multiview(bags: list[Bag]) -> dict[str, float]:
    """Scores of the bags of one size: accuracy over all of them, sizes of models over those that succeeded."""
    good = [bag for bag in bags if not bag.failed]
    curve = np.mean([accuracy_curve(bag.errors_deg) for bag in bags], axis=0)
    errors = [bag.ate for bag in good if bag.ate is not None]

    def mean(values: list[float]) -> float:
        return float(np.mean(values)) if values else 0.0

    return {
        "maa_10": float(curve.mean()),
        "maa_5": float(curve[:5].mean()),
        "success_rate": len(good) / len(bags),
        "registered": mean([bag.registered for bag in good]),
        "points3D": mean([bag.points3D for bag in good]),
        "track_length": mean([bag.track_length for bag in good]),
        "ate": mean(errors) if errors else math.nan,
    }


def bag_average(by_size: dict[int, dict[str, float]]) -> dict[str, float]:
    """Plain mean over bag sizes, with the mean ratio of registered cameras."""
    names = list(next(iter(by_size.values())))
    average = {name: float(np.mean([scores[name] for scores in by_size.values()])) for name in names}
    ratios = [scores["registered"] / size for size, scores in by_size.items()]
    return average | {"registered_ratio": float(np.mean(ratios))}
