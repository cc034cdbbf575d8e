import numpy as np
import pycolmap
import pytest

from pipeline.stages.verify import VerifyOptions, confidence, inliers_needed, two_view_geometry

SIZE = (960, 540)


def pair(inliers: int, outliers: int, seed: int):
    """Two cameras, the pixels (N, 2) of `inliers` points of one scene and of `outliers` unrelated places, matches."""
    rng = np.random.default_rng(seed)
    camera = pycolmap.Camera(model="SIMPLE_PINHOLE", width=SIZE[0], height=SIZE[1], params=[1100, 480, 270])
    points = rng.uniform([-2, -1.2, 5], [2, 1.2, 9], (4 * inliers, 3))
    turn = pycolmap.Rotation3d(np.array([0.0, 0.2, 0.02])).matrix()
    seen = [1100 * x[:, :2] / x[:, 2:] + [480, 270] for x in (points, points @ turn.T + [-1.4, 0.1, 0.2])]
    inside = np.all([((x > 0) & (x < SIZE)).all(axis=1) for x in seen], axis=0)
    first, second = (np.vstack([x[inside][:inliers], rng.random((outliers, 2)) * SIZE]) for x in seen)
    assert len(first) == inliers + outliers
    return camera, first, camera, second, np.stack([np.arange(len(first))] * 2, axis=1).astype(np.int32)


def test_needed_inliers_are_those_that_reach_the_confidence():
    options = VerifyOptions()
    for matches in (20, 60, 300, 2000):
        needed = inliers_needed(matches, 960, options)
        assert needed >= options.min_num_inliers
        if needed > options.min_num_inliers:
            assert confidence(int(np.ceil(needed)), matches, 960, options.max_error) >= options.min_confidence
            assert confidence(int(needed) - 1, matches, 960, options.max_error) < options.min_confidence


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("inliers", "outliers"), [(18, 4), (24, 20), (60, 40), (200, 200)])
def test_giving_up_early_keeps_what_has_the_inliers_it_needs(inliers, outliers, seed):
    found = two_view_geometry(*pair(inliers, outliers, seed), VerifyOptions(), seed)
    assert len(found.inlier_matches) >= inliers


@pytest.mark.parametrize("matches", [14, 16, 40, 150, 800])
def test_unrelated_places_are_no_verified_pair(matches):
    for seed in range(5):
        assert not len(two_view_geometry(*pair(1, matches - 1, seed), VerifyOptions(), seed).inlier_matches)


def test_fewer_matches_than_needed_inliers_are_not_tried(monkeypatch):
    monkeypatch.setattr(pycolmap, "estimate_two_view_geometry", lambda *_: pytest.fail("tried"))
    two_view_geometry(*pair(10, 4, 0), VerifyOptions(), 0)
    two_view_geometry(*pair(10, 20, 0), VerifyOptions(min_num_inliers=31), 0)


def test_a_quick_look_spares_unrelated_pairs_most_of_the_trials(monkeypatch):
    tried = []
    monkeypatch.setattr(
        pycolmap, "estimate_two_view_geometry", lambda *_: tried.append(_) or pycolmap.TwoViewGeometry()
    )
    for seed in range(10):
        two_view_geometry(*pair(1, 59, seed), VerifyOptions(), seed)
    assert len(tried) <= 2


@pytest.mark.parametrize("turn_only", [False, True])
def test_a_plane_and_a_turn_on_the_spot_pass_the_quick_look(turn_only):
    """Their fundamental matrix is not unique, but any that fits has all the inliers."""
    camera, first, _, second, indices = pair(30, 40, 0)
    ones = np.column_stack([first[:30], np.ones(30)])
    H = np.array([[0.9, -0.1, 60], [0.1, 0.95, -20], [1e-4 * (not turn_only), 0, 1]])
    second[:30] = (ones @ H.T)[:, :2] / (ones @ H.T)[:, 2:]
    assert len(two_view_geometry(camera, first, camera, second, indices, VerifyOptions(), 0).inlier_matches) >= 30


def test_matches_far_from_the_quick_looks_geometry_are_not_verified(monkeypatch):
    """Gross outliers cost RANSAC trials; with every bar down nothing is kept from it."""
    seen = []
    real = pycolmap.estimate_two_view_geometry
    monkeypatch.setattr(pycolmap, "estimate_two_view_geometry", lambda *a: seen.append(len(a[4])) or real(*a))
    sides = pair(100, 100, 0)
    found = two_view_geometry(*sides, VerifyOptions(), 0)
    assert 100 <= len(found.inlier_matches) <= seen[0] < 150
    two_view_geometry(*sides, VerifyOptions(), 0, needed=0)
    assert seen[1] == 200
    two_view_geometry(*pair(1, 5, 0), VerifyOptions(), 0, needed=0)
    assert seen[2] == 6
