"""Nearest neighbours: mutual, with the ratio test (Lowe, IJCV 2004) in both directions, as hloc does it.

Exact, and nearly all of the arithmetic in bytes or half precision. A coarse product of low precision, in blocks,
gives every similarity to within a known error. Rows that cannot pass the tests are dropped by these bounds;
of the rest, the few columns that can be the nearest or second nearest are compared exactly. Only what passes is looked
at from the other side.
"""

import math
import threading
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline.matchers import RATIO, Found, MatcherOptions

if TYPE_CHECKING:
    import torch

GROUPS = 128  # columns are compared by the maxima of interleaved groups: one sweep finds the two best groups
PAIRS = 16384  # compared exactly at once: 17 MB
CROWDED = 64  # groups with candidates a row (there are 2 to 8) from which the coarse product is not worth its speed
FLOAT_ERROR = 2e-5  # of an inner product of unit vectors in float32
BYTE_SIGMAS = 6.5  # largest error of a product of bytes, in its standard deviations: exceeded once in 10**10
SAMPLE = 256  # rows whose rounding is looked at
NOT_UNIT = 0.01  # how far a squared norm may be from 1


class Stack(NamedTuple):
    """rows (P, N, D) float32: one side of P pairs, zero from each pair's count (P,) on."""

    rows: "torch.Tensor"
    counts: "torch.Tensor"


def match(pairs: Sequence[tuple[np.ndarray, np.ndarray]], options: MatcherOptions, device: str = "cpu") -> list[Found]:
    """Each pair's d0 (N, D) and d1 (M, D), float32 of unit length (or zero: such a row never matches), to the matches
    that pass. Several pairs share every product and sweep, padded to the largest.

    i and j match when j is i's nearest, d(i, j) <= max_distance and d(i, j) <= max_ratio x d(i, i's second nearest);
    with `cross_check` also when the same holds seen from j. Where there is no second row, there is no rival and the
    ratio test passes. Of equally near rows the first is taken. Raises ValueError when the dimensions differ or rows
    are not of unit length.
    """
    import torch

    sets = {id(d): d for pair in pairs for d in pair}
    shapes = [d.shape for d in sets.values()]
    if any(len(shape) != 2 or shape[1] != shapes[0][1] for shape in shapes):
        raise ValueError(f"descriptors of shapes {' and '.join(map(str, shapes))} cannot be compared")
    found = [Found(np.empty((0, 2), np.int32), np.empty(0, np.float32))] * len(pairs)
    present = {key: np.flatnonzero(d.any(axis=1)) for key, d in sets.items()}
    matched = [k for k, pair in enumerate(pairs) if all(len(present[id(d)]) for d in pair)]
    if not matched:
        return found
    with torch.inference_mode():
        first, second = (stacked([pairs[k][side] for k in matched], present, device) for side in (0, 1))
        pair, i, j, ratio = nearest(first, second, options)
        if options.cross_check and len(i):
            columns, where = (pair * second.rows.shape[1] + j).unique(return_inverse=True)
            theirs, ratios = seen_from(columns, second, first, options)
            mutual = theirs[where] == i
            pair, i, j = pair[mutual], i[mutual], j[mutual]
            ratio = torch.maximum(ratio[mutual], ratios[where[mutual]])
        pair, i, j, scores = (x.cpu().numpy() for x in (pair, i, j, (1 - ratio).float()))
    bounds = np.searchsorted(pair, np.arange(len(matched) + 1))
    for k, (begin, end) in zip(matched, pairwise(bounds), strict=True):
        rows0, rows1 = (present[id(d)] for d in pairs[k])
        indices = np.stack([rows0[i[begin:end]], rows1[j[begin:end]]], axis=1).astype(np.int32)
        found[k] = Found(indices, scores[begin:end])
    return found


