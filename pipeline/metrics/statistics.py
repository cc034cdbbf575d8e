"""Mean, spread and paired differences over seeds and scenes."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Summary:
    """Of n values: mean, sample standard deviation (0 for one value), least and largest."""

    n: int
    mean: float
    std: float
    min: float
    max: float


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences a - b with its 95 % bootstrap interval, and in how many pairs a was larger."""

    n: int
    mean: float
    low: float
    high: float
    larger: int


def summarise(values: np.ndarray) -> Summary:
    """Summary of (n,) values, n >= 1."""
    v = np.asarray(values, float)
    spread = float(v.std(ddof=1)) if len(v) > 1 else 0.0
    return Summary(len(v), float(v.mean()), spread, float(v.min()), float(v.max()))


def paired_difference(
    a: np.ndarray, b: np.ndarray, groups: np.ndarray | None = None, resamples: int = 2000, seed: int = 0
) -> Difference:
    """a - b over (n,) pairs of values of the same scene and seed, with the percentile bootstrap's 95 % interval.

    groups: (n,) labels (the scene); whole groups are drawn, because seeds of one scene are not independent. With one
    group (or none given) single pairs are drawn.
    """
    difference = np.asarray(a, float) - np.asarray(b, float)
    labels = np.arange(len(difference)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if labels.max() == 0:
        labels = np.arange(len(difference))
    sums, sizes = np.bincount(labels, weights=difference), np.bincount(labels)
    drawn = np.random.default_rng(seed).integers(0, len(sums), (resamples, len(sums)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return Difference(len(difference), float(difference.mean()), float(low), float(high), int((difference > 0).sum()))
