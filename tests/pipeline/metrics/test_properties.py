"""What must change no score: the order of images and pairs, the frame and scale of the estimate's world, and which
image of a pair is called the first."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.metrics import homographies, kaggle
from pipeline.metrics.alignment import ate
from pipeline.metrics.poses import (
    FAILED,
    accuracy_curve,
    auc,
    auc_colmap,
    epipolar_distance,
    estimated,
    maa,
    pair_errors_deg,
    rotation_error_deg,
    translation_error_deg,
)
from pipeline.metrics.statistics import paired_difference, summarise

many = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 10_000)
scales = st.floats(0.05, 20)


def rotation(rng: np.random.Generator, degrees: float | None = None) -> np.ndarray:
    """A random rotation, or one by so many degrees about a random axis."""
    if degrees is None:
        q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        return q * np.sign(np.linalg.det(q))
    axis = rng.normal(size=3)
    x, y, z = axis / np.linalg.norm(axis)
    K = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * K + (1 - np.cos(angle)) * K @ K


def poses(rng: np.random.Generator, n: int = 6, missing: int = 0, degrees: float = 4.0):
    """True poses of n images and estimates some degrees off, `missing` of which are NaN: R, t, R_true, t_true."""
    R_true, t_true = np.stack([rotation(rng) for _ in range(n)]), rng.normal(size=(n, 3))
    R = np.stack([rotation(rng, degrees * rng.random()) @ r for r in R_true])
    t = t_true + 0.1 * rng.normal(size=(n, 3))
    R[:missing], t[:missing] = np.nan, np.nan
    return R, t, R_true, t_true


def moved(rng: np.random.Generator, R: np.ndarray, t: np.ndarray, scale: float):
    """The same poses in another world: X = scale S X' + c."""
    S, c = rotation(rng), rng.normal(size=3)
    return R @ S, (R @ c + t) / scale


def scores(errors: np.ndarray) -> list[float]:
    areas = [auc(errors, 5), auc(errors, 20), auc_colmap(errors, 10)]
    return [*accuracy_curve(errors), maa(errors, 5), maa(errors, 10), *areas]


@given(seeds, st.integers(0, 3))
@many
def test_pairs_in_any_order_give_the_same_scores(seed, missing):
    rng = np.random.default_rng(seed)
    errors = np.maximum(*pair_errors_deg(*poses(rng, missing=missing)))
    np.testing.assert_allclose(scores(rng.permutation(errors)), scores(errors), atol=1e-12)


@given(seeds, st.integers(0, 3))
@many
def test_images_in_any_order_give_the_same_rotation_errors_and_the_same_failures(seed, missing):
    rng = np.random.default_rng(seed)
    R, t, R_true, t_true = poses(rng, missing=missing)
    order = rng.permutation(len(R))
    plain = pair_errors_deg(R, t, R_true, t_true)
    shuffled = pair_errors_deg(R[order], t[order], R_true[order], t_true[order])
    np.testing.assert_allclose(np.sort(shuffled[0]), np.sort(plain[0]), atol=1e-7)
    assert (shuffled[1] == FAILED).sum() == (plain[1] == FAILED).sum()
    assert estimated(R[order], t[order]).sum() == len(R) - missing


@given(seeds, scales, st.integers(0, 3))
@many
def test_the_world_of_estimate_and_truth_is_free(seed, scale, missing):
    rng = np.random.default_rng(seed)
    R, t, R_true, t_true = poses(rng, missing=missing)
    plain = pair_errors_deg(R, t, R_true, t_true)
    for other in (
        (*moved(rng, R, t, scale), R_true, t_true),
        (R, t, *moved(rng, R_true, t_true, scale)),
    ):
        np.testing.assert_allclose(pair_errors_deg(*other), plain, atol=1e-5)


@given(seeds)
@many
def test_a_swapped_pair(seed):
    """The rotation error is the same; so is the direction's where the rotation is right, for the direction is seen
    from the second camera. The epipolar distance of a match knows no first image."""
    rng = np.random.default_rng(seed)
    dR, dR_true, t, t_true = rotation(rng), rotation(rng), rng.normal(size=3), rng.normal(size=3)
    back, back_true = (dR.T, -dR.T @ t), (dR_true.T, -dR_true.T @ t_true)
    np.testing.assert_allclose(rotation_error_deg(back[0], back_true[0]), rotation_error_deg(dR, dR_true), atol=1e-6)
    right = translation_error_deg(-dR_true.T @ t, back_true[1])
    np.testing.assert_allclose(right, translation_error_deg(t, t_true), atol=1e-6)
    off = rotation_error_deg(dR, dR_true)
    assert abs(translation_error_deg(back[1], back_true[1]) - translation_error_deg(t, t_true)) <= off + 1e-6
    x0, x1 = rng.normal(size=(20, 2)), rng.normal(size=(20, 2))
    np.testing.assert_allclose(epipolar_distance(x1, x0, *back), epipolar_distance(x0, x1, dR, t), rtol=1e-6)