def stacked(sets: Sequence[np.ndarray], present: dict[int, np.ndarray], device: str) -> Stack:
    """The `present` rows of each set on the device; a set that comes several times goes there once."""
    import torch

    there: dict[int, torch.Tensor] = {}
    for d in sets:
        if id(d) not in there:
            rows = present[id(d)]
            kept = np.ascontiguousarray(d if len(rows) == len(d) else d[rows], np.float32)
            there[id(d)] = torch.from_numpy(kept).to(device)
    rows = [there[id(d)] for d in sets]
    counts = torch.tensor([len(r) for r in rows], device=device)
    return Stack(rows[0][None] if len(rows) == 1 else torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), counts)


def seen_from(
    columns: "torch.Tensor", second: Stack, first: Stack, options: MatcherOptions
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """columns (L,) ascending: rows of `second`, all pairs' counted through. The row of `first` that passes the tests
    with each (-1: none), and the ratio (L,)."""
    import torch

    pair, row = columns // second.rows.shape[1], columns % second.rows.shape[1]
    counts = torch.bincount(pair, minlength=len(second.counts))
    starts = counts.cumsum(0) - counts
    queries = second.rows.new_zeros((len(counts), int(counts.max()), second.rows.shape[2]))
    queries[pair, torch.arange(len(columns), device=pair.device) - starts[pair]] = second.rows[pair, row]
    pair, place, back, ratio = nearest(Stack(queries, counts), first, options)
    theirs = torch.full_like(columns, -1).index_copy_(0, starts[pair] + place, back)
    return theirs, ratio.new_ones(len(columns)).index_copy_(0, starts[pair] + place, ratio)


def nearest(
    queries: Stack, base: Stack, options: MatcherOptions
) -> tuple["torch.Tensor", "torch.Tensor", "torch.Tensor", "torch.Tensor"]:
    """The queries that pass the options' tests among their own pair's base, ascending: their pairs (K,), their rows
    (K,), their nearest rows of the base (K,), all int64, and the ratios of nearest to second nearest distance (K,)
    float64."""
    import torch

    count, size = base.rows.shape[:2]
    limits = options.max_ratio or RATIO, options.max_distance
    off = float(torch.stack([off_unit(queries), off_unit(base)]).max())
    if not off < NOT_UNIT:
        raise ValueError("descriptors must be finite rows of unit length")
    groups = max(2, min(GROUPS, size))
    padded = torch.nn.functional.pad(base.rows, (0, 0, 0, -size % groups))
    # Sizes in steps: for each new one oneDNN would write code anew, and keep it.
    rows = torch.nn.functional.pad(queries.rows, (0, 0, 0, -queries.rows.shape[1] % GROUPS))
    coarse_queries, coarse_base, step, error = rounded_sides(rows, padded, coarse_type(base.rows.device))
    flat_base = base.rows.flatten(0, 1)
    blocks = zip(queries.rows.split(options.block, 1), coarse_queries.split(options.block, 1), strict=False)
    products = scratch(
        count * min(options.block, rows.shape[1]) * padded.shape[1],
        torch.int32 if coarse_base.dtype == torch.int8 else coarse_base.dtype,
        base.rows.device,
    )
    found = []
    for begin, (part, rounded) in zip(range(0, queries.rows.shape[1], options.block), blocks, strict=True):
        length = part.shape[1]
        pair = torch.arange(count, device=part.device).repeat_interleave(length)
        query = torch.arange(begin, begin + length, device=part.device).repeat(count)
        width = torch.where(query < queries.counts[pair], base.counts[pair], 0)
        shape = (count, rounded.shape[1], padded.shape[1])
        similar = product(rounded, coarse_base, products[: math.prod(shape)].view(shape))
        coarse = Coarse(similar[:, :length].flatten(0, 1), step, error + off)
        found_in = groups_of_candidates(coarse, width, groups, *limits)
        if len(found_in.group) > CROWDED * len(width):  # so alike that the coarse product cannot tell them apart
            coarse = Coarse(torch.bmm(part, padded.transpose(1, 2)).flatten(0, 1), 1.0, FLOAT_ERROR + off)
            found_in = groups_of_candidates(coarse, width, groups, *limits)
        row, column = candidates(coarse, width, groups, found_in)
        place, first, second = two_nearest(part.flatten(0, 1), flat_base, row, pair[row] * size + column)
        ratio = torch.where(second > 0, first / second, 1.0)  # a repeated row at distance 0 has a rival
        passed = ((place < len(flat_base)) & (ratio <= limits[0]) & (first <= limits[1])).nonzero()[:, 0]
        found.append((pair[passed], query[passed], place[passed] % size, ratio[passed]))
    pair, i, j, ratio = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = pair.argsort(stable=True)
    return pair[order], i[order], j[order], ratio[order]


def off_unit(stack: Stack) -> "torch.Tensor":
    """() how far the squared norms of the rows are from 1 at most."""
    import torch

    there = torch.arange(stack.rows.shape[1], device=stack.rows.device) < stack.counts[:, None]
    return (stack.rows.square().sum(dim=2) - there.float()).abs().max()


def two_nearest(
    queries: "torch.Tensor", base: "torch.Tensor", row: "torch.Tensor", column: "torch.Tensor"
) -> tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]:
    """Of each query (Q, D), among the columns (P,) paired with it by row (P,): the nearest row of the base (Q,), its
    distance and the second nearest's (Q,) float64; len(base) and infinity where there is none."""
    import torch

    distance = torch.cat(
        [
            queries.index_select(0, r).sub_(base.index_select(0, c)).norm(dim=1)
            for r, c in zip(row.split(PAIRS), column.split(PAIRS), strict=True)
        ]
    ).double()
    far = distance.new_full((len(queries),), torch.inf)
    first = far.scatter_reduce(0, row, distance, "amin")
    at = distance == first[row]
    j = torch.full_like(first, len(base), dtype=torch.int64).scatter_reduce(0, row[at], column[at], "amin")
    others = column != j[row]
    return j, first, far.scatter_reduce(0, row[others], distance[others], "amin")


