"""Nearest-neighbour matching against a plain reference, row by row in float64."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import matchers
from pipeline.matchers import RATIO, Found, MatcherOptions, match, match_pairs, nn


def unit(rng: np.random.Generator, n: int, dimensions: int = 32) -> np.ndarray:
    d = rng.standard_normal((n, dimensions))
    return (d / np.linalg.norm(d, axis=1, keepdims=True)).astype(np.float32)


def noisy(rng: np.random.Generator, d: np.ndarray, amount: float) -> np.ndarray:
    d = d + amount * rng.standard_normal(d.shape).astype(np.float32)
    return (d / np.linalg.norm(d, axis=1, keepdims=True)).astype(np.float32)


def plain(d0: np.ndarray, d1: np.ndarray, options: MatcherOptions) -> set[tuple[int, int]]:
    """The definition, one row at a time."""

    def passing(queries: np.ndarray, base: np.ndarray) -> dict[int, int]:
        result = {}
        present = np.flatnonzero(base.any(axis=1))
        for q, query in enumerate(queries.astype(np.float64)):
            if not query.any() or not len(present):
                continue
            distances = np.linalg.norm(base[present].astype(np.float64) - query, axis=1)
            order = np.argsort(distances)
            d1 = distances[order[0]]
            d2 = distances[order[1]] if len(order) > 1 else np.inf
            if d1 <= (options.max_ratio or RATIO) * d2 and d1 <= options.max_distance:
                result[q] = int(present[order[0]])
        return result

    forward, backward = passing(d0, d1), passing(d1, d0)
    return {(i, j) for i, j in forward.items() if not options.cross_check or backward.get(j) == i}


def as_set(found: Found) -> set[tuple[int, int]]:
    return {(int(i), int(j)) for i, j in found.indices}


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), n=st.integers(1, 60), m=st.integers(1, 60), max_ratio=st.floats(0.5, 1.0),
    cross_check=st.booleans(), block=st.sampled_from([16, 17, 64]), zeros=st.integers(0, 3),
)  # fmt: skip
def test_agrees_with_the_definition(seed, n, m, max_ratio, cross_check, block, zeros):
    rng = np.random.default_rng(seed)
    d0 = unit(rng, n)
    d1 = np.concatenate([noisy(rng, d0[: m // 2], 0.1), unit(rng, m)])[:m]
    d0[rng.integers(0, n, zeros)] = 0
    d1[rng.integers(0, m, zeros)] = 0
    options = MatcherOptions(max_ratio=max_ratio, cross_check=cross_check, block=block)
    assert as_set(match(d0, d1, options)) == plain(d0, d1, options)


def test_many_rows_agree_with_the_definition():
    rng = np.random.default_rng(1)
    d0 = unit(rng, 900, 128)
    d1 = np.concatenate([noisy(rng, d0[:600], 0.06), unit(rng, 300, 128)])
    options = MatcherOptions()
    found = match(d0, d1, options)
    assert as_set(found) == plain(d0, d1, options)
    assert len(found.indices) > 500
    assert found.indices.dtype == np.int32 and found.scores.dtype == np.float32
    assert (np.diff(found.indices[:, 0]) > 0).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()


def test_direction_does_not_matter():
    rng = np.random.default_rng(2)
    d0 = unit(rng, 300)
    d1 = noisy(rng, d0[rng.permutation(300)], 0.15)
    there, back = match(d0, d1), match(d1, d0)
    assert as_set(there) == {(j, i) for i, j in as_set(back)}
    assert sorted(there.scores) == pytest.approx(sorted(back.scores), abs=1e-5)


def test_ratio_is_of_distances_and_bounds_are_inclusive():
    angles = np.deg2rad([0.0, 30.0, 62.0])
    d0 = np.array([[1.0, 0.0]], np.float32)
    d1 = np.stack([np.cos(angles[1:]), np.sin(angles[1:])], axis=1).astype(np.float32)
    ratio = np.sin(np.deg2rad(15)) / np.sin(np.deg2rad(31))  # chords
    assert len(match(d0, d1, MatcherOptions(max_ratio=ratio + 1e-4)).indices) == 1
    assert len(match(d0, d1, MatcherOptions(max_ratio=ratio - 1e-4)).indices) == 0
    assert match(d0, d1).scores[0] == pytest.approx(1 - ratio, abs=1e-5)
    chord = 2 * np.sin(np.deg2rad(15))
    assert len(match(d0, d1, MatcherOptions(max_distance=chord + 1e-4)).indices) == 1
    assert len(match(d0, d1, MatcherOptions(max_distance=chord - 1e-4)).indices) == 0


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 5), (5, 0)])
def test_empty(n, m):
    found = match(np.empty((n, 128), np.float32), np.ones((m, 128), np.float32) / 128**0.5)
    assert found.indices.shape == (0, 2) and found.scores.shape == (0,)


def test_a_sole_candidate_has_no_rival():
    d = unit(np.random.default_rng(0), 1)
    assert as_set(match(d, d)) == {(0, 0)}
    assert match(d, d).scores[0] == 1


def test_repeated_rows_never_pass_the_ratio_test():
    d = unit(np.random.default_rng(0), 5)
    assert as_set(match(d, np.concatenate([d, d[:2]]))) == {(2, 2), (3, 3), (4, 4)}


def test_zero_rows_never_match():
    d = unit(np.random.default_rng(0), 6)
    d[[1, 4]] = 0
    assert as_set(match(d, d, MatcherOptions(max_ratio=1.0))) == {(i, i) for i in (0, 2, 3, 5)}


@pytest.mark.parametrize("coarse", [torch.float32, torch.bfloat16, torch.float16, torch.int8])
def test_coarse_products_of_any_precision_find_the_same(monkeypatch, coarse):
    monkeypatch.setattr(nn, "coarse_type", lambda device: coarse)
    rng = np.random.default_rng(3)
    d0 = noisy(rng, unit(rng, 1, 128).repeat(700, axis=0), 0.04)  # crowded: many rivals within the error
    d1 = np.concatenate([noisy(rng, d0[:300], 0.03), noisy(rng, d0[300:], 0.2), unit(rng, 61, 128)])
    for max_ratio in (0.7, 0.9, 1.0):
        options = MatcherOptions(max_ratio=max_ratio, block=100)
        expected = plain(d0, d1, options)
        assert as_set(match(d0, d1, options)) == expected and len(expected) > 50


@pytest.mark.parametrize("one_hot", [False, True])
def test_components_of_few_values_are_not_rounded_to_bytes(monkeypatch, one_hot):
    """As of binary descriptors: equal components are rounded alike, and the errors of a row add up."""
    monkeypatch.setattr(nn, "coarse_type", lambda device: torch.int8)
    rng = np.random.default_rng(9)
    bits = rng.random((400, 512)) < 0.5
    bits[0] = np.arange(512) < (1 if one_hot else 3)
    flipped = bits ^ (rng.random(bits.shape) < rng.uniform(0.05, 0.4, (400, 1)))
    d0, d1 = ((b / np.sqrt(b.sum(axis=1, keepdims=True))).astype(np.float32) for b in (bits, flipped))
    assert nn.in_bytes(torch.from_numpy(d0)[None]) is None
    expected = plain(d0, d1, MatcherOptions())
    assert as_set(match(d0, d1)) == expected and len(expected) > 200


def test_descriptors_of_networks_are_rounded_to_bytes_within_the_bound():
    rng = np.random.default_rng(10)
    d0 = unit(rng, 700, 128)
    d1 = noisy(rng, d0, 0.05)
    first, second, step, error = nn.rounded_sides(*(torch.from_numpy(d)[None] for d in (d0, d1)), torch.int8)
    assert first.dtype == torch.int8 and error < 0.01
    similar = first[0].double() @ second[0].double() * step
    assert np.abs(similar.numpy() - d0.astype(np.float64) @ d1.astype(np.float64).T).max() < error


def test_descriptors_that_are_all_alike():
    """As of an untrained network: similarities of 0.9999, far below what bfloat16 can tell apart."""
    rng = np.random.default_rng(4)
    d0 = noisy(rng, unit(rng, 1, 128).repeat(400, axis=0), 0.001)
    d1 = np.concatenate([noisy(rng, d0[:200], 0.0005), noisy(rng, unit(rng, 1, 128).repeat(100, axis=0), 0.001)])
    options = MatcherOptions(max_ratio=0.9, block=128)
    expected = plain(d0, d1, options)
    assert as_set(match(d0, d1, options)) == expected and len(expected) > 20


@pytest.mark.parametrize("cross_check", [True, False])
@pytest.mark.parametrize("max_ratio", [0.9, 1.0])
def test_many_pairs_at_once_are_as_each_alone(cross_check, max_ratio):
    """What a GPU does, on CPU tensors: sets of any size, padded, shared, crowded, empty and of zero rows."""
    rng = np.random.default_rng(5)
    options = MatcherOptions(max_ratio=max_ratio, cross_check=cross_check, block=100)
    shared = unit(rng, 333, 64)
    others = [noisy(rng, shared[rng.permutation(333)[:n]], 0.1) for n in (333, 1, 40, 333, 0, 260)]
    others[3][rng.permutation(333)[:100]] = 0
    alike = noisy(rng, unit(rng, 1, 64).repeat(150, axis=0), 0.001)
    others += [np.zeros((7, 64), np.float32), shared, alike]
    pairs = [(shared, other) for other in others] + [(others[5], others[0]), (alike, noisy(rng, alike, 0.0005))]
    together = nn.match(pairs, options)
    assert sum(len(found.indices) > 20 for found in together) >= 7
    for found, (d0, d1) in zip(together, pairs, strict=True):
        alone = match(d0, d1, options)
        np.testing.assert_array_equal(found.indices, alone.indices)
        np.testing.assert_array_equal(found.scores, alone.scores)
        assert as_set(found) == plain(d0, d1, options)


def test_pairs_come_back_in_their_order_however_many_are_matched_at_once(monkeypatch):
    monkeypatch.setattr(matchers, "together", lambda device: 3)
    rng = np.random.default_rng(6)
    sets = [unit(rng, n) for n in (30, 20, 40, 25)]
    pairs = [(sets[k % 4], noisy(rng, sets[k % 4], 0.02)) for k in range(7)]
    found = match_pairs(pairs)
    assert [len(each.indices) for each in found] == [len(sets[k % 4]) for k in range(7)]


def test_a_processor_matches_small_pairs_together_and_large_ones_alone(monkeypatch):
    calls = []

    def matched(pairs, options, device):
        calls.append(len(pairs))
        return nn.match(pairs, options, device)

    monkeypatch.setattr(matchers, "SIMILARITIES", 2 * 30 * 30)
    monkeypatch.setattr(matchers, "import_module", lambda module: SimpleNamespace(match=matched))
    small, large = unit(np.random.default_rng(7), 10), unit(np.random.default_rng(8), 50)
    assert len(match_pairs([(small, small)] * 6)) == 6 and calls == [4, 2]
    assert len(match_pairs([(small, small), (large, large), (small, large)])) == 3 and calls[2:] == [1, 1, 1]


def test_one_bad_row_among_many_pairs_is_found():
    d = unit(np.random.default_rng(0), 6)
    bad = d.copy()
    bad[5] *= 1e-30  # its square is 0, which is no zero row
    with pytest.raises(ValueError, match="unit length"):
        nn.match([(d, d), (d[:3], bad)], MatcherOptions())


@pytest.mark.parametrize("value", [np.nan, np.inf, 2.0])
def test_rows_that_are_not_unit_are_refused(value):
    d = unit(np.random.default_rng(0), 6)
    d[2, 3] = value
    with pytest.raises(ValueError, match="unit length"):
        match(d, d)


def test_other_dimensions_are_refused():
    with pytest.raises(ValueError, match="cannot be compared"):
        match(np.ones((2, 128), np.float32), np.ones((2, 64), np.float32))
