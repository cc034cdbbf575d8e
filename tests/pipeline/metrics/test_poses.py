"""Pose errors, mAA, AUC and epipolar distance: worked examples, the same formulas the slow way, and symmetries."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.metrics.poses import (
    FAILED,
    accuracy_curve,
    auc,
    auc_colmap,
    epipolar_distance,
    maa,
    pair_errors_deg,
    relative_poses,
    rotation_error_deg,
    translation_error_deg,
)

I3 = np.eye(3)


def rz(degrees: float) -> np.ndarray:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


def scene(seed: int, n: int = 6, noise: float = 0.05, missing: int = 0):
    """n true poses and n estimates near them, `missing` of which are NaN."""
    rng = np.random.default_rng(seed)
    R_true = np.stack([random_rotation(rng) for _ in range(n)])
    t_true = rng.normal(size=(n, 3))
    R = np.stack([rz(noise * 57 * rng.normal()) @ r for r in R_true])
    t = t_true + noise * rng.normal(size=(n, 3))
    for k in rng.choice(n, missing, replace=False):
        R[k], t[k] = np.nan, np.nan
    return R, t, R_true, t_true


# Worked examples


def test_maa_counts_failures_and_closes_only_the_last_bin():
    assert maa(np.array([0.5, 3.2, 9.99, np.inf]), 5) == pytest.approx(0.35)
    assert maa(np.array([0.5, 3.2, 9.99, np.inf]), 10) == pytest.approx(0.45)
    assert np.diff(accuracy_curve(np.array([0.5, 3.2, 9.99, FAILED])), prepend=0).nonzero()[0].tolist() == [0, 3, 9]
    assert maa(np.array([1.0, 10.0]), 5) == pytest.approx(0.4)
    assert maa(np.array([1.0, 10.0]), 10) == pytest.approx(0.5)
    assert maa(np.array([10.0]), 10) == pytest.approx(0.1)
    assert maa(np.array([1.0] * 6 + [FAILED] * 4)) == pytest.approx(0.54)


@pytest.mark.parametrize(
    ("R", "t", "rotation", "translation"),
    [(rz(5), (-1, 0, 0), 5, 0), (rz(90), (1, 1, 0), 90, 45), (I3, (0, 2, 0), 0, 90), (I3, (0, 0, 0), 0, 90)],
)
def test_errors_of_a_relative_pose(R, t, rotation, translation):
    assert rotation_error_deg(R, I3) == pytest.approx(rotation, abs=1e-9)
    assert translation_error_deg(np.array(t), np.array([1, 0, 0])) == pytest.approx(translation, abs=1e-9)


def test_a_true_baseline_of_zero_has_no_direction_to_miss():
    assert translation_error_deg(np.array([0.3, 0.1, 0]), np.zeros(3)) == 0
    assert translation_error_deg(np.array([0.3, 0.1, 0]), np.array([0, 1e-6, 0]), min_baseline=1e-5) == 0


def test_relative_pose():
    dR, dt = relative_poses(np.stack([rz(90), rz(120)]), np.array([[1.0, 0, 0], [0, 1, 2]]))
    np.testing.assert_allclose(dR[0], rz(30), atol=1e-12)
    np.testing.assert_allclose(dt[0], (-0.8660254, 0.5, 2), atol=1e-6)


def test_auc():
    errors = np.array([1, 2, 4, np.inf])
    assert [auc(errors, t) for t in (5, 10, 20)] == pytest.approx([0.5, 0.625, 0.6875])
    errors = np.array([0.5, 3.2, 9.99, 180, 90])
    assert [auc(errors, t) for t in (5, 10, 20)] == pytest.approx([0.316, 0.4261, 0.51305])
    errors = np.array([1.0] * 6 + [np.inf] * 4)
    assert [auc(errors, t) for t in (5, 10)] == pytest.approx([0.49, 0.545])
    assert auc(np.array([np.inf, np.inf]), 5) == 0
    assert auc(np.array([0.0, 0.0]), 5) == 1


def test_colmaps_auc_counts_an_error_of_exactly_the_threshold():
    assert auc(np.array([5.0]), 5) == 0
    assert auc_colmap(np.array([5.0]), 5) == pytest.approx(0.5)
    assert auc_colmap(np.array([0.1, 0.15, 5]), 1) == pytest.approx(0.608333, abs=1e-6)
    assert auc_colmap(np.array([0.1, 0.15, 5]), 1, min_error=0.2) == pytest.approx(0.666667, abs=1e-6)


def test_epipolar_distance():
    x1 = np.array([[0.5, 0.01], [0.5, 0.0158], [0.5, 0.02]])
    d = epipolar_distance(np.zeros((3, 2)), x1, I3, np.array([1.0, 0, 0]))
    np.testing.assert_allclose(d, [2.0e-4, 4.9928e-4, 8.0e-4], atol=1e-9)
    assert (d < 5e-4).tolist() == [True, True, False]


def test_scores_refuse_no_pairs_and_nan():
    for bad in (np.array([]), np.array([np.nan, 1.0])):
        with pytest.raises(ValueError):
            maa(bad)
        with pytest.raises(ValueError):
            auc(bad, 5)


# The same, the plain slow way


def quaternion(R: np.ndarray) -> np.ndarray:
    """Dominant eigenvector of Bar-Itzhack's matrix, as the IMC benchmark takes it."""
    K = np.array(
        [
            [R[0, 0] - R[1, 1] - R[2, 2], 0, 0, 0],
            [R[0, 1] + R[1, 0], R[1, 1] - R[0, 0] - R[2, 2], 0, 0],
            [R[0, 2] + R[2, 0], R[1, 2] + R[2, 1], R[2, 2] - R[0, 0] - R[1, 1], 0],
            [R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1], R[0, 0] + R[1, 1] + R[2, 2]],
        ]
    )
    return np.linalg.eigh(K / 3)[1][:, -1]


