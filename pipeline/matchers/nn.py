"""Nearest neighbours: mutual, with the ratio test (Lowe, IJCV 2004) in both directions, as hloc does it.

Exact, and nearly all of the arithmetic in half precision. A coarse product of low precision, in blocks that stay in the
cache, bounds every similarity to within a known error. Rows that cannot pass the tests are dropped by these bounds;
of the rest, the few columns that can be the nearest or second nearest are compared exactly. Only what passes is looked
at from the other side.
"""

from typing import TYPE_CHECKING

import numpy as np

from pipeline.matchers import RATIO, Found, MatcherOptions

if TYPE_CHECKING:
    import torch

GROUPS = 256  # columns are compared by the maxima of interleaved groups: one sweep finds the two best groups
PAIRS = 16384  # compared exactly at once: 50 MB
CROWDED = 64  # candidates a row (there are 2 to 8) from which the coarse product is not worth its speed
FLOAT_ERROR = 2e-5  # of an inner product of unit vectors in float32
NOT_UNIT = 0.01  # how far a squared norm may be from 1


def match(d0: np.ndarray, d1: np.ndarray, options: MatcherOptions, device: str = "cpu") -> Found:
    """d0 (N, D), d1 (M, D) float32 of unit length (or zero: such a row never matches) to the matches that pass.

    i and j match when j is i's nearest, d(i, j) <= max_distance and d(i, j) <= max_ratio x d(i, i's second nearest);
    with `cross_check` also when the same holds seen from j. Where there is no second row, there is no rival and the
    ratio test passes. Of equally near rows the first is taken. Raises ValueError when the dimensions differ or rows
    are not of unit length.
    """
    import torch

    if d0.ndim != 2 or d1.ndim != 2 or d0.shape[1] != d1.shape[1]:
        raise ValueError(f"descriptors of shapes {d0.shape} and {d1.shape} cannot be compared")
    rows0, rows1 = np.flatnonzero(d0.any(axis=1)), np.flatnonzero(d1.any(axis=1))
    if not len(rows0) or not len(rows1):
        return Found(np.empty((0, 2), np.int32), np.empty(0, np.float32))
    with torch.inference_mode():
        first, second = (
            torch.from_numpy(np.ascontiguousarray(d if len(rows) == len(d) else d[rows], np.float32)).to(device)
            for d, rows in ((d0, rows0), (d1, rows1))
        )
        i, j, ratio = nearest(first, second, options)
        if options.cross_check and len(i):
            columns, where = j.unique(return_inverse=True)
            k, back, back_ratio = nearest(second[columns], first, options)
            theirs = torch.full_like(columns, -1).index_copy_(0, k, back)
            ratios = ratio.new_ones(len(columns)).index_copy_(0, k, back_ratio)
            mutual = theirs[where] == i
            i, j, ratio = i[mutual], j[mutual], torch.maximum(ratio, ratios[where])[mutual]
    indices = np.stack([rows0[i.cpu().numpy()], rows1[j.cpu().numpy()]], axis=1).astype(np.int32)
    return Found(indices, (1 - ratio).float().cpu().numpy())


