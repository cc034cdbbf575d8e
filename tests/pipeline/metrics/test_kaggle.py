"""Kaggle's four scores: worked examples, the slow way, and what must change nothing."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.metrics import kaggle
from pipeline.metrics.poses import rotation_error_deg

NAMES = "abcde"
TRUE = dict(zip(NAMES, np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)], float), strict=True))
METRES = kaggle.METRES_2024
NAN = np.full(3, np.nan)


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


# 2022


@pytest.mark.parametrize(("t", "error"), [((-1, 0, 0), 0), ((0, 1, 0), 2.8284271), ((1, 0.1, 0), 0.1992548)])
def test_2022_translation_error(t, error):
    assert kaggle.translation_error_metres(np.array(t), np.array([1, 0, 0]), 2) == pytest.approx(error, abs=1e-6)


def test_2022_is_strict():
    degrees, metres = np.array([0.5, 2.5, 5.0]), np.array([0.1, 0.3, 0.8])
    assert kaggle.maa_2022(degrees, metres) == pytest.approx(0.7666667)
    loose = kaggle.joint_maa(degrees, metres, kaggle.ROTATIONS_2022, kaggle.METRES_2022, strict=False)
    assert loose == pytest.approx(0.8)
    np.testing.assert_allclose(kaggle.METRES_2022[1:5], (0.285994, 0.408962, 0.584804, 0.836251), atol=1e-6)


# 2023


def scene_2023(seed: int, n: int = 5):
    rng = np.random.default_rng(seed)
    R_true, t_true = np.stack([random_rotation(rng) for _ in range(n)]), rng.normal(size=(n, 3))
    R = np.stack([random_rotation(rng) if rng.random() < 0.3 else r for r in R_true])
    return R, t_true + 0.1 * rng.normal(size=(n, 3)), R_true, t_true


@pytest.mark.parametrize("seed", range(4))
def test_2023_the_slow_way(seed):
    thresholds = kaggle.THRESHOLDS_2023["heritage", "wall"]
    R, t, R_true, t_true = scene_2023(seed)
    hits = total = 0
    for i, j in combinations(range(len(R)), 2):
        dR, dR_true = R[j] @ R[i].T, R_true[j] @ R_true[i].T
        dt, dt_true = t[j] - dR @ t[i], t_true[j] - dR_true @ t_true[i]
        scaled = dt * math.hypot(*dt_true) / (math.hypot(*dt) + 1e-15)
        metres = min(math.dist(dt_true, scaled), math.dist(dt_true, -scaled))
        for r, m in zip(*thresholds, strict=True):
            hits += float(rotation_error_deg(dR, dR_true)) <= r and metres <= m
            total += 1
    assert kaggle.maa_2023(R, t, R_true, t_true, thresholds) == pytest.approx(hits / total)


def test_2023_perfect_unregistered_and_nan():
    R, t, R_true, t_true = scene_2023(0)
    thresholds = kaggle.THRESHOLDS_2023["haiper", "bike"]
    assert kaggle.maa_2023(R_true, 7 * t_true, R_true, t_true, thresholds) == 1
    blank = kaggle.maa_2023(np.stack([np.eye(3)] * 5), np.zeros((5, 3)), R_true, t_true, thresholds)
    assert blank == 0
    R[0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        kaggle.maa_2023(R, t, R_true, t_true, thresholds)


def test_2023_mean_of_scenes_then_of_datasets():
    assert kaggle.mean_of_datasets({("a", "1"): 1.0, ("a", "2"): 0.0, ("b", "1"): 1.0}) == pytest.approx(0.75)


# 2024


def test_2024():
    double = {name: 2 * c for name, c in TRUE.items()}
    assert kaggle.maa_2024(double, TRUE, METRES) == 1
    assert kaggle.maa_2024(double | {"e": NAN}, TRUE, METRES) == pytest.approx(0.5)
    assert kaggle.maa_2024({n: double[n] for n in "abcd"}, TRUE, METRES) == pytest.approx(0.5)
    assert kaggle.maa_2024({n: double[n] for n in "abc"}, TRUE, METRES) == 0
    assert kaggle.maa_2024({}, TRUE, METRES) == 0
    assert kaggle.maa_2024({n: c * (-1, 1, 1) for n, c in TRUE.items()}, TRUE, METRES) == 0
    assert kaggle.maa_2024({n: np.zeros(3) for n in TRUE}, TRUE, METRES) == 0
    with pytest.raises(ValueError, match="more than three"):
        kaggle.maa_2024({}, {n: TRUE[n] for n in "abc"}, METRES)


def test_2024_refits_on_the_inliers():
    moved = {name: 2 * c for name, c in TRUE.items()}
    moved["e"] = moved["e"] + (0.6, 0, 0)
    order = list(TRUE)
    counts = kaggle.registered_within(np.array([moved[n] for n in order]), np.array([TRUE[n] for n in order]), METRES)
    assert counts.tolist() == [4, 4, 4, 5, 5, 5]
    assert kaggle.maa_2024(moved, TRUE, METRES) == pytest.approx(0.75)


def slow_fit(a: np.ndarray, b: np.ndarray):
    ma, mb = a.mean(axis=0), b.mean(axis=0)
    U, _, Vt = np.linalg.svd((b - mb).T @ (a - ma))
    R = U @ np.diag([1, 1, np.sign(np.linalg.det(U @ Vt))]) @ Vt
    s = math.sqrt(np.sum((b - mb) ** 2) / np.sum((a - ma) ** 2))
    return lambda x: s * (x - ma) @ R.T + mb


def slow_counts(a: np.ndarray, b: np.ndarray, thresholds) -> list[int]:
    best = [0] * len(thresholds)
    for triple in combinations(range(len(a)), 3):
        first = slow_fit(a[list(triple)], b[list(triple)])
        for th in thresholds:
            inliers = np.linalg.norm(first(a) - b, axis=1) < th
            if inliers.sum() > 2:
                distance = np.linalg.norm(slow_fit(a[inliers], b[inliers])(a) - b, axis=1)
                best = [max(n, int((distance < t).sum())) for n, t in zip(best, thresholds, strict=True)]
    return best


@pytest.mark.parametrize("seed", range(4))
def test_2024_the_slow_way_and_in_any_order_and_world(seed):
    rng = np.random.default_rng(seed)
    b = rng.normal(size=(7, 3))
    a = 3 * b @ random_rotation(rng).T + rng.normal(size=3) + 0.3 * rng.normal(size=(7, 3)) * rng.integers(0, 2, (7, 1))
    counts = kaggle.registered_within(a, b, METRES)
    assert counts.tolist() == slow_counts(a, b, METRES)
    assert kaggle.registered_within(a, b, METRES, batch=5).tolist() == counts.tolist()
    order = rng.permutation(7)
    assert kaggle.registered_within(a[order], b[order], METRES).tolist() == counts.tolist()
    moved = 0.2 * a @ random_rotation(rng).T - 4
    assert kaggle.registered_within(moved, b, METRES).tolist() == counts.tolist()


# 2025

A = {f"a{n}": c for n, c in TRUE.items()}
B = {f"b{n}": TRUE[n] for n in "abcd"}
TH = {"A": np.r_[0.001, 0.002, METRES], "B": np.r_[0.001, 0.002, METRES]}


def test_2025_worked_example():
    clusters = {
        "c1": {**A, "ba": np.zeros(3)},
        "c2": {name: B[name] for name in ("bb", "bc", "bd")},
        "outliers": {"x": NAN},
    }
    result = kaggle.score_2025({"A": A, "B": B}, clusters, TH)
    assert result.maa == pytest.approx(0.6666667)
    assert result.clustering == pytest.approx(8 / 9)
    assert result.score == pytest.approx(0.7619048)


def test_2025_everything_in_one_cluster():
    clusters = {"c": {**A, **B, "x": np.zeros(3)}}
    result = kaggle.score_2025({"A": A, "B": B}, clusters, TH)
    assert (result.maa, result.clustering) == (1, pytest.approx(0.45))
    assert result.score == pytest.approx(0.6206897)


def test_2025_nothing_and_everything_right():
    perfect = kaggle.score_2025({"A": A, "B": B}, {"1": A, "2": B}, TH)
    assert perfect.score == perfect.maa == perfect.clustering == 1
    nothing = kaggle.score_2025({"A": A}, {"outliers": dict.fromkeys(A, NAN)}, TH)
    assert nothing == kaggle.Score2025(0, 0, 0)
    # An unregistered image stays in the denominator; an outlier in a cluster lowers the clustering alone.
    unregistered = kaggle.score_2025({"A": A}, {"1": A | {"ae": NAN}}, TH)
    assert unregistered.maa == pytest.approx(0.5) and unregistered.clustering == 1
    polluted = kaggle.score_2025({"A": A}, {"1": A | {"x": np.zeros(3)}}, TH)
    assert polluted.maa == 1 and polluted.clustering == pytest.approx(5 / 6)


def test_2025_overlap_goes_before_registration():
    bad = {"aa": NAN, "ab": NAN, "ac": NAN}
    good = {"ad": TRUE["d"], "ae": TRUE["e"]}
    result = kaggle.score_2025({"A": A}, {"good": good, "bad": bad}, TH)
    assert result.clustering == 1 and result.maa == 0


@given(st.integers(0, 500))
@settings(max_examples=20, deadline=None)
def test_2025_names_and_order_of_clusters_change_nothing(seed):
    rng = np.random.default_rng(seed)
    clusters: dict[str, dict[str, np.ndarray]] = {}
    for name, centre in {**A, **B}.items():
        clusters.setdefault(f"c{rng.integers(0, 3)}", {})[name] = centre + 0.1 * rng.normal(size=3)
    plain = kaggle.score_2025({"A": A, "B": B}, clusters, TH)
    renamed = {f"other {k}": dict(reversed(v.items())) for k, v in reversed(clusters.items())}
    other = kaggle.score_2025({"B": B, "A": A}, renamed, TH)
    assert 0 <= plain.score <= 1
    # Ties in overlap and registration may fall to either cluster; without one the score is the same.
    if all(len({len(set(c) & set(s)) for c in clusters.values()}) == len(clusters) for s in (A, B)):
        assert other.score == pytest.approx(plain.score)
