"""Stage 4, with orientation=auto: do upright frames do for all these photographs, or are some turned against others?
In: features.h5 (upright, and a probe of oriented descriptors) and the pairs. Out: orientation.json.

Upright frames match level photographs better, and turned ones hardly at all. Pairs are matched by their probes both
ways. Where nothing would be lost upright, one description is enough; else every photograph is described both ways and
each pair chooses (stages/match.py). In doubt it is both: that costs time and no accuracy.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import h5py
import numpy as np

from pipeline.files import features as files
from pipeline.workspace import Workspace, write_atomically

MatchDescriptors = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

# Of 400 pairs of unrelated photographs (validation places) probes gave 1 match on average, 8 at most, either way.
EVIDENCE = 10  # matches from which a pair says something
TURNED = 20  # matches oriented, and twice those upright: a pair that upright frames would lose
# Best of both ways over upright, in a photograph and in all: level validation places reach 1.10 and 1.02; one
# photograph among them turned by 30 degrees 1.18 and more, by a quarter 5.
LOSS, LOSS_IN_ALL = 1.15, 1.05
SLACK = 5  # matches of a photograph by which the better way may be ahead by chance
ALL_PAIRS = 1000  # so many are all looked at; of more, those that tell something about a photograph
ENOUGH = 8  # pairs with evidence tell enough about a photograph
HELD = 256  # probes kept in memory: 128 MiB


@dataclass(frozen=True)
class Orientation:
    """What was decided: the orientations to describe and match in, and why."""

    orientations: tuple[str, ...]
    why: str


@dataclass
class _Evidence:
    """Of one photograph: pairs with evidence, and their matches upright and the better way."""

    pairs: int = 0
    upright: int = 0
    best: int = 0

    @property
    def loss(self) -> float:
        return 1 - self.upright / self.best


def orient(
    pairs: Sequence[tuple[str, str]],
    match_descriptors: MatchDescriptors,
    work: Workspace,
    progress: Callable[[int], None],
) -> Orientation:
    """Decide for the photographs of these pairs; what an earlier run decided stays."""
    if work.orientation.exists():
        found = json.loads(work.orientation.read_text(encoding="utf-8"))
        return Orientation(tuple(found["orientations"]), found["why"])
    with h5py.File(work.features, "r") as features:
        decision = decide(pairs, lambda name: files.read_probe(features, name), match_descriptors, progress)
    write_atomically(work.orientation, json.dumps(asdict(decision)))
    return decision


def decide(
    pairs: Sequence[tuple[str, str]],
    probe: Callable[[str], dict[str, np.ndarray]],
    match_descriptors: MatchDescriptors,
    progress: Callable[[int], None] = lambda done: None,
) -> Orientation:
    """`probe` gives a photograph's descriptors by orientation, rows of the same keypoints."""
    probe = lru_cache(HELD)(probe)
    seen = {name: _Evidence() for pair in pairs for name in pair}
    probed = 0
    for done, k in enumerate(np.random.default_rng(0).permutation(len(pairs)), 1):
        a, b = pairs[k]
        if len(pairs) > ALL_PAIRS and min(seen[a].pairs, seen[b].pairs) >= ENOUGH:
            continue
        first, second = probe(a), probe(b)
        upright, oriented = (len(match_descriptors(first[way], second[way])[0]) for way in ("upright", "oriented"))
        probed += 1
        if oriented >= max(TURNED, 2 * upright):
            return _both(f"{a} and {b} are turned against each other ({oriented} matches oriented, {upright} upright)")
        if max(upright, oriented) >= EVIDENCE:
            for photograph in (seen[a], seen[b]):
                photograph.pairs += 1
                photograph.upright += upright
                photograph.best += max(upright, oriented)
        progress(done)
    silent = [name for name, photograph in seen.items() if not photograph.pairs]
    if len(silent) > len(seen) // 20:
        return _both(f"{len(silent)} of {len(seen)} photographs show nothing either way, as {silent[0]}")
    for name, photograph in seen.items():
        if photograph.best > LOSS * photograph.upright + SLACK:
            return _both(f"{name} would lose {photograph.loss:.0%} of its matches upright")
    upright, best = (sum(getattr(photograph, key) for photograph in seen.values()) for key in ("upright", "best"))
    if best > LOSS_IN_ALL * upright:
        return _both(f"{1 - upright / best:.0%} of the matches would be lost upright")
    why = f"upright frames keep {upright / best:.1%} of the matches of {probed} pairs probed both ways"
    return Orientation(("upright",), why)


def _both(why: str) -> Orientation:
    return Orientation(("oriented", "upright"), why)
