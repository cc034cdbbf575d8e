import cv2
import numpy as np

from pipeline.epipolar import epipolar_distances, epipolar_inliers


def test_points_of_a_scene_agree_and_others_do_not():
    rng = np.random.default_rng(0)
    points = rng.uniform([-2, -2, 4], [2, 2, 8], (60, 3))
    first, second = (600 * x[:, :2] / x[:, 2:] + 300 for x in (points, points - [1, 0.2, 0]))
    second[40:] = rng.uniform(0, 600, (20, 2))
    assert 40 <= epipolar_inliers(first, second, 1.5, 1000) <= 44
    assert epipolar_inliers(first[:7], second[:7], 1.5, 1000) == 0
    assert epipolar_inliers(first, second, 1.5, 1000) == epipolar_inliers(first, second, 1.5, 1000)


def test_distances_are_pixels_shared_between_both_photographs():
    """A camera that moved sideways: epipolar lines are the rows, and 10 rows off is 10 / sqrt(2) in each photograph."""
    rng = np.random.default_rng(1)
    first = rng.uniform(0, 600, (100, 2))
    second = first + np.stack([rng.uniform(20, 200, 100), np.zeros(100)], axis=1)
    second[:5, 1] += 10
    distances = epipolar_distances(first, second, 1.5, 1000)
    np.testing.assert_allclose(distances[:5], 10 / np.sqrt(2), atol=0.3)
    assert distances[5:].max() < 0.3
    assert np.isinf(epipolar_distances(first[:7], second[:7], 1.5, 1000)).all()


def test_turned_photographs_with_few_matches_do_not_end_the_run():
    """For about one of twenty of these OpenCV 5.0's MAGSAC++ raises; plain RANSAC then finds what there is."""
    for seed in range(200):
        rng = np.random.default_rng(seed)
        first = rng.uniform(0, 400, (10, 2))
        second = first @ cv2.Rodrigues(np.array([0, 0, 0.3]))[0][:2, :2].T + rng.normal(0, 1, (10, 2))
        second[:2] = rng.uniform(0, 400, (2, 2))
        assert epipolar_inliers(first, second, 1.5, 1000) >= 7, seed
