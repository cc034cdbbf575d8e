"""Scores of matches between pictures of one plane, read from the files."""

import h5py
import numpy as np
import pytest

from pipeline.files import features as feature_files
from pipeline.files import matches as match_files
from pipeline.metrics.homographies import warp
from pipeline.protocols.planes import PlanePair, estimate_homography, score_planes
from pipeline.types import Features, Matches

H = np.array([[1.1, 0.05, 12], [-0.04, 0.95, 20], [5e-5, 2e-5, 1]])


@pytest.fixture
def points():
    a = np.random.default_rng(0).uniform((60, 60), (500, 380), (80, 2))
    return a, warp(a, H)


def test_homography_despite_wrong_matches(points):
    a, b = points
    b = b.copy()
    b[:20] = b[:20][::-1] + 30
    found = estimate_homography(a, b, seed=3)
    assert found is not None
    np.testing.assert_allclose(found / found[2, 2], H, rtol=1e-3, atol=1e-5)
    assert estimate_homography(a[:3], b[:3], seed=0) is None


def test_scores_from_files(points, tmp_path):
    a, b = points
    shifted = b.copy()
    shifted[:40] += (4.5, 0)
    features, matches = tmp_path / "features.h5", tmp_path / "matches.h5"
    with feature_files.appending(features, {}) as file:
        for name, p in (("1.jpg", a), ("2.jpg", b), ("3.jpg", shifted), ("4.jpg", b)):
            lafs = np.zeros((len(p), 2, 3), np.float32)
            lafs[:, 0, 0] = lafs[:, 1, 1] = 1
            lafs[:, :, 2] = p
            none = np.zeros((len(p), 1), np.float32)
            feature_files.write(file, name, Features(lafs, none[:, 0], {"oriented": none}, (640, 480)))
    index = np.arange(len(a), dtype=np.int32)
    with match_files.appending(matches, {}) as file:
        for other in ("2.jpg", "3.jpg"):
            match_files.write(file, "1.jpg", other, Matches(np.c_[index, index], np.ones(80, np.float32)), 80)
        match_files.write(file, "1.jpg", "4.jpg", Matches(np.empty((0, 2), np.int32), np.empty(0, np.float32)), 80)
    result = score_planes(features, matches, [PlanePair(("1.jpg", f"{k}.jpg"), H) for k in (2, 3, 4)], seed=0)
    perfect, half, empty = result["pairs"]
    assert perfect["accuracy"] == [1.0] * 10 and perfect["repeatability"] == 1 and perfect["corner_error_px"] < 0.01
    assert half["accuracy"] == [0.5] * 4 + [1.0] * 6
    assert empty["accuracy"] == [0.0] * 10 and empty["corner_error_px"] is None and empty["matching_score"] == 0
    assert result["scores"]["mma"] == pytest.approx((1 + 0.8 + 0) / 3)
    assert result["scores"]["plane_matching_score"] == pytest.approx((1 + 1 + 0) / 3)
    assert result["scores"]["homography_auc_5"] < 0.7
    with h5py.File(features) as file, pytest.raises(ValueError, match="no features"):
        del file
        score_planes(features, matches, [PlanePair(("1.jpg", "9.jpg"), H)], seed=0)
