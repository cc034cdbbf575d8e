"""Stage 5: descriptors to matches. In: features.h5 and the pairs. Out: matches.h5, one item a pair.

Where features were described in both orientations, each pair is matched in both and keeps the one with more matches:
the ratio test makes wrong frames lose nearly all of theirs. Where the counts are alike, inliers decide.

Most pairs of a large collection show different things. There, each pair's strongest keypoints are matched first, and
only pairs that are promising by these are matched wholly.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain, compress

import h5py
import numpy as np

from pipeline.epipolar import epipolar_inliers
from pipeline.files import features as feature_files
from pipeline.files import matches as match_files
from pipeline.matchers import MatchPairs
from pipeline.threads import ahead, single_threaded_torch
from pipeline.types import Features, Matches
from pipeline.workspace import Workspace, return_memory

_FLUSH = 64  # pairs between flushes: what a kill can cost
_BLOCK = 32  # pairs come in blocks of so many photographs by so many: no more than two blocks need be in memory
# Of the strongest keypoints, SIEVE of each photograph, a promising pair matches at least PROMISE. Where there are not
# several times as many, looking first takes as long as matching.
SIEVE, PROMISE, SEVERAL = 1024, 10, 4
UNPROMISING = "none"  # stands for the orientation of pairs that were not matched wholly


def match(
    pairs: list[tuple[str, str]],
    match_pairs: MatchPairs,
    work: Workspace,
    cache_mib: int,
    threads: int,
    progress: Callable[[int], None],
    orientations: tuple[str, ...] = ("oriented", "upright"),
    sieve_from: int = 0,
    together: int = 1,
) -> Counter[str]:
    """Match every pair that matches.h5 does not hold yet, in those of the orientations that there are; returns the
    pairs' orientations, counted. Each of the threads matches up to `together` pairs at a time. Of more than
    `sieve_from` pairs (unless that is 0) the unpromising ones are left without matches and counted as UNPROMISING."""
    decided: Counter[str] = Counter()
    with (
        h5py.File(work.features, "r") as features,
        match_files.appending(work.matches, work.provenance("match")) as file,
    ):
        cache = _Cache(features, cache_mib, orientations)
        missing = []
        for a, b in _ordered_for_cache(pairs):
            if match_files.has(file, a, b):
                decided[match_files.orientation(file, a, b)] += 1
            else:
                missing.append((a, b))
        progress(len(pairs) - len(missing))
        together = max(1, min(together, len(missing) // (4 * threads)))  # of few pairs, some for every thread

        def items() -> Iterator[list[tuple[Features, Features]]]:
            for k in range(0, len(missing), together):
                yield [(cache[a], cache[b]) for a, b in missing[k : k + together]]

        def matched(photographs: list[tuple[Features, Features]]) -> list[tuple[Matches, int]]:
            sieved = 0 < sieve_from < len(pairs)
            whole = promising(photographs, match_pairs) if sieved else [True] * len(photographs)
            found = iter(best_orientations(list(compress(photographs, whole)), match_pairs))
            nothing = Matches(np.empty((0, 2), np.int32), np.empty(0, np.float32), UNPROMISING)
            return [
                (next(found) if wanted else nothing, len(first.lafs))
                for (first, _), wanted in zip(photographs, whole, strict=True)
            ]

        results = chain.from_iterable(ahead(matched, items(), threads, single_threaded_torch))
        for done, ((a, b), (matches, rows)) in enumerate(zip(missing, results, strict=True), 1):
            match_files.write(file, a, b, matches, rows)
            decided[matches.orientation] += 1
            if done % _FLUSH == 0:
                file.flush()
                return_memory()
                progress(len(pairs) - len(missing) + done)
        progress(len(pairs))
    return decided


def promising(photographs: list[tuple[Features, Features]], match_pairs: MatchPairs) -> list[bool]:
    """Whether the strongest keypoints of two photographs match, in either orientation. Photographs of few keypoints
    always are promising, and imported features that do not say which are the strongest."""
    looked_at, asked, most = [], [], {}
    for k, (first, second) in enumerate(photographs):
        if min(len(first.lafs), len(second.lafs)) < SEVERAL * SIEVE or not (first.scores.any() and second.scores.any()):
            continue
        a, b = (np.argsort(-features.scores, kind="stable")[:SIEVE] for features in (first, second))
        most[k] = 0
        for way in first.descriptors.keys() & second.descriptors.keys():
            looked_at.append(k)
            asked.append((first.descriptors[way][a], second.descriptors[way][b]))
    for k, found in zip(looked_at, match_pairs(asked), strict=True):
        most[k] = max(most[k], len(found.indices))
    return [most.get(k, PROMISE) >= PROMISE for k in range(len(photographs))]


def sieve_note(decided: Counter[str]) -> list[str]:
    """What the report says of the pairs that were not matched wholly."""
    count = decided[UNPROMISING]
    share = f"{count:,} of {decided.total():,} pairs were left unmatched"
    return [f"{share}: of their {SIEVE:,} strongest keypoints fewer than {PROMISE} match"] if count else []


def best_orientations(photographs: list[tuple[Features, Features]], match_pairs: MatchPairs) -> list[Matches]:
    """Each pair's matches in the orientation that both photographs have and that gives more of them; where the counts
    are within a factor of two, in the one with more epipolar inliers."""
    ways = [[way for way in first.descriptors if way in second.descriptors] for first, second in photographs]
    asked = [
        (first.descriptors[way], second.descriptors[way])
        for (first, second), both in zip(photographs, ways, strict=True)
        for way in both
    ]
    found = iter(match_pairs(asked))
    return [
        _better([Matches(*_one_match_a_place(*pair, *next(found)), way) for way in both], *pair)
        for pair, both in zip(photographs, ways, strict=True)
    ]


def _better(candidates: list[Matches], first: Features, second: Features) -> Matches:
    counts = [len(matches.indices) for matches in candidates]
    if len(candidates) > 1 and max(counts) <= 2 * min(counts):
        counts = [
            epipolar_inliers(first.keypoints[found.indices[:, 0]], second.keypoints[found.indices[:, 1]], 1.5, 1000)
            for found in candidates
        ]
    return candidates[int(np.argmax(counts))]


def _one_match_a_place(
    first: Features, second: Features, indices: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Matches between places instead of frames, so that tracks join over pairs of either orientation and no inlier
    counts twice. Where frames of one place disagree the best score stays."""
    order = np.argsort(-scores, kind="stable")
    between = np.column_stack([first.places[indices[order, 0]], second.places[indices[order, 1]]])
    keep = np.zeros(len(order), bool)
    firsts = [np.unique(between[:, side], return_index=True)[1] for side in (0, 1)]
    keep[np.intersect1d(firsts[0], firsts[1])] = True
    return between[keep].astype(np.int32), scores[order[keep]]


class _Cache:
    """The features used last: two blocks of photographs at most, within a bound of memory."""

    def __init__(self, file: h5py.File, mib: int, orientations: tuple[str, ...]):
        self._file, self._left, self._held = file, mib * 2**20, dict[str, Features]()
        self._orientations = orientations

    def __getitem__(self, name: str) -> Features:
        if name in self._held:
            self._held[name] = self._held.pop(name)  # now the youngest
            return self._held[name]
        features = feature_files.read(self._file, name, only=self._orientations)
        self._left -= _bytes(features)
        while (self._left < 0 and len(self._held) > 1) or len(self._held) >= 2 * _BLOCK:
            self._left += _bytes(self._held.pop(next(iter(self._held))))
        self._held[name] = features
        return features


def _bytes(features: Features) -> int:
    return sum(d.nbytes for d in features.descriptors.values())


def _ordered_for_cache(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pairs in blocks of photographs x photographs, so that each is read few times."""
    rank: dict[str, int] = {}
    for a, b in pairs:
        rank.setdefault(a, len(rank))
        rank.setdefault(b, len(rank))
    return sorted(pairs, key=lambda p: (rank[p[0]] // _BLOCK, rank[p[1]] // _BLOCK, rank[p[1]], rank[p[0]]))
