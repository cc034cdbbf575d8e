"""Relative pose from matches: exact points, wrong matches, failures; and scores read from the files."""

import numpy as np
import pytest

from datasets.cameras import Camera, Pose, Reference
from pipeline.files import features as feature_files
from pipeline.files import matches as match_files
from pipeline.protocols.stereo import PosePair, estimate_pose, mean_focal, pairs_of, score_pairs
from pipeline.types import Features, Matches

K = np.array([[500.0, 0, 320.5], [0, 510, 240.5], [0, 0, 1]])


def two_views(rng: np.random.Generator, n: int = 120, noise: float = 0.2):
    """n points before two cameras: pixels in both, and the pose."""
    angle = np.radians(12)
    R = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    t = np.array([-1.0, 0.1, 0.2])
    X = rng.uniform((-2, -1.5, 4), (2, 1.5, 9), (n, 3))
    first, second = X @ K.T, (X @ R.T + t) @ K.T
    x0, x1 = (p[:, :2] / p[:, 2:] + noise * rng.normal(size=(n, 2)) for p in (first, second))
    return x0, x1, Pose(R, t)


def test_pose_of_matches_a_third_of_which_is_wrong():
    rng = np.random.default_rng(0)
    x0, x1, pose = two_views(rng)
    x1[:40] = rng.uniform((0, 0), (640, 480), (40, 2))
    found = estimate_pose(x0, x1, K, K, seed=0)
    assert found is not None
    assert np.abs(found.pose.R - pose.R).max() < 0.02
    np.testing.assert_allclose(found.pose.t, pose.t / np.linalg.norm(pose.t), atol=0.05)
    assert found.inliers[40:].mean() > 0.7 and found.inliers[:40].mean() < 0.3
    again = estimate_pose(x0, x1, K, K, seed=0)
    assert again is not None and (again.pose.R == found.pose.R).all()


def test_the_threshold_is_a_pixel_of_the_mean_focal_length():
    assert mean_focal(np.diag([500.0, 600, 1]), np.diag([650.0, 700, 1])) == 600


def test_too_few_matches_are_a_failure():
    x0, x1, _ = two_views(np.random.default_rng(0), n=4)
    assert estimate_pose(x0, x1, K, K, seed=0) is None


def test_pairs_of_a_scene():
    R = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    camera = Camera.pinhole(K, 640, 480)
    poses = {"b": Pose(R, np.array([1.0, 2, 3])), "a": Pose(np.eye(3), np.ones(3)), "no camera": Pose(R, np.zeros(3))}
    (pair,) = pairs_of(Reference(poses, {"a": camera, "b": camera}))
    assert pair.names == ("a", "b")
    np.testing.assert_allclose(pair.pose.R, R)
    np.testing.assert_allclose(pair.pose.t, np.array([1, 2, 3]) - R @ np.ones(3))


@pytest.fixture
def files(tmp_path):
    """Features of a, b, c: a and b see one scene, c has no match; and the pose of a and b."""
    x0, x1, pose = two_views(np.random.default_rng(1))
    features, matches = tmp_path / "features.h5", tmp_path / "matches.h5"

    def described(points):
        lafs = np.zeros((len(points), 2, 3), np.float32)
        lafs[:, 0, 0] = lafs[:, 1, 1] = 1
        lafs[:, :, 2] = points
        return Features(
            lafs, np.ones(len(points), np.float32), {"oriented": np.zeros((len(points), 2), np.float32)}, (640, 480)
        )

    with feature_files.appending(features, {}) as file:
        for name, points in (("a.jpg", x0), ("b.jpg", x1), ("c.jpg", x1)):
            feature_files.write(file, name, described(points))
    n = len(x0)
    with match_files.appending(matches, {}) as file:
        index = np.arange(n, dtype=np.int32)
        match_files.write(file, "a.jpg", "b.jpg", Matches(np.c_[index, index], np.ones(n, np.float32)), n)
        match_files.write(file, "a.jpg", "c.jpg", Matches(np.empty((0, 2), np.int32), np.empty(0, np.float32)), n)
    return features, matches, pose


def test_scores_from_files_count_pairs_without_matches_as_failed(files):
    features, matches, pose = files
    pairs = [PosePair(("a.jpg", other), (K, K), pose) for other in ("b.jpg", "c.jpg")]
    pairs.append(PosePair(("a.jpg", "not there.jpg"), (K, K), pose))
    result = score_pairs(features, matches, pairs, seed=0)
    assert [row["error_deg"] == 180 for row in result["pairs"]] == [False, True, True]
    assert result["pairs"][0]["precision"] > 0.95
    assert result["scores"]["stereo_maa_10"] == pytest.approx(result["curve"] and np.mean(result["curve"]))
    assert 0.25 < result["scores"]["stereo_maa_10"] <= 1 / 3
    assert result["scores"]["stereo_precision"] == pytest.approx(result["pairs"][0]["precision"] / 3)


def test_a_pair_named_the_other_way_round_scores_nearly_the_same(files):
    features, matches, pose = files
    forward = score_pairs(features, matches, [PosePair(("a.jpg", "b.jpg"), (K, K), pose)], seed=0)
    back = Pose(pose.R.T, -pose.R.T @ pose.t)
    backward = score_pairs(features, matches, [PosePair(("b.jpg", "a.jpg"), (K, K), back)], seed=0)
    assert backward["pairs"][0]["precision"] == pytest.approx(forward["pairs"][0]["precision"])
    assert backward["pairs"][0]["error_deg"] == pytest.approx(forward["pairs"][0]["error_deg"], abs=1)