class Coarse(NamedTuple):
    """Similarities (R, M), each within `error` of the truth: floats, or integers that count `step`s."""

    values: "torch.Tensor"
    step: float
    error: float


class Groups(NamedTuple):
    """Where candidates may be: rows (K,) and groups (K,) int64, and the least similarity (K,) of one."""

    row: "torch.Tensor"
    group: "torch.Tensor"
    reach: "torch.Tensor"


def groups_of_candidates(
    coarse: Coarse, width: "torch.Tensor", groups: int, max_ratio: float, max_distance: float
) -> Groups:
    """All groups in which a row that may pass the tests may have one of its two nearest, of the first width (R,)
    columns of its row. M is a multiple of `groups`; group g is the columns g, g + groups, ..."""
    import torch

    # Positive floats are ordered as their bits are, and integers compare four times faster than bfloat16.
    ordered = coarse.values.view(torch.int32 if coarse.values.itemsize == 4 else torch.int16)
    maxima = ordered.view(len(ordered), -1, groups).amax(dim=1)
    first, where = maxima.max(dim=1, keepdim=True)
    second = maxima.scatter(1, where, torch.iinfo(maxima.dtype).min).amax(dim=1, keepdim=True)
    best, rival = similarities(torch.cat([first, second], dim=1).view(coarse.values.dtype), coarse.step).unbind(dim=1)
    reach = rival - 2 * coarse.error  # the two nearest have at least this, coarsely
    unordered = reach <= 0  # negative floats are ordered upside down: take the whole row
    near, far = 1 - best - coarse.error, 1 - rival + coarse.error  # bounds of half the squared distances
    alive = ((near <= max_ratio**2 * far) & (2 * near <= max_distance**2)) | unordered
    row = (alive & (width > 0)).nonzero()[:, 0]
    reach = torch.where(unordered, -torch.inf, reach)[row]
    there = similarities(maxima.view(coarse.values.dtype)[row], coarse.step) >= reach[:, None]
    r, group = there.nonzero(as_tuple=True)
    return Groups(row[r], group, reach[r])


