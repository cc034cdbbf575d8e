"""What every matcher must do: the same checks for each member of the family."""

import numpy as np
import pytest

from pipeline.matchers import MATCHERS, MatcherOptions, match


@pytest.fixture(params=sorted(MATCHERS))
def options(request) -> MatcherOptions:
    return MatcherOptions.model_validate({"name": request.param})


def descriptors(n: int, seed: int, dimensions: int = 64) -> np.ndarray:
    d = np.random.default_rng(seed).normal(size=(n, dimensions)).astype(np.float32)
    return d / np.linalg.norm(d, axis=1, keepdims=True)


def noisy(d: np.ndarray, seed: int) -> np.ndarray:
    d = d + 0.05 * np.random.default_rng(seed).normal(size=d.shape).astype(np.float32)
    return d / np.linalg.norm(d, axis=1, keepdims=True)


def test_finds_a_permutation_among_strangers(options):
    d0 = descriptors(200, 0)
    order = np.random.default_rng(1).permutation(200)
    d1 = np.concatenate([descriptors(50, 2), noisy(d0, 3)[order]])
    found = match(d0, d1, options)
    assert found.indices.dtype == np.int32 and found.scores.dtype == np.float32
    assert found.indices.shape == (len(found.scores), 2)
    truth = {(int(i), 50 + j) for j, i in enumerate(order)}
    pairs = {(int(i), int(j)) for i, j in found.indices}
    assert len(pairs & truth) > 190 and len(pairs - truth) < 5
    assert (np.diff(found.indices[:, 0]) > 0).all()
    assert (found.scores >= 0).all() and (found.scores <= 1).all()


def test_swapping_the_images_swaps_the_matches(options):
    d0, d1 = descriptors(80, 0), np.concatenate([noisy(descriptors(80, 0), 1)[::-1], descriptors(20, 2)])
    one, two = match(d0, d1, options), match(d1, d0, options)
    assert {(int(i), int(j)) for i, j in one.indices} == {(int(j), int(i)) for i, j in two.indices}


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 5), (5, 0), (1, 0), (0, 1)])
def test_nothing_to_match(options, n, m):
    found = match(descriptors(n, 0), descriptors(m, 1), options)
    assert found.indices.shape == (0, 2) and found.scores.shape == (0,)


def test_one_on_each_side_is_in_range(options):
    d = descriptors(1, 0)
    assert len(match(d, d, options).indices) <= 1


def test_zero_rows_never_match(options):
    d0, d1 = descriptors(60, 0), noisy(descriptors(60, 0), 1)
    d0[7], d1[9] = 0, 0
    found = match(d0, d1, options)
    assert 7 not in found.indices[:, 0] and 9 not in found.indices[:, 1] and len(found.indices) > 50


def test_same_input_same_answer(options):
    d0, d1 = descriptors(300, 0), noisy(descriptors(300, 0), 1)
    one, two = match(d0, d1, options), match(d0.copy(), d1.copy(), options)
    np.testing.assert_array_equal(one.indices, two.indices)
    np.testing.assert_array_equal(one.scores, two.scores)
