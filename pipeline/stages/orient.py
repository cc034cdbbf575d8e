"""Stage 4, with orientation=auto: do upright frames do for all these photographs, or are some turned against others?
In: features.h5 (upright, and a probe of oriented descriptors) and the pairs. Out: orientation.json.

Upright frames match level photographs better, and turned ones hardly at all. Pairs are matched by their probes both
ways. Where nothing would be lost upright, one description is enough; else every photograph is described both ways and
each pair chooses (stages/match.py). In doubt it is both: that costs time and no accuracy. Of many photographs turned
ones are described oriented only: on validation places that is half the time for 5 % fewer points.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import h5py
import numpy as np

from pipeline.files import features as files
from pipeline.matchers import MatchPairs
from pipeline.threads import ahead, single_threaded_torch
from pipeline.workspace import Workspace, write_atomically

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
BATCH = 64  # pairs compared before it is looked which others are still of interest


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
    match_pairs: MatchPairs,
    work: Workspace,
    threads: int,
    progress: Callable[[int], None],
) -> Orientation:
    """Decide for the photographs of these pairs; what an earlier run decided stays."""
    if work.orientation.exists():
        found = json.loads(work.orientation.read_text(encoding="utf-8"))
        return Orientation(tuple(found["orientations"]), found["why"])
    with h5py.File(work.features, "r") as features:
        decision = decide(pairs, lambda name: files.read_probe(features, name), match_pairs, threads, progress)
    write_atomically(work.orientation, json.dumps(asdict(decision)))
    return decision


def decide(
    pairs: Sequence[tuple[str, str]],
    probe: Callable[[str], dict[str, np.ndarray]],
    match_pairs: MatchPairs,
    threads: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> Orientation:
    """`probe` gives a photograph's descriptors by orientation, rows of the same keypoints. The answer does not depend
    on the number of threads."""

    def turned(why: str) -> Orientation:
        return Orientation(("oriented",) if len(pairs) > ALL_PAIRS else ("oriented", "upright"), why)

    def compared(item: tuple[str, str, dict[str, np.ndarray], dict[str, np.ndarray]]) -> tuple[str, str, int, int]:
        a, b, first, second = item
        upright, oriented = match_pairs([(first[way], second[way]) for way in ("upright", "oriented")])
        return a, b, len(upright.indices), len(oriented.indices)

    probe = lru_cache(HELD)(probe)
    seen = {name: _Evidence() for pair in pairs for name in pair}
    probed = 0
    order = [pairs[k] for k in np.random.default_rng(0).permutation(len(pairs))]
    for start in range(0, len(order), BATCH):
        open_yet = [
            (a, b, probe(a), probe(b))
            for a, b in order[start : start + BATCH]
            if len(pairs) <= ALL_PAIRS or min(seen[a].pairs, seen[b].pairs) < ENOUGH
        ]
        for a, b, upright, oriented in ahead(compared, open_yet, threads, single_threaded_torch):
            probed += 1
            if oriented >= max(TURNED, 2 * upright):
                return turned(
                    f"{a} and {b} are turned against each other ({oriented} matches oriented, {upright} upright)"
                )
            if max(upright, oriented) >= EVIDENCE:
                for photograph in (seen[a], seen[b]):
                    photograph.pairs += 1
                    photograph.upright += upright
                    photograph.best += max(upright, oriented)
        progress(min(start + BATCH, len(pairs)))
    silent = [name for name, photograph in seen.items() if not photograph.pairs]
    if len(silent) > len(seen) // 20:
        why = f"{len(silent)} of {len(seen)} photographs show nothing either way, as {silent[0]}"
        return Orientation(("oriented", "upright"), why)
    for name, photograph in seen.items():
        if photograph.best > LOSS * photograph.upright + SLACK:
            return turned(f"{name} would lose {photograph.loss:.0%} of its matches upright")
    upright, best = (sum(getattr(photograph, key) for photograph in seen.values()) for key in ("upright", "best"))
    if best > LOSS_IN_ALL * upright:
        return turned(f"{1 - upright / best:.0%} of the matches would be lost upright")
    why = f"upright frames keep {upright / best:.1%} of the matches of {probed} pairs probed both ways"
    return Orientation(("upright",), why)
