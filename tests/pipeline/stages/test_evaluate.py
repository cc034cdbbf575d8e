"""The evaluation of a model: what counts as a failure, what changes nothing, what is refused."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.cameras import Pose, Reference
from desdis.errors import UserError
from pipeline.stages.evaluate import evaluate


def rotation(rng: np.random.Generator, degrees: float | None = None) -> np.ndarray:
    """A random rotation, or one of about `degrees` about a random axis."""
    if degrees is None:
        q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        return q * np.sign(np.linalg.det(q))
    axis = rng.normal(size=3)
    axis *= np.radians(degrees) / np.linalg.norm(axis)
    K = np.cross(np.eye(3), axis)
    u, _, vt = np.linalg.svd(np.eye(3) + K)
    return u @ vt


def poses(seed: int, n: int = 6) -> dict[str, Pose]:
    rng = np.random.default_rng(seed)
    return {f"{k}.jpg": Pose(rotation(rng), rng.normal(size=3)) for k in range(n)}


def disturbed(truth: dict[str, Pose], seed: int, degrees: float = 2.0) -> dict[str, Pose]:
    rng = np.random.default_rng(seed)
    return {name: Pose(rotation(rng, degrees) @ p.R, p.t + 0.03 * rng.normal(size=3)) for name, p in truth.items()}


def in_world(estimate: dict[str, Pose], S: np.ndarray, c: np.ndarray, scale: float) -> dict[str, Pose]:
    return {name: Pose(p.R @ S, (p.R @ c + p.t) / scale) for name, p in estimate.items()}


SCORES = ("maa_10", "maa_5", "auc_1", "auc_3", "auc_5", "auc_10", "auc_20", "median_pose_error_deg", "registered_ratio")


def scores(estimate, truth, names=None) -> np.ndarray:
    accuracy = evaluate(estimate, Reference(truth), names)
    return np.array([getattr(accuracy, s) for s in SCORES])


def test_a_perfect_model_in_another_world_scores_one():
    truth = poses(0)
    rng = np.random.default_rng(1)
    accuracy = evaluate(in_world(truth, rotation(rng), rng.normal(size=3), 3.0), Reference(truth))
    assert accuracy.maa_10 == accuracy.maa_5 == accuracy.registered_ratio == 1
    assert accuracy.auc_1 == pytest.approx(1)
    assert accuracy.median_pose_error_deg == pytest.approx(0, abs=1e-6)
    assert accuracy.centre_max == pytest.approx(0, abs=1e-9)
    assert accuracy.median_rotation_error_deg == pytest.approx(0, abs=1e-6)
    assert len(accuracy.pair_errors) == 15 and len(accuracy.image_errors) == 6


def test_nothing_reconstructed_scores_zero():
    accuracy = evaluate({}, Reference(poses(0)))
    assert accuracy.maa_10 == accuracy.auc_20 == accuracy.registered_ratio == 0
    assert accuracy.median_pose_error_deg == 180
    assert accuracy.centre_rmse is None and accuracy.image_errors == ()
    assert len(accuracy.unregistered) == 6


def test_unregistered_images_fail_in_all_their_pairs():
    truth = poses(0, n=5)
    estimate = {name: truth[name] for name in list(truth)[:4]}
    accuracy = evaluate(estimate, Reference(truth))
    assert accuracy.maa_10 == pytest.approx(0.6)
    assert accuracy.unregistered == ("4.jpg",)
    assert [p.error_deg for p in accuracy.pair_errors if "4.jpg" in p.names] == [180.0] * 4
    assert accuracy.registered_ratio == pytest.approx(0.8)
    # A pose that is not a number is no pose.
    broken = truth | {"4.jpg": Pose(truth["4.jpg"].R, np.array([0, np.nan, 0]))}
    assert evaluate(broken, Reference(truth)).maa_10 == pytest.approx(0.6)


def test_centre_errors_are_in_the_references_unit():
    corners = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1.0)]
    truth = {f"{k}": Pose(np.eye(3), -np.array(c)) for k, c in enumerate(corners)}
    rz90 = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    target = {}
    for name, pose in truth.items():
        centre = 2 * rz90 @ pose.centre + (1, 2, 3) + (0.4 * (name == "3")) * np.array([0, 0, 1])
        target[name] = Pose(rz90.T, -rz90.T @ centre)
    accuracy = evaluate(truth, Reference(target))
    assert accuracy.centre_rmse == pytest.approx(0.1272458, abs=1e-6)
    assert accuracy.centre_mean == pytest.approx(0.1244575, abs=1e-6)


def test_centres_on_a_line_are_not_alignable():
    truth = {f"{k}": Pose(np.eye(3), np.array([k, 0.0, 0])) for k in range(4)}
    accuracy = evaluate(truth, Reference(truth))
    assert accuracy.maa_10 == 1
    assert accuracy.centre_rmse is None and accuracy.median_rotation_error_deg is None


def test_two_cameras_in_one_place_are_judged_by_their_rotation():
    rng = np.random.default_rng(0)
    R = rotation(rng)
    truth = {"a": Pose(np.eye(3), np.zeros(3)), "b": Pose(R, np.zeros(3)), "c": Pose(np.eye(3), np.ones(3))}
    estimate = truth | {"b": Pose(R, np.array([1e-3, 0, 0]))}
    errors = {p.names: p for p in evaluate(estimate, Reference(truth)).pair_errors}
    assert errors[("a", "b")].error_deg == pytest.approx(0, abs=1e-9)


def test_only_given_photographs_count():
    truth = poses(0)
    some = [f"{k}.jpg" for k in range(4)]
    accuracy = evaluate({n: truth[n] for n in some}, Reference(truth), names=some)
    assert accuracy.registered_ratio == 1 and accuracy.reference_images == 4
    extra = evaluate(truth | {"new.jpg": truth["0.jpg"]}, Reference(truth), names=[*truth, "new.jpg"])
    assert extra.not_in_reference == ("new.jpg",) and extra.reference_images == 6


@given(st.integers(0, 1000), st.integers(0, 4), st.floats(0.01, 100))
@settings(max_examples=40, deadline=None)
def test_order_of_images_and_either_worlds_frame_change_nothing(seed, missing, scale):
    truth = poses(seed)
    estimate = disturbed(truth, seed + 1)
    for name in list(truth)[:missing]:
        del estimate[name]
    plain = scores(estimate, truth)
    rng = np.random.default_rng(seed)

    def shuffled(x):
        return {str(k): x[str(k)] for k in rng.permutation(list(x))}

    np.testing.assert_allclose(scores(shuffled(estimate), shuffled(truth)), plain, atol=1e-12)
    S, c = rotation(rng), rng.normal(size=3)
    np.testing.assert_allclose(scores(in_world(estimate, S, c, scale), truth), plain, atol=1e-5)
    np.testing.assert_allclose(scores(estimate, in_world(truth, S, c, scale)), plain, atol=1e-5)


@given(st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_one_more_image_never_lowers_the_scores(seed):
    truth = poses(seed)
    estimate = disturbed(truth, seed)
    more = scores(estimate, truth)
    del estimate["3.jpg"]
    fewer = scores(estimate, truth)
    assert (fewer[:7] <= more[:7] + 1e-12).all() and fewer[7] >= more[7] - 1e-12 and fewer[8] < more[8]


@pytest.mark.parametrize(
    ("pose", "words"),
    [
        (Pose(np.full((3, 3), np.nan), np.zeros(3)), "not a number"),
        (Pose(np.eye(3), np.array([0, 0, np.inf])), "not a number"),
        (Pose(2 * np.eye(3), np.zeros(3)), "not a rotation"),
        (Pose(np.diag([1.0, 1, -1]), np.zeros(3)), "not a rotation"),
    ],
)
def test_a_broken_reference_is_refused_by_name(pose, words):
    truth = poses(0) | {"bad.jpg": pose}
    with pytest.raises(UserError, match=words) as error:
        evaluate(poses(0), Reference(truth))
    assert "bad.jpg" in str(error.value)


def test_a_reference_for_other_images_is_refused():
    with pytest.raises(UserError, match="names must agree"):
        evaluate({}, Reference(poses(0)), names=["other.jpg", "0.jpg"])


def test_goes_into_json():
    text = json.dumps(dataclasses.asdict(evaluate(disturbed(poses(0), 1), Reference(poses(0)))), allow_nan=False)
    assert json.loads(text)["pairs"] == 15
