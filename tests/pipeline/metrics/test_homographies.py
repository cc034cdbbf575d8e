"""Homography scores: worked examples, the slow way, and what must change nothing."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.metrics import homographies as m
from pipeline.metrics.poses import auc

I3 = np.eye(3)
SIZE = (640, 480)


def homography(rng: np.random.Generator) -> np.ndarray:
    """A mild perspective: every point of the picture stays in front."""
    H = I3 + np.array([[0.1, 0.1, 20], [0.1, 0.1, 20], [1e-4, 1e-4, 0]]) * rng.uniform(-1, 1, (3, 3))
    return H


def test_corner_errors():
    H = np.diag([1.01, 1.01, 1])
    assert m.corner_error(H, I3, SIZE) == pytest.approx(4.8, abs=1e-6)
    assert m.corner_error(H, I3, SIZE, superpoint=True) == pytest.approx(4.7915001, abs=1e-6)
    shift = np.array([[1.0, 0, 3], [0, 1, 4], [0, 0, 1]])
    assert m.corner_error(shift, I3, SIZE) == pytest.approx(5) == m.corner_error(shift, I3, SIZE, superpoint=True)
    assert m.corner_error(None, I3, SIZE) == math.inf
    assert m.corner_error(np.full((3, 3), np.nan), I3, SIZE) == math.inf
    assert auc(np.array([m.corner_error(I3, I3, SIZE), m.corner_error(None, I3, SIZE)]), 1) == pytest.approx(0.5)


def test_matching_accuracy():
    accuracy = m.matching_accuracy(np.array([0.5, 1.0, 2.2, 7]), np.arange(1, 11))
    np.testing.assert_allclose(accuracy, [0.5, 0.5, 0.75, 0.75, 0.75, 0.75, 1, 1, 1, 1])
    assert accuracy.mean() == pytest.approx(0.8)
    assert m.matching_accuracy(np.array([]), np.arange(1, 11)).sum() == 0


def test_repeatability():
    a = np.array([(10, 10), (20, 20), (30, 30)], float)
    b = np.array([(11, 10), (20, 24), (50, 50), (30, 32)], float)
    assert m.repeatability(a, b, I3, SIZE, SIZE) == pytest.approx(0.5714286)
    assert m.repeatability(b, a, I3, SIZE, SIZE) == pytest.approx(0.5714286)
    far = np.array([[1.0, 0, 9999], [0, 1, 0], [0, 0, 1]])
    assert m.repeatability(a, b, far, SIZE, SIZE) is None


def test_circle_overlap():
    overlap = m.circle_overlap(
        np.array([10, 20, 0, 0, 60, 100]), np.full(6, 30.0), np.array([30, 30, 24, 20, 30, 30.0])
    )
    np.testing.assert_allclose(overlap, [0.6512277, 0.4120134, 0.64, 0.4444444, 0, 0], atol=1e-7)


def test_repeatability_by_overlap_is_one_to_one():
    a, b = np.array([(0.0, 0), (1, 0)]), np.array([(0.0, 0), (100, 0)])
    assert m.repeatability_overlap(a, np.ones(2), b, np.ones(2)) == pytest.approx(0.5)
    # Equal overlap at every scale: the larger circle is brought to 30 pixels.
    assert m.repeatability_overlap(a[:1], np.array([1.0]), b[:1], np.array([1.25])) == 1
    assert m.repeatability_overlap(a[:1], np.array([1.0]), b[:1], np.array([1.5])) == 0
    assert m.repeatability_overlap(a[:0], np.ones(0), b, np.ones(2)) == 0


def test_matching_score_is_strict_and_of_the_picture_with_fewer_points():
    assert m.matching_score(np.array([1, 4.99, 5, 9]), 4, 10) == pytest.approx(0.5)
    assert m.matching_score(np.array([]), 0, 0) == 0


@given(st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_warp_and_areas_the_slow_way(seed):
    rng = np.random.default_rng(seed)
    H, points = homography(rng), rng.uniform((-50, -50), (700, 530), (20, 2))
    warped = m.warp(points, H)
    shown, _ = m.common_area(points, points, H, SIZE, SIZE)
    for p, q, ok in zip(points, warped, shown, strict=True):
        x, y, w = (sum(H[r, c] * v for c, v in enumerate((*p, 1))) for r in range(3))
        np.testing.assert_allclose(q, (x / w, y / w))
        assert ok == (0 <= x / w < 640 and 0 <= y / w < 480)
    np.testing.assert_allclose(m.warp(warped, np.linalg.inv(H)), points, atol=1e-6)


@given(st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_repeatability_the_slow_way(seed):
    rng = np.random.default_rng(seed)
    H = homography(rng)
    a = rng.uniform((0, 0), SIZE, (40, 2))
    b = np.r_[m.warp(a[:20], H) + rng.normal(0, 2, (20, 2)), rng.uniform((0, 0), SIZE, (15, 2))]
    back = np.linalg.inv(H)
    shared_a = [m.warp(p[None], H)[0] for p in a if m.inside(m.warp(p[None], H), SIZE)[0]]
    shared_b = [p for p in b if m.inside(m.warp(p[None], back), SIZE)[0]]
    hits = sum(any(math.dist(p, q) <= 3 for q in shared_b) for p in shared_a)
    hits += sum(any(math.dist(p, q) <= 3 for p in shared_a) for q in shared_b)
    expected = hits / (len(shared_a) + len(shared_b))
    assert m.repeatability(a, b, H, SIZE, SIZE) == pytest.approx(expected)


@given(st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_swapping_and_shuffling_change_no_symmetric_score(seed):
    rng = np.random.default_rng(seed)
    H = homography(rng)
    a = rng.uniform((0, 0), SIZE, (30, 2))
    b = m.warp(a, H) + rng.normal(0, 1, a.shape)
    back = np.linalg.inv(H)
    np.testing.assert_allclose(m.symmetric_errors(a, b, H), m.symmetric_errors(b, a, back), atol=1e-6)
    order = rng.permutation(len(a))
    assert m.matching_accuracy(m.reprojection_errors(a[order], b[order], H), [1, 3]) == pytest.approx(
        m.matching_accuracy(m.reprojection_errors(a, b, H), [1, 3])
    )
    assert m.repeatability(a[order], b, H, SIZE, SIZE) == pytest.approx(m.repeatability(a, b, H, SIZE, SIZE))
    radius = rng.uniform(5, 20, len(a))
    one = m.repeatability_overlap(a, radius, b, radius)
    assert m.repeatability_overlap(b, radius, a, radius) == pytest.approx(one)


def test_a_perfect_match_set_scores_one():
    rng = np.random.default_rng(0)
    H, a = homography(rng), rng.uniform((100, 100), (500, 400), (50, 2))
    b = m.warp(a, H)
    assert m.matching_accuracy(m.reprojection_errors(a, b, H), [1]).item() == 1
    assert m.repeatability(a, b, H, SIZE, SIZE) == 1
    assert m.matching_score(m.reprojection_errors(a, b, H), len(a), len(b)) == 1