def candidates(
    coarse: Coarse, width: "torch.Tensor", groups: int, found_in: Groups
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """The candidates in these groups: rows (P,) and columns (P,) int64."""
    values = coarse.values.view(len(width), -1, groups)[found_in.row, :, found_in.group]
    p, member = (similarities(values, coarse.step) >= found_in.reach[:, None]).nonzero(as_tuple=True)
    row, column = found_in.row[p], member * groups + found_in.group[p]
    there = column < width[row]
    return row[there], column[there]


def similarities(values: "torch.Tensor", step: float) -> "torch.Tensor":
    """Values of a coarse product in float32."""
    values = values.float()
    return values if step == 1 else values.mul_(step)


_kept = threading.local()


def scratch(size: int, dtype: "torch.dtype", device: "torch.device") -> "torch.Tensor":
    """(size,) of any content. On a CPU each thread keeps its own from call to call: the system clears fresh memory page
    by page, which takes as long as a product."""
    import torch

    if device.type != "cpu":
        return torch.empty(size, dtype=dtype, device=device)
    held = vars(_kept).get(str(dtype))
    if held is None or len(held) < size:
        held = torch.empty(size, dtype=dtype)
        setattr(_kept, str(dtype), held)
    return held[:size]


def product(queries: "torch.Tensor", base: "torch.Tensor", out: "torch.Tensor") -> "torch.Tensor":
    """(P, R, D) times (P, D, M) into out (P, R, M); of int8 into int32."""
    import torch

    if out.dtype != torch.int32:
        return torch.bmm(queries, base, out=out)
    for k in range(len(out)):
        torch._int_mm(queries[k], base[k], out=out[k])  # pyright: ignore[reportPrivateImportUsage]
    return out


def rounded_sides(
    queries: "torch.Tensor", base: "torch.Tensor", dtype: "torch.dtype"
) -> tuple["torch.Tensor", "torch.Tensor", float, float]:
    """Rows of unit length of both sides, (P, N, D) and (P, M, D), as factors of a product, (P, N, D) and (P, D, M): in
    `dtype`, or a wider type where bytes would not do; the similarity that one unit of their product stands for; the
    largest error of it.

    Floats: both factors and the result are rounded (2**-9 each in bfloat16, 2**-11 in half precision, sums included
    with room to spare). Bytes: the roundings of a row are even within one step, and where they have nothing to do with
    what is rounded, their sum over a product is normal with the deviation below.
    """
    import torch

    if dtype == torch.int8:
        bytes0, bytes1 = in_bytes(queries), in_bytes(base)
        if bytes0 is not None and bytes1 is not None:
            (first, step0), (second, step1) = bytes0, bytes1
            return first, second.transpose(1, 2), step0 * step1, BYTE_SIGMAS * math.hypot(step0, step1) / 12**0.5
        dtype = float_type(base.device)
    errors = {torch.float32: FLOAT_ERROR, torch.bfloat16: 0.006, torch.float16: 0.003}
    return queries.to(dtype), base.to(dtype).transpose(1, 2), 1.0, errors[dtype]


def in_bytes(rows: "torch.Tensor") -> tuple["torch.Tensor", float] | None:
    """(P, N, D) in steps of a 127th of the largest component, int8, and the step; None where rounding depends on
    what is rounded, as of components with few different values, so that errors add up."""
    import torch

    step = float(rows.abs().max()) / 127
    found = (rows / step).round_()
    few = slice(None, None, max(1, rows.shape[1] // SAMPLE))
    errors = ((found[:, few] * step - rows[:, few]) * rows[:, few]).sum(dim=2)
    if float(errors.abs().max()) > BYTE_SIGMAS * step / 12**0.5:
        return None
    return found.to(torch.int8), step


def coarse_type(device: "torch.device") -> "torch.dtype":
    """The type that the device multiplies fastest."""
    import torch

    if device.type == "cpu" and getattr(torch.cpu, "_is_vnni_supported", lambda: False)() and hasattr(torch, "_int_mm"):
        return torch.int8
    return float_type(device)


def float_type(device: "torch.device") -> "torch.dtype":
    """The float type that the device multiplies fastest."""
    import torch

    if device.type == "cuda":
        return torch.float16
    if getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)():
        return torch.bfloat16
    return torch.float32