def imc_errors(dR, dt, dR_true, dt_true) -> tuple[float, float]:
    loss_q = max(1e-15, 1 - np.dot(quaternion(dR), quaternion(dR_true)) ** 2)
    cosine = np.dot(dt / np.linalg.norm(dt), dt_true / np.linalg.norm(dt_true))
    loss_t = max(1e-15, 1 - cosine**2)
    return math.degrees(math.acos(1 - 2 * loss_q)), math.degrees(math.acos(math.sqrt(1 - loss_t)))


@pytest.mark.parametrize("seed", range(5))
def test_pair_errors_are_imcs_formula(seed):
    R, t, R_true, t_true = scene(seed, noise=0.3)
    rotation, translation = pair_errors_deg(R, t, R_true, t_true)
    k = 0
    for i in range(len(R)):
        for j in range(i + 1, len(R)):
            dR, dR_true = R[j] @ R[i].T, R_true[j] @ R_true[i].T
            q, a = imc_errors(dR, t[j] - dR @ t[i], dR_true, t_true[j] - dR_true @ t_true[i])
            assert rotation[k] == pytest.approx(q, abs=1e-5)
            assert translation[k] == pytest.approx(a, abs=1e-5)
            k += 1
    assert k == len(rotation)


errors_lists = st.lists(st.one_of(st.floats(0, 25), st.just(math.inf), st.sampled_from([1.0, 5.0, 10.0])), min_size=1)


@given(errors_lists)
@settings(max_examples=60, deadline=None)
def test_maa_the_slow_way(errors):
    shares = []
    for k in range(1, 11):
        shares.append(sum(e < k or (k == 10 and e == 10) for e in errors) / len(errors))
    assert maa(np.array(errors), 10) == pytest.approx(sum(shares) / 10)
    assert maa(np.array(errors), 5) == pytest.approx(sum(shares[:5]) / 5)


@given(errors_lists, st.sampled_from([1, 3, 5, 10, 20]))
@settings(max_examples=60, deadline=None)
def test_auc_the_slow_way(errors, threshold):
    ordered, area, x0, y0 = sorted(errors), 0.0, 0.0, 0.0
    for rank, e in enumerate(ordered, 1):
        if e >= threshold:
            break
        area += (e - x0) * (y0 + rank / len(ordered)) / 2
        x0, y0 = e, rank / len(ordered)
    area += (threshold - x0) * y0
    assert auc(np.array(errors), threshold) == pytest.approx(area / threshold, abs=1e-12)


def test_epipolar_distance_the_slow_way():
    rng = np.random.default_rng(3)
    R, t = random_rotation(rng), rng.normal(size=3)
    x0, x1 = rng.normal(size=(7, 2)), rng.normal(size=(7, 2))
    E = np.cross(t, R, axisb=0, axisc=0)  # [t]x R, column by column
    for d, a, b in zip(epipolar_distance(x0, x1, R, t), x0, x1, strict=True):
        p, q = np.append(a, 1), np.append(b, 1)
        l1, l0 = E @ p, E.T @ q
        slow = (q @ E @ p) ** 2 * (1 / (l1[0] ** 2 + l1[1] ** 2) + 1 / (l0[0] ** 2 + l0[1] ** 2))
        assert d == pytest.approx(slow)


# What must change nothing


@given(st.integers(0, 1000), st.integers(0, 3), st.floats(0.1, 10))
@settings(max_examples=40, deadline=None)
def test_a_similarity_of_the_estimates_world_changes_nothing(seed, missing, scale):
    R, t, R_true, t_true = scene(seed, missing=missing)
    rng = np.random.default_rng(seed + 1)
    # X = scale S X' + c: the camera sees the same, R' = R S, t' = (R c + t) / scale
    S, c = random_rotation(rng), rng.normal(size=3)
    plain = np.maximum(*pair_errors_deg(R, t, R_true, t_true))
    moved = np.maximum(*pair_errors_deg(R @ S, (R @ c + t) / scale, R_true, t_true))
    np.testing.assert_allclose(moved, plain, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_a_swapped_pair_has_the_same_rotation_error_and_a_near_direction_error(seed):
    # The direction lies in the second camera's axes: seen from the other camera it differs by the rotation's error at
    # most. Who needs equality fixes the order of a pair by its names, as the evaluation does.
    R, t, R_true, t_true = scene(seed, n=2, noise=0.2)
    rotation, direction = pair_errors_deg(R, t, R_true, t_true)
    rotation_back, direction_back = pair_errors_deg(R[::-1], t[::-1], R_true[::-1], t_true[::-1])
    assert rotation == pytest.approx(rotation_back)
    assert abs(direction[0] - direction_back[0]) <= rotation[0] + 1e-9


def test_a_perfect_estimate_scores_one_and_a_missing_image_never_helps():
    _, _, R, t = scene(0, n=5)
    perfect = np.maximum(*pair_errors_deg(R, t, R, t))
    assert maa(perfect) == 1 and auc(perfect, 1) == pytest.approx(1)
    R_missing = R.copy()
    R_missing[2] = np.nan
    fewer = np.maximum(*pair_errors_deg(R_missing, t, R, t))
    assert (fewer == FAILED).sum() == 4
    assert maa(fewer) == pytest.approx(0.6)
    nothing = np.maximum(*pair_errors_deg(np.full_like(R, np.nan), t, R, t))
    assert maa(nothing) == 0 and auc(nothing, 20) == 0
