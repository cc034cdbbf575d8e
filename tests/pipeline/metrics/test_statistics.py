"""Summaries and paired bootstrap."""

import numpy as np
import pytest

from pipeline.metrics.statistics import paired_difference, summarise


def test_summary():
    s = summarise(np.array([1.0, 2, 4]))
    assert (s.n, s.mean, s.min, s.max) == (3, pytest.approx(7 / 3), 1, 4)
    assert s.std == pytest.approx(np.sqrt((16 + 1 + 25) / 9 / 2))
    assert summarise(np.array([5.0])).std == 0


def test_a_constant_difference_has_no_spread():
    d = paired_difference(np.array([2.0, 3, 4]), np.array([1.0, 2, 3]))
    assert (d.mean, d.low, d.high, d.larger) == (1, 1, 1, 3)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    hits = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        base = rng.normal(size=40)
        d = paired_difference(base + 0.3 + rng.normal(0, 0.5, 40), base, resamples=400, seed=seed)
        hits += d.low <= 0.3 <= d.high
    assert 0.88 <= hits / 200 <= 0.99


def test_whole_scenes_are_drawn():
    rng = np.random.default_rng(0)
    scene = np.repeat(np.arange(4), 50)
    a = np.array([0.0, 1, 2, 3])[scene] + 0.01 * rng.normal(size=200)
    grouped = paired_difference(a, np.zeros(200), scene)
    single = paired_difference(a, np.zeros(200))
    assert grouped.mean == pytest.approx(single.mean)
    assert grouped.high - grouped.low > 3 * (single.high - single.low)
