"""Stage 5: descriptors to matches. In: features.h5 and the pairs. Out: matches.h5, one item a pair.

Where features were described in both orientations, each pair is matched in both and keeps the one with more matches:
the ratio test makes wrong frames lose nearly all of theirs. Where the counts are alike, inliers decide.

Most pairs of a large collection show different things. There, each pair's strongest keypoints are matched first, and
only pairs that are promising by these are matched wholly.
"""

from collections import Counter
from collections.abc import Callable, Iterator

import h5py
import numpy as np

from pipeline.epipolar import epipolar_inliers
from pipeline.files import features as feature_files
from pipeline.files import matches as match_files
from pipeline.threads import ahead, single_threaded_torch
from pipeline.types import Features, Matches
from pipeline.workspace import Workspace, return_memory

MatchDescriptors = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
_FLUSH = 64  # pairs between flushes: what a kill can cost
_BLOCK = 32  # pairs come in blocks of so many photographs by so many: no more than two blocks need be in memory
# Of the strongest keypoints, SIEVE of each photograph, a promising pair matches at least PROMISE. Where there are not
# several times as many, looking first takes as long as matching.
SIEVE, PROMISE, SEVERAL = 1024, 10, 4
UNPROMISING = "none"  # stands for the orientation of pairs that were not matched wholly


def match(
    pairs: list[tuple[str, str]],
    match_descriptors: MatchDescriptors,
    work: Workspace,
    cache_mib: int,
    threads: int,
    progress: Callable[[int], None],
    orientations: tuple[str, ...] = ("oriented", "upright"),
    sieve_from: int = 0,
) -> Counter[str]:
    """Match every pair that matches.h5 does not hold yet, in those of the orientations that there are; returns the
    pairs' orientations, counted. Each pair is matched in one of the threads. Of more than `sieve_from` pairs (unless
    that is 0) the unpromising ones are left without matches and counted as UNPROMISING."""
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

        def items() -> Iterator[tuple[str, str, Features, Features]]:
            for a, b in missing:
                yield a, b, cache[a], cache[b]

        def matched(item: tuple[str, str, Features, Features]) -> tuple[str, str, int, Matches]:
            a, b, first, second = item
            if 0 < sieve_from < len(pairs) and not promising(first, second, match_descriptors):
                nothing = Matches(np.empty((0, 2), np.int32), np.empty(0, np.float32), UNPROMISING)
                return a, b, len(first.lafs), nothing
            return a, b, len(first.lafs), best_orientation(first, second, match_descriptors)

        for done, (a, b, rows, matches) in enumerate(ahead(matched, items(), threads, single_threaded_torch), 1):
            match_files.write(file, a, b, matches, rows)
            decided[matches.orientation] += 1
            if done % _FLUSH == 0:
                file.flush()
                return_memory()
                progress(len(pairs) - len(missing) + done)
        progress(len(pairs))
    return decided


def promising(first: Features, second: Features, match_descriptors: MatchDescriptors) -> bool:
    """Whether the strongest keypoints of the two photographs match, in either orientation. Photographs of few keypoints
    always are, and imported features that do not say which are the strongest."""
    if min(len(first.lafs), len(second.lafs)) < SEVERAL * SIEVE or not (first.scores.any() and second.scores.any()):
        return True
    a, b = (np.argsort(-features.scores, kind="stable")[:SIEVE] for features in (first, second))
    return any(
        len(match_descriptors(first.descriptors[way][a], second.descriptors[way][b])[0]) >= PROMISE
        for way in first.descriptors
        if way in second.descriptors
    )


def sieve_note(decided: Counter[str]) -> list[str]:
    """What the report says of the pairs that were not matched wholly."""
    count = decided[UNPROMISING]
    share = f"{count:,} of {decided.total():,} pairs were left unmatched"
    return [f"{share}: of their {SIEVE:,} strongest keypoints fewer than {PROMISE} match"] if count else []


def best_orientation(first: Features, second: Features, match_descriptors: MatchDescriptors) -> Matches:
    """Matches in the orientation that both photographs have and that gives more of them; where the counts are within a
    factor of two, in the one with more epipolar inliers."""
    candidates: list[Matches] = []
    for orientation in first.descriptors:
        if orientation in second.descriptors:
            found = match_descriptors(first.descriptors[orientation], second.descriptors[orientation])
            candidates.append(Matches(*_one_match_a_place(first, second, *found), orientation))
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
