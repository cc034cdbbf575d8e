import numpy as np

from pipeline.epipolar import epipolar_inliers


def test_points_of_a_scene_agree_and_others_do_not():
    rng = np.random.default_rng(0)
    points = rng.uniform([-2, -2, 4], [2, 2, 8], (60, 3))
    first, second = (600 * x[:, :2] / x[:, 2:] + 300 for x in (points, points - [1, 0.2, 0]))
    second[40:] = rng.uniform(0, 600, (20, 2))
    assert 40 <= epipolar_inliers(first, second, 1.5, 1000) <= 44
    assert epipolar_inliers(first[:7], second[:7], 1.5, 1000) == 0
    assert epipolar_inliers(first, second, 1.5, 1000) == epipolar_inliers(first, second, 1.5, 1000)