@given(seeds, scales)
@many
def test_absolute_errors_know_neither_order_nor_the_estimates_world(seed, scale):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(7, 3))
    x = y + 0.1 * rng.normal(size=(7, 3))
    plain = ate(x, y)
    assert plain is not None
    np.testing.assert_allclose(ate(scale * x @ rotation(rng).T + rng.normal(size=3), y), plain, atol=1e-7)
    order = rng.permutation(7)
    np.testing.assert_allclose(ate(x[order], y[order]), plain[order], atol=1e-9)
    np.testing.assert_allclose(ate(x, scale * y @ rotation(rng).T), scale * plain, rtol=1e-6, atol=1e-9)


@given(seeds, scales)
@many
def test_kaggle_2022_and_2023(seed, scale):
    rng = np.random.default_rng(seed)
    degrees, metres = rng.uniform(0, 12, 20), rng.uniform(0, 6, 20)
    order = rng.permutation(20)
    assert np.isclose(kaggle.maa_2022(degrees[order], metres[order]), kaggle.maa_2022(degrees, metres))
    t, t_true = rng.normal(size=(2, 3))
    turn = rotation(rng)
    error = kaggle.translation_error_metres(t, t_true)
    assert np.isclose(kaggle.translation_error_metres(-scale * turn @ t, turn @ t_true), error)
    R, t, R_true, t_true = poses(rng)
    thresholds = kaggle.THRESHOLDS_2023["urban", "kyiv-puppet-theater"]
    plain = kaggle.maa_2023(R, t, R_true, t_true, thresholds)
    assert np.isclose(kaggle.maa_2023(*moved(rng, R, t, scale), R_true, t_true, thresholds), plain)
    assert np.isclose(kaggle.maa_2023(R, t, *moved(rng, R_true, t_true, 1.0), thresholds), plain)


@given(seeds, scales, st.integers(0, 2))
@settings(max_examples=20, deadline=None)
def test_kaggle_2024_and_2025(seed, scale, missing):
    rng = np.random.default_rng(seed)
    true = {f"{k}.png": centre for k, centre in enumerate(rng.normal(size=(7, 3)))}
    found = {name: centre + 0.3 * rng.normal(size=3) * rng.integers(0, 2) for name, centre in true.items()}
    found = dict(list(found.items())[missing:])
    S, c = rotation(rng), rng.normal(size=3)
    other = {name: scale * S @ found[name] + c for name in rng.permutation(list(found)).tolist()}
    shuffled = {name: true[name] for name in rng.permutation(list(true)).tolist()}
    plain = kaggle.maa_2024(found, true, kaggle.METRES_2024)
    assert np.isclose(kaggle.maa_2024(other, shuffled, kaggle.METRES_2024), plain)
    metres = {"s": kaggle.METRES_2024}
    one = kaggle.score_2025({"s": true}, {"c": found}, metres, skip=0)
    two = kaggle.score_2025({"s": shuffled}, {"another name": other}, metres, skip=0)
    assert np.isclose(one.score, two.score) and np.isclose(one.maa, plain)


@given(seeds)
@many
def test_matches_of_a_plane_know_neither_order_nor_first_picture(seed):
    rng = np.random.default_rng(seed)
    H = np.eye(3) + np.array([[0.1, 0.1, 20], [0.1, 0.1, 20], [1e-4, 1e-4, 0]]) * rng.uniform(-1, 1, (3, 3))
    size = (640, 480)
    a = rng.uniform((0, 0), size, (40, 2))
    b = homographies.warp(a, H) + rng.normal(0, 2, a.shape)
    order = rng.permutation(40)
    errors = homographies.reprojection_errors(a, b, H)
    shuffled = homographies.reprojection_errors(a[order], b[order], H)
    np.testing.assert_allclose(
        homographies.matching_accuracy(shuffled, [1, 3, 5]), homographies.matching_accuracy(errors, [1, 3, 5])
    )
    assert homographies.matching_score(shuffled, 30, 35) == homographies.matching_score(errors, 35, 30)
    plain = homographies.repeatability(a, b, H, size, size)
    assert np.isclose(homographies.repeatability(a[order], b[rng.permutation(40)], H, size, size), plain)
    # Distances are taken in the second picture: only where H keeps them is the first picture's name free.
    shift = np.array([[1, 0, 7.5], [0, 1, -4.25], [0, 0, 1]])
    one = homographies.repeatability(a, b, shift, size, size)
    assert np.isclose(homographies.repeatability(b, a, np.linalg.inv(shift), size, size), one)


@given(seeds)
@many
def test_a_difference_turned_round(seed):
    rng = np.random.default_rng(seed)
    a, b, scene = rng.normal(size=12), rng.normal(size=12), np.repeat(["x", "y", "z"], 4)
    one, two = paired_difference(a, b, scene), paired_difference(b, a, scene)
    np.testing.assert_allclose([one.mean, one.low, one.high], [-two.mean, -two.high, -two.low], atol=1e-12)
    assert one.larger + two.larger == one.n == 12
    order = rng.permutation(12)
    assert np.isclose(paired_difference(a[order], b[order], scene[order]).mean, one.mean)
    assert np.isclose(summarise(a[order]).std, summarise(a).std)
