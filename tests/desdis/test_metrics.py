"""The evaluators against cases worked by hand, and against the published conventions' difference."""

import numpy as np
import pytest

from desdis import metrics

DISTANCES, CORRECT = [0.1, 0.2, 0.3, 0.4], [1, 0, 1, 0]


def mixed(positives, negatives):
    return np.array([*positives, *negatives]), np.array([True] * len(positives) + [False] * len(negatives))


@pytest.mark.parametrize(
    ("positives", "negatives", "hardnet", "hynet"),
    [
        (range(1, 21), [18.5, 19.5, 20.5, *range(30, 37)], 0.1, 0.2),
        (range(1, 101), [94.5, 95.2, 95.5, 96.5, 200], 0.2, 0.6),
    ],
)
def test_fpr95_in_both_conventions(positives, negatives, hardnet, hynet):
    distances, matches = mixed(positives, negatives)
    shuffled = np.random.default_rng(0).permutation(len(matches))
    assert metrics.fpr95(distances[shuffled], matches[shuffled]) == pytest.approx(hardnet)
    assert metrics.fpr95_hynet(distances[shuffled], matches[shuffled]) == pytest.approx(hynet)


def test_average_precision_and_roc():
    assert metrics.average_precision(DISTANCES, CORRECT, 4) == pytest.approx(0.3958333, abs=1e-6)
    assert metrics.average_precision(DISTANCES, CORRECT) == pytest.approx(0.7916667, abs=1e-6)
    assert metrics.roc_area(DISTANCES, CORRECT) == pytest.approx(0.75)


def test_matching():
    distances = np.array([[0.1, 0.5, 0.9], [0.6, 0.4, 0.3], [0.9, 0.8, 0.2]])
    area, success = metrics.matching(distances)
    assert area == pytest.approx(2 / 3, abs=1e-6)
    assert success == pytest.approx(2 / 3)
    # ratios .2 (right), .75 (wrong), .25 (right): both right ones come first
    assert metrics.matching_by_ratio(distances) == pytest.approx(2 / 3, abs=1e-6)
    distances[0] = [0.1, 0.11, 0.9]  # the right one now comes last: precision 1, 1/2, 2/3
    assert metrics.matching_by_ratio(distances) == pytest.approx((1 + (1 / 2 + 2 / 3) / 2) / 3, abs=1e-6)


def test_retrieval():
    distances = np.array([[1, 2, 5, 6, 9, 3, 4, 7, 8, 10.0]])
    relevant = np.array([[True] * 5 + [False] * 5])
    assert metrics.retrieval(distances, relevant) == pytest.approx(0.7422222, abs=1e-6)
    ranks = np.array([[0.1, 0.5, 0.9], [0.6, 0.4, 0.3], [0.1, 0.3, 0.2]])
    assert metrics.retrieval_one(ranks) == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert metrics.retrieval_one(np.zeros((4, 4))) == metrics.retrieval_one(np.full((4, 4), np.nan)) == 1 / 4


def test_dimensions_used():
    axes = np.concatenate([np.eye(8), -np.eye(8)])
    assert metrics.dimensions_used(axes) == pytest.approx(8)
    assert metrics.dimensions_used(axes * [1, 1, 1, 1, 0, 0, 0, 0] + 3) == pytest.approx(4)
    assert metrics.dimensions_used(np.array([[0, 0], [2, 1], [1, 0], [1, 1.0]]) * [1, 0]) == pytest.approx(1)
    assert metrics.dimensions_used(np.full((7, 3), 0.1)) == metrics.dimensions_used(np.full((7, 3), np.nan)) == 0
    variances_3_and_1 = np.array([[1, 1], [-1, 1], [1, -1], [-1, -1]]) * [3**0.5, 1]
    assert metrics.dimensions_used(variances_3_and_1) == pytest.approx((3 + 1) ** 2 / (9 + 1))
