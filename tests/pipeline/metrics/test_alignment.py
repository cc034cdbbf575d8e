"""Similarity of camera centres and what is left of the errors after it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.metrics.alignment import ate, umeyama

RZ90 = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
CORNERS = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])


def test_exact_similarity():
    s = umeyama(CORNERS, 2 * CORNERS @ RZ90.T + (1, 2, 3))
    assert s is not None
    assert s.scale == pytest.approx(2)
    np.testing.assert_allclose(s.R, RZ90, atol=1e-12)
    np.testing.assert_allclose(s.t, (1, 2, 3), atol=1e-12)


def test_least_squares_similarity():
    y = 2 * CORNERS @ RZ90.T + (1, 2, 3)
    y[3, 2] += 0.4
    s, errors = umeyama(CORNERS, y), ate(CORNERS, y)
    assert s is not None and errors is not None
    assert s.scale == pytest.approx(2.1349196, abs=1e-6)
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(0.1272458, abs=1e-6)
    assert errors.mean() == pytest.approx(0.1244575, abs=1e-6)


@pytest.mark.parametrize(
    "x", [CORNERS[:2], np.outer(np.arange(5.0), (1, 2, 3)), np.ones((4, 3)), np.empty((0, 3))], ids=str
)
def test_not_alignable_is_not_an_error_of_zero(x):
    assert umeyama(x, x) is None
    assert ate(x, x) is None


def test_a_mirror_image_is_not_a_similarity():
    s = umeyama(CORNERS * (-1, 1, 1), CORNERS)
    assert s is not None and np.linalg.det(s.R) == pytest.approx(1)
    errors = ate(CORNERS * (-1, 1, 1), CORNERS)
    assert errors is not None and errors.max() > 0.3


@given(st.integers(0, 10_000), st.floats(0.05, 20))
@settings(max_examples=50, deadline=None)
def test_recovers_what_was_applied_and_no_small_change_is_better(seed, scale):
    rng = np.random.default_rng(seed)
    x, (R, _) = rng.normal(size=(6, 3)), np.linalg.qr(rng.normal(size=(3, 3)))
    R = R * np.sign(np.linalg.det(R))
    y = scale * x @ R.T + rng.normal(size=3)
    s = umeyama(x, y)
    assert s is not None
    assert s.scale == pytest.approx(scale)
    np.testing.assert_allclose(s.R, R, atol=1e-9)

    noisy = y + 0.1 * scale * rng.normal(size=y.shape)
    best = umeyama(x, noisy)
    assert best is not None
    least = np.sum((best.points(x) - noisy) ** 2)
    for _ in range(5):
        other = best.scale * (1 + 0.01 * rng.normal()) * x @ best.R.T + best.t + 0.01 * rng.normal(size=3)
        assert np.sum((other - noisy) ** 2) >= least * (1 - 1e-12)
