"""Which way frames are turned, decided from probes: level, turned and mixed collections, small ones and silent ones."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest

from pipeline.matchers import Found, MatcherOptions, Pair, match_pairs
from pipeline.stages import orient
from pipeline.stages.orient import decide

PLACES = 60


def matcher(pairs: Sequence[Pair]) -> list[Found]:
    return match_pairs(pairs, MatcherOptions(max_ratio=0.86))


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def scene(rolls: list[float], seen: list[range] | None = None, noise: float = 0.5) -> dict[str, dict[str, np.ndarray]]:
    """Probes of photographs of one scene. Upright descriptors of a place change with the photograph's roll as DesDis'
    do, smoothly and wholly within some 60 degrees; oriented ones do not, and are noisier."""
    rng = np.random.default_rng(0)
    oriented = rng.normal(size=(PLACES, 64))
    turning = rng.normal(size=(24, PLACES, 64))  # by 15 degrees
    probes = {}
    for k, roll in enumerate(rolls):
        rows = list(seen[k] if seen else range(PLACES))
        weight = np.array([max(0.0, 1 - abs((roll - 15 * t + 180) % 360 - 180) / 60) for t in range(24)])
        upright = np.tensordot(weight / np.linalg.norm(weight), turning, 1)
        probes[f"{k}.jpg"] = {
            "upright": unit(upright[rows] + noise * rng.normal(size=(len(rows), 64))),
            "oriented": unit(oriented[rows] + 1.2 * noise * rng.normal(size=(len(rows), 64))),
        }
    return probes


def decided(probes: dict[str, dict[str, np.ndarray]]) -> tuple[str, ...]:
    return decide(list(combinations(probes, 2)), probes.__getitem__, matcher).orientations


BOTH = ("oriented", "upright")


@pytest.mark.parametrize("count", [2, 3, 12])
def test_level_photographs_need_one_way(count):
    assert decided(scene([0.0] * count)) == ("upright",)
    assert decided(scene([90.0] * count)) == ("upright",)  # all alike: level among themselves


@pytest.mark.parametrize("rolls", [
    [0, 90], [0, 0, 180], [0] * 11 + [90], [0] * 11 + [40], [0, 90, 180, 270] * 3, list(range(0, 360, 30)),
    [0] * 6 + [90] * 6,
])  # fmt: skip
def test_one_turned_photograph_is_enough_for_both_ways(rolls):
    assert decided(scene([float(r) for r in rolls])) == BOTH


def test_in_a_large_collection_a_turned_photograph_is_found_without_probing_all_pairs(monkeypatch):
    monkeypatch.setattr(orient, "ALL_PAIRS", 50)
    calls = []
    probes = scene([0.0] * 40)
    pairs = list(combinations(probes, 2))
    level = decide(pairs, probes.__getitem__, lambda both: (calls.append(1), matcher(both))[1])
    assert level.orientations == ("upright",) and len(calls) < 400
    assert decided(scene([0.0] * 39 + [90.0])) == ("oriented",)


@pytest.mark.parametrize("rolls", [[0.0] * 12, [0.0] * 11 + [40.0]])
def test_the_answer_does_not_depend_on_the_number_of_threads(rolls, monkeypatch):
    monkeypatch.setattr(orient, "ALL_PAIRS", 20)
    probes = scene(rolls)
    pairs = list(combinations(probes, 2))
    assert len({decide(pairs, probes.__getitem__, matcher, threads) for threads in (1, 2, 5)}) == 1


def test_groups_that_are_turned_against_each_other_and_share_little():
    """Two rolls of film, one held upright and one turned; only one photograph of each sees the other's part."""
    halves = [range(30)] * 5 + [range(55)] + [range(25, 60)] * 6
    assert decided(scene([0.0] * 6 + [90.0] * 6, halves)) == BOTH


def test_photographs_that_match_nothing_leave_it_open():
    apart = scene([0.0, 0.0, 0.0])
    apart["2.jpg"] = {way: unit(np.random.default_rng(1).normal(size=(PLACES, 64))) for way in BOTH}
    assert decided(apart) == BOTH
    many = scene([0.0] * 30)
    many["0.jpg"] = apart["2.jpg"]  # one stranger among thirty tells nothing about the others
    assert decided(many) == ("upright",)


def test_the_same_answer_twice_and_the_reason_is_said():
    probes = scene([0.0] * 5 + [90.0])
    pairs = list(combinations(probes, 2))
    first, second = (decide(pairs, probes.__getitem__, matcher) for _ in range(2))
    assert first == second and "5.jpg" in first.why and "turned" in first.why
