"""IMC 2020/2021: its ATE, quirk included, and the summary of bags."""

import math

import numpy as np
import pytest

from pipeline.metrics import imc

SQUARE = np.array([(0, 0, 0), (2, 0, 0), (0, 2, 0), (2, 2, 0)], float)


def bag(errors, registered=3, **values) -> imc.Bag:
    return imc.Bag(
        5, np.array(errors, float), registered, **({"points3D": 10, "track_length": 2.5, "ate": 0.1} | values)
    )


def test_spread_iterations_and_half_diagonal():
    assert [imc.ransac_iterations(n) for n in (3, 4, 5, 10)] == [1, 16, 37, 68]
    assert imc.half_diagonal(SQUARE) == pytest.approx(1.41421356)


def test_the_benchmarks_alignment_scales_the_centroid_too():
    m = np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0)], float)
    scale, R, t = imc.benchmark_alignment(m, 2 * m + (10, 0, 0))
    assert scale == pytest.approx(2)
    np.testing.assert_allclose(scale * (R @ m[0] + t), (20.6667, 0.6667, 0), atol=1e-4)


def test_ate_is_zero_for_the_truth_and_half_the_diagonal_for_a_failed_alignment():
    assert imc.benchmark_ate(SQUARE, SQUARE) == pytest.approx(0, abs=1e-12)
    shift = SQUARE - SQUARE.mean(axis=0)
    assert imc.benchmark_ate(shift, SQUARE) == pytest.approx(0, abs=1e-12)  # scale 1: the quirk does no harm
    assert imc.benchmark_ate(2 * SQUARE, SQUARE + 100) == pytest.approx(imc.half_diagonal(SQUARE))
    assert imc.benchmark_ate(SQUARE[:2], SQUARE[:2]) is None


def test_bags_count_failures_for_accuracy_and_leave_them_out_of_sizes():
    scores = imc.multiview([bag([0.5, 3.2]), bag([math.inf, math.inf], registered=0, points3D=0, ate=None)])
    assert scores["maa_10"] == pytest.approx((1.0 + 0.7) / 4)
    assert scores["success_rate"] == 0.5
    assert scores["registered"] == 3 and scores["points3D"] == 10 and scores["ate"] == pytest.approx(0.1)


def test_accuracy_the_slow_way():
    rng = np.random.default_rng(0)
    bags = [bag(rng.uniform(0, 15, 10)) for _ in range(4)]
    total = 0.0
    for k in range(1, 11):
        per_bag = [sum(e < k or (k == 10 and e == 10) for e in b.errors_deg) / 10 for b in bags]
        total += sum(per_bag) / 4
    assert imc.multiview(bags)["maa_10"] == pytest.approx(total / 10)


def test_average_over_bag_sizes():
    five, ten = imc.multiview([bag([0.5])]), imc.multiview([bag([20.0], registered=5)])
    average = imc.bag_average({5: five, 10: ten})
    assert average["maa_10"] == pytest.approx(0.5)
    assert average["registered_ratio"] == pytest.approx((3 / 5 + 5 / 10) / 2)