def nearest(
    queries: "torch.Tensor", base: "torch.Tensor", options: MatcherOptions
) -> tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]:
    """The queries (Q, D) that pass the options' tests, ascending: their rows (K,) int64, their nearest rows of the base
    (K,) int64, and the ratios of nearest to second nearest distance (K,) float64."""
    import torch

    max_ratio = options.max_ratio or RATIO
    off = max(float((d.square().sum(dim=1) - 1).abs().max()) for d in (queries, base))
    if not off < NOT_UNIT:
        raise ValueError("descriptors must be finite rows of unit length")
    groups = max(2, min(GROUPS, len(base)))
    padded = torch.nn.functional.pad(base, (0, 0, 0, -len(base) % groups))
    dtype, error = coarse_type(base.device)
    coarse_base = padded.to(dtype).T
    # Sizes in steps: for each new one oneDNN would write code anew, and keep it.
    coarse_queries = torch.nn.functional.pad(queries.to(dtype), (0, 0, 0, -len(queries) % GROUPS)).split(options.block)
    products = base.new_empty((len(coarse_queries[0]), len(padded)), dtype=dtype)
    found = []
    for part, rounded in zip(queries.split(options.block), coarse_queries, strict=False):
        coarse = torch.mm(rounded, coarse_base, out=products[: len(rounded)])[: len(part)]
        row, column = candidates(coarse, groups, error + off, max_ratio, options.max_distance)
        if len(row) > CROWDED * len(part):  # descriptors so alike that the coarse product cannot tell them apart
            row, column = candidates(part @ padded.T, groups, FLOAT_ERROR + off, max_ratio, options.max_distance)
        real = column < len(base)
        found.append(two_nearest(part, base, row[real], column[real]))
    j, first, second = (torch.cat(parts) for parts in zip(*found, strict=True))
    ratio = torch.where(second > 0, first / second, 1.0)  # a repeated row at distance 0 has a rival
    i = ((j < len(base)) & (ratio <= max_ratio) & (first <= options.max_distance)).nonzero()[:, 0]
    return i, j[i], ratio[i]


def two_nearest(
    queries: "torch.Tensor", base: "torch.Tensor", row: "torch.Tensor", column: "torch.Tensor"
) -> tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]:
    """Of each query (Q, D), among the columns (P,) paired with it by row (P,): the nearest row of the base (Q,), its
    distance and the second nearest's (Q,) float64; len(base) and infinity where there is none."""
    import torch

    distance = torch.cat(
        [
            (queries[r].double() - base[c].double()).norm(dim=1)
            for r, c in zip(row.split(PAIRS), column.split(PAIRS), strict=True)
        ]
    )
    far = distance.new_full((len(queries),), torch.inf)
    first = far.scatter_reduce(0, row, distance, "amin")
    at = distance == first[row]
    j = torch.full_like(first, len(base), dtype=torch.int64).scatter_reduce(0, row[at], column[at], "amin")
    others = column != j[row]
    return j, first, far.scatter_reduce(0, row[others], distance[others], "amin")


def candidates(
    coarse: "torch.Tensor", groups: int, error: float, max_ratio: float, max_distance: float
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """From coarse similarities (R, M), each within `error` of the truth: rows (P,) and columns (P,) int64, in which
    every row that may pass the tests stands with all columns that may be its two nearest. M is a multiple of `groups`;
    group g is the columns g, g + groups, ..."""
    import torch

    # Positive floats are ordered as their bits are, and integers compare four times faster than bfloat16.
    bits = coarse.view(torch.int32 if coarse.dtype == torch.float32 else torch.int16)
    maxima = bits.view(len(bits), -1, groups).amax(dim=1).view(coarse.dtype).float()
    best = maxima.topk(2, dim=1).values
    reach = best[:, 1] - 2 * error  # the two nearest have at least this, coarsely
    unordered = reach <= 0  # negative floats are ordered upside down: take the whole row
    near, rival = 1 - best[:, 0] - error, 1 - best[:, 1] + error  # bounds of half the squared distances
    alive = ((near <= max_ratio**2 * rival) & (2 * near <= max_distance**2)) | unordered
    row = alive.nonzero()[:, 0]
    reach = torch.where(unordered, -torch.inf, reach)[row]
    r, group = (maxima[row] >= reach[:, None]).nonzero(as_tuple=True)
    values = coarse.view(len(coarse), -1, groups)[row[r], :, group]
    p, member = (values >= reach[r, None]).nonzero(as_tuple=True)
    return row[r[p]], member * groups + group[p]


def coarse_type(device: "torch.device") -> tuple["torch.dtype", float]:
    """The type for the coarse product and the largest error of an inner product of unit vectors: both factors and the
    result are rounded (2**-9 each in bfloat16, 2**-11 in half precision, sums included with room to spare)."""
    import torch

    if device.type == "cuda":
        return torch.float16, 0.003
    if getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)():
        return torch.bfloat16, 0.006
    return torch.float32, FLOAT_ERROR
