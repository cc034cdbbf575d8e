"""How good descriptors are: FPR95 in its two published forms, average precision, matching and retrieval, and how
many of their dimensions are in use. numpy only.

Distances: smaller is more alike. All functions take plain arrays; scores lie in 0..1.
"""

import numpy as np


def fpr95(distances: np.ndarray, matches: np.ndarray) -> float:
    """False positive rate at 95 % recall, as HardNet's and TFeat's programs count it.

    distances (N,), matches (N,) bool. Of all pairs sorted by distance: the negatives before the pair at which 95 % of
    the positives are reached, over all negatives.
    """
    matches = np.asarray(matches, dtype=bool)[np.argsort(distances, kind="stable")]
    found = np.cumsum(matches)
    at = int(np.argmax(found >= 0.95 * found[-1]))
    return float((~matches[:at]).sum() / (~matches).sum())


def fpr95_hynet(distances: np.ndarray, matches: np.ndarray) -> float:
    """The same as HyNet's and SOSNet's programs count it: share of negatives not farther than positive number
    ceil(0.95 P) (from 0), which is one positive more than asked for."""
    distances, matches = np.asarray(distances), np.asarray(matches, dtype=bool)
    positives = np.sort(distances[matches])
    threshold = positives[min(int(np.ceil(0.95 * len(positives))), len(positives) - 1)]
    return float((distances[~matches] <= threshold).mean())


def average_precision(distances: np.ndarray, correct: np.ndarray, positives: int | None = None) -> float:
    """Trapezoid area under precision over recall (HPatches' Python form). Ties keep their order.

    distances (N,), correct (N,) bool; `positives`: how many there are to find (default: the correct ones listed).
    """
    correct = np.asarray(correct, dtype=bool)[np.argsort(distances, kind="stable")]
    total = int(correct.sum()) if positives is None else positives
    true = np.concatenate([[0], np.cumsum(correct)])
    taken = np.arange(len(correct) + 1)
    precision = np.maximum(true, 1e-10) / np.maximum(taken, 1e-10)
    return float(np.trapezoid(precision, true / total))


def roc_area(distances: np.ndarray, matches: np.ndarray) -> float:
    """Area under the receiver operating characteristic: how often a match beats a non-match (ties by order)."""
    matches = np.asarray(matches, dtype=bool)[np.argsort(distances, kind="stable")]
    recall = np.concatenate([[0], np.cumsum(matches)]) / max(matches.sum(), 1)
    fallout = np.concatenate([[0], np.cumsum(~matches)]) / max((~matches).sum(), 1)
    return float(np.trapezoid(recall, fallout))


def matching(distances: np.ndarray) -> tuple[float, float]:
    """HPatches' matching task: (average precision, share of right nearest neighbours).

    distances (N, N): row i a reference patch, column i its one right partner. P = N, as the benchmark has it.
    """
    nearest = distances.argmin(axis=1)
    correct = nearest == np.arange(len(distances))
    best = distances[np.arange(len(distances)), nearest]
    return average_precision(best, correct, len(distances)), float(correct.mean())


def matching_by_ratio(distances: np.ndarray) -> float:
    """Average precision of nearest neighbours ordered by the ratio of the first to the second distance, P = N."""
    nearest = np.argpartition(distances, 1, axis=1)[:, :2]
    two = np.take_along_axis(distances, nearest, axis=1)
    swap = two[:, 0] > two[:, 1]
    nearest[swap], two[swap] = nearest[swap, ::-1], two[swap, ::-1]
    ratio = two[:, 0] / np.maximum(two[:, 1], 1e-12)
    return average_precision(ratio, nearest[:, 0] == np.arange(len(distances)), len(distances))


def retrieval(distances: np.ndarray, relevant: np.ndarray) -> float:
    """Mean average precision over queries (trapezoid). distances, relevant: (queries, pool); every query has one or
    more relevant entries."""
    return float(np.mean([average_precision(d, r) for d, r in zip(distances, relevant, strict=True)]))


def retrieval_one(distances: np.ndarray) -> float:
    """Mean of 1 / rank of the one right partner (the diagonal) among all columns: retrieval with one positive. Ties
    count against it, and so does NaN: descriptors that are all the same retrieve nothing."""
    own = distances.diagonal()[:, None]
    return float((1 / (~(distances > own)).sum(axis=1)).mean())


def dimensions_used(descriptors: np.ndarray) -> float:
    """(N, D) descriptors: the participation ratio of their covariance's eigenvalues, (sum)² / sum of squares.

    D where all directions vary alike and independently, 1 where all lie on a line; 0 where all are the same, or one is
    not finite.
    """
    descriptors = np.asarray(descriptors, np.float64)
    covariance = np.atleast_2d(np.cov(descriptors, rowvar=False, bias=True))
    variance = np.trace(covariance)  # the sum of the eigenvalues, as the sum of the entries' squares is that of theirs
    if not variance > 1e-12 * np.mean(descriptors**2):
        return 0.0
    return float(variance**2 / (covariance**2).sum())
