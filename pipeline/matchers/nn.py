"""Nearest neighbours: mutual, with the ratio test (Lowe, IJCV 2004) in both directions, as hloc does it.

The ratio test prunes first: only rows that pass it are looked at from the other side, which costs their share of a full
comparison. Similarities are computed in blocks of rows, so memory does not grow with the product of the two counts.
"""

from typing import TYPE_CHECKING

import numpy as np

from pipeline.matchers import RATIO, Found, MatcherOptions

if TYPE_CHECKING:
    import torch


def match(d0: np.ndarray, d1: np.ndarray, options: MatcherOptions, device: str = "cpu") -> Found:
    """d0 (N, D), d1 (M, D) float32 of unit length (or zero: such a row never matches) to the matches that pass.

    i and j match when j is i's nearest, d(i, j) <= max_distance and d(i, j) <= max_ratio x d(i, i's second nearest);
    with `cross_check` also when the same holds seen from j. Where there is no second row, there is no rival and the
    ratio test passes. Of equally near rows one is taken. Raises ValueError when the dimensions differ.
    """
    import torch

    if d0.ndim != 2 or d1.ndim != 2 or d0.shape[1] != d1.shape[1]:
        raise ValueError(f"descriptors of shapes {d0.shape} and {d1.shape} cannot be compared")
    rows0, rows1 = np.flatnonzero(d0.any(axis=1)), np.flatnonzero(d1.any(axis=1))
    if not len(rows0) or not len(rows1):
        return Found(np.empty((0, 2), np.int32), np.empty(0, np.float32))
    with torch.inference_mode():
        first = torch.from_numpy(np.ascontiguousarray(d0[rows0], np.float32)).to(device)
        second = torch.from_numpy(np.ascontiguousarray(d1[rows1], np.float32)).to(device)
        i = torch.arange(len(first), device=device)
        j, ratio, good = nearest(first, second, options)
        i, j, ratio = i[good], j[good], ratio[good]
        if options.cross_check:
            columns, where = j.unique(return_inverse=True)
            back, back_ratio, good = nearest(second[columns], first, options)
            mutual = good[where] & (back[where] == i)
            i, j, ratio = i[mutual], j[mutual], torch.maximum(ratio, back_ratio[where])[mutual]
    indices = np.stack([rows0[i.cpu().numpy()], rows1[j.cpu().numpy()]], axis=1).astype(np.int32)
    return Found(indices, (1 - ratio).cpu().numpy())


def nearest(
    queries: "torch.Tensor", base: "torch.Tensor", options: MatcherOptions
) -> tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]:
    """Of each query (Q, D): its nearest row of the base (Q,) int64, the ratio of the nearest to the second nearest
    distance (Q,), and whether it passes the options' tests (Q,) bool."""
    import torch

    assert options.max_ratio is not None  # the caller knows what suits the descriptor
    index, ratio, good = [], [], []
    for part in queries.split(options.block):
        similarity = part @ base.T
        s1, j = similarity.max(dim=1)
        d1 = distance(s1)
        if len(base) > 1:
            d2 = distance(similarity.scatter_(1, j[:, None], -torch.inf).amax(dim=1))
        else:
            d2 = torch.full_like(d1, torch.inf)
        index.append(j)
        # two zero distances: a repeated row, ratio 1
        ratio.append(torch.where(d2 > 0, d1 / d2, torch.ones_like(d1)))
        good.append((ratio[-1] <= (options.max_ratio or RATIO)) & (d1 <= options.max_distance))
    return torch.cat(index), torch.cat(ratio), torch.cat(good)


def distance(similarity: "torch.Tensor") -> "torch.Tensor":
    """Euclidean distance of unit vectors from their inner product."""
    return (2 - 2 * similarity).clamp_min(0).sqrt()
