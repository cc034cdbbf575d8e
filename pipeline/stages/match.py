"""Stage 5: descriptors to matches. In: features.h5 and the pairs. Out: matches.h5, one item a pair.

Where features were described in both orientations, each pair is matched in both and keeps the one with more matches:
the ratio test makes wrong frames lose nearly all of theirs. Where the counts are alike, inliers decide.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import h5py
import numpy as np

from pipeline.files import features as feature_files
from pipeline.files import matches as match_files
from pipeline.threads import ahead
from pipeline.types import Features, Matches
from pipeline.workspace import Workspace

MatchDescriptors = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
_FLUSH = 64  # pairs between flushes: what a kill can cost


def match(
    pairs: list[tuple[str, str]],
    match_descriptors: MatchDescriptors,
    work: Workspace,
    cache_mib: int,
    threads: int,
    progress: Callable[[int], None],
    orientations: tuple[str, ...] = ("oriented", "upright"),
) -> Counter[str]:
    """Match every pair that matches.h5 does not hold yet, in those of the orientations that there are; returns the
    pairs' orientations, counted. Each pair is matched in one of the threads."""
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
            return a, b, len(first.lafs), best_orientation(first, second, match_descriptors)

        with _single_threaded_torch() as initializer:
            for done, (a, b, rows, matches) in enumerate(ahead(matched, items(), threads, initializer), 1):
                match_files.write(file, a, b, matches, rows)
                decided[matches.orientation] += 1
                if done % _FLUSH == 0:
                    file.flush()
                    progress(len(pairs) - len(missing) + done)
        progress(len(pairs))
    return decided


@contextmanager
def _single_threaded_torch() -> Iterator[Callable[[], None]]:
    """Gives what each thread must call first: pairs side by side in one thread each beat one pair in several."""
    import torch

    threads = torch.get_num_threads()
    yield lambda: torch.set_num_threads(1)
    torch.set_num_threads(threads)


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
        counts = [_epipolar_inliers(first, second, matches) for matches in candidates]
    return candidates[int(np.argmax(counts))]


def _epipolar_inliers(first: Features, second: Features, matches: Matches) -> int:
    """How many matches agree with one fundamental matrix; a quick look (OpenCV's MAGSAC++, seeded), no verification."""
    import cv2

    if len(matches.indices) < 8:
        return 0
    a, b = (x.keypoints[matches.indices[:, side]].astype(np.float64) for side, x in enumerate((first, second)))
    _, mask = cv2.findFundamentalMat(a, b, cv2.USAC_MAGSAC, 1.5, 0.999, 1000)
    return 0 if mask is None else int(np.count_nonzero(mask))


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
    """The features used last, within a bound of memory."""

    def __init__(self, file: h5py.File, mib: int, orientations: tuple[str, ...]):
        self._file, self._left, self._held = file, mib * 2**20, dict[str, Features]()
        self._orientations = orientations

    def __getitem__(self, name: str) -> Features:
        if name in self._held:
            self._held[name] = self._held.pop(name)  # now the youngest
            return self._held[name]
        features = feature_files.read(self._file, name, only=self._orientations)
        self._left -= _bytes(features)
        while self._left < 0 and len(self._held) > 1:
            self._left += _bytes(self._held.pop(next(iter(self._held))))
        self._held[name] = features
        return features


def _bytes(features: Features) -> int:
    return sum(d.nbytes for d in features.descriptors.values())


def _ordered_for_cache(pairs: list[tuple[str, str]], block: int = 32) -> list[tuple[str, str]]:
    """Pairs in blocks of photographs x photographs, so that each is read few times."""
    rank: dict[str, int] = {}
    for a, b in pairs:
        rank.setdefault(a, len(rank))
        rank.setdefault(b, len(rank))
    return sorted(pairs, key=lambda p: (rank[p[0]] // block, rank[p[1]] // block, rank[p[0]], rank[p[1]]))
