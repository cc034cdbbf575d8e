"""The rendered scene: its poses are exact, to a fraction of a pixel."""

import cv2
import numpy as np
import pytest

from datasets.photos.read import read_image
from datasets.scenes.reference import read_reference
from datasets.scenes.rendered import render_scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scene")
    return folder, render_scene(folder, n_images=3, size=(320, 240), seed=1, arc=20)


def test_files_hold_what_is_returned(scene):
    folder, reference = scene
    names = sorted(path.name for path in (folder / "images").iterdir())
    assert names == ["0000.jpg", "0001.jpg", "0002.jpg"]
    for path in (folder / "cameras", folder / "sparse"):
        read = read_reference(path, names)
        for name in names:
            np.testing.assert_allclose(read.poses[name].R, reference.poses[name].R, atol=1e-9)
            np.testing.assert_allclose(read.poses[name].t, reference.poses[name].t, atol=1e-9)
            np.testing.assert_allclose(read.cameras[name].params, reference.cameras[name].params, atol=1e-9)


def test_keypoints_meet_their_epipolar_lines(scene):
    """OpenCV's SIFT (counting from the first pixel's centre) plus half a pixel agrees with the exact poses."""
    folder, reference = scene
    sift = cv2.SIFT_create(1500, 3, 0.0067, 10, 1.6, True)
    found = {}
    for name in reference.poses:
        keypoints, descriptors = sift.detectAndCompute(read_image(folder / "images" / name)[1], None)
        found[name] = np.array([k.pt for k in keypoints]) + 0.5, descriptors
    for a, b in (("0000.jpg", "0001.jpg"), ("0000.jpg", "0002.jpg")):
        pairs = cv2.BFMatcher().knnMatch(found[a][1], found[b][1], k=2)
        good = [m for m, n in pairs if m.distance < 0.75 * n.distance]
        assert len(good) > 100
        p, q = reference.poses[a], reference.poses[b]
        R = q.R @ p.R.T
        x, y, z = q.t - R @ p.t
        K_inv = np.linalg.inv(reference.cameras[a].K)
        F = K_inv.T @ np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ R @ K_inv
        xa = np.column_stack([found[a][0][[m.queryIdx for m in good]], np.ones(len(good))])
        xb = np.column_stack([found[b][0][[m.trainIdx for m in good]], np.ones(len(good))])
        lines = xa @ F.T
        distances = (lines * xb).sum(1) / np.hypot(lines[:, 0], lines[:, 1])
        assert (np.abs(distances) < 1).mean() > 0.85
        assert np.median(np.abs(distances)) < 0.2


def test_equal_arguments_give_equal_files(scene, tmp_path):
    folder, _ = scene
    render_scene(tmp_path, n_images=3, size=(320, 240), seed=1, arc=20)
    for path in sorted((folder / "images").iterdir()):
        assert path.read_bytes() == (tmp_path / "images" / path.name).read_bytes()


def test_exposure_and_roll_change_from_picture_to_picture(tmp_path):
    reference = render_scene(tmp_path, n_images=3, size=(160, 120), seed=2, exposure=0.4, roll=20)
    means = [read_image(path)[1].mean() for path in sorted((tmp_path / "images").iterdir())]
    assert max(means) > 1.2 * min(means)
    # World's down (y) as the camera sees it: level cameras have it on the vertical of the picture.
    rolls = [np.rad2deg(np.arctan2(pose.R[0, 1], pose.R[1, 1])) for pose in reference.poses.values()]
    assert max(map(abs, rolls)) > 5
