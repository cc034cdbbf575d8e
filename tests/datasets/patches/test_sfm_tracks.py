from dataclasses import replace

import numpy as np
import pytest

from datasets.patches.observations import Observations, keep, patches_by_image
from datasets.patches.sfm_tracks import (
    TrackOptions,
    agreed_frames,
    fixed_camera,
    observe,
    plane_jacobians,
    read_tracks,
    select,
)
from desdis.errors import UserError
from tests.datasets.patches.planes import homography, photograph, plane_scene, pose

VIEWS = [(0.0, 0.0, 2.0), (25.0, 0.0, 2.0), (-20.0, 70.0, 1.7)]


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (p.reshape(len(p), -1).astype(float) for p in (a, b))
    a, b = (p - p.mean(axis=1, keepdims=True) for p in (a, b))
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def by_image(observations: Observations, image: int) -> np.ndarray:
    return np.flatnonzero(observations.image_ids == image)


def test_jacobian_is_the_plane_homographys():
    tracks, _ = plane_scene(VIEWS)
    J, views, obliqueness = plane_jacobians(tracks)
    assert (np.linalg.det(J) > 0).all()
    assert np.allclose(np.linalg.norm(views, axis=1), 1)
    row = 1  # the first point in the second photograph
    R, t = pose(*VIEWS[1])
    assert np.allclose(views[row], -R.T @ t - tracks.points[0], atol=2) and views[row, 2] < 0
    x = np.append(tracks.points[0, :2], 1)
    h = homography(R, t) @ x
    exact = (homography(R, t)[:2, :2] - (h[:2] / h[2])[:, None] * homography(R, t)[2, :2]) / h[2]
    # The point's own plane faces the mean of the cameras, not quite the true plane: areas agree to its cosine.
    assert np.linalg.det(J[row]) == pytest.approx(np.linalg.det(exact), rel=0.25)
    assert obliqueness.max() < 60


def test_perfect_frames_all_stay_and_their_patches_show_the_same():
    tracks, frames = plane_scene(VIEWS)
    observations = observe(tracks, frames, TrackOptions())
    assert len(observations) == len(tracks.rows)
    assert np.abs(observations.angle_errors).max() < 15
    assert np.abs(observations.scale_errors).max() < 0.3
    pictures = {f"{k}.png": photograph(*pose(*view)) for k, view in enumerate(VIEWS)}
    patches = patches_by_image(observations, pictures.__getitem__, 9.0, 32)
    a, b, c = (patches[by_image(observations, k)] for k in range(3))
    assert np.median(correlation(a, b)) > 0.8
    assert np.median(correlation(a, c)) > 0.8
    assert abs(np.median(correlation(a, np.roll(b, 1, axis=0)))) < 0.2


def test_rolls_tell_how_upright_patches_are_turned():
    tracks, frames = plane_scene([(0.0, 0.0, 2.0), (0.0, 40.0, 2.0)])
    observations = observe(tracks, frames, TrackOptions())
    turned = observations.rolls[by_image(observations, 0)] - observations.rolls[by_image(observations, 1)]
    assert np.allclose((turned + 180) % 360 - 180, 40, atol=0.5)


@pytest.mark.parametrize(("turn", "zoom"), [(40.0, 1.0), (0.0, 1.5)])
def test_a_frame_that_disagrees_is_dropped(turn: float, zoom: float):
    tracks, frames = plane_scene(VIEWS)
    a = np.radians(turn)
    wrong = frames["1.png"].copy()
    wrong[4, :, :2] = zoom * wrong[4, :, :2] @ np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    observations = observe(tracks, frames | {"1.png": wrong}, TrackOptions())
    assert len(observations) == len(tracks.rows) - 1
    assert (observations.point_ids == 4).sum() == 2


def test_propagated_frames_do_not_depend_on_the_detections_errors():
    tracks, frames = plane_scene(VIEWS)
    generator = np.random.default_rng(0)
    noisy = {}
    for name, f in frames.items():
        a = np.radians(generator.normal(0, 5, len(f)))
        turn = np.stack([np.cos(a), -np.sin(a), np.sin(a), np.cos(a)], axis=1).reshape(-1, 2, 2)
        noisy[name] = f.copy()
        noisy[name][:, :, :2] = f[:, :, :2] @ turn.astype(np.float32)
    detected = observe(tracks, noisy, TrackOptions(max_angle_error=180))
    propagated = observe(tracks, noisy, TrackOptions(max_angle_error=180, frames="propagated"))
    spread = []
    for observations in (detected, propagated):
        again = observe(tracks, _frames_of(observations, frames), TrackOptions(max_angle_error=180))
        spread.append(np.abs(again.angle_errors).mean())
    assert spread[0] > 2.5
    assert spread[1] < 0.01


def _frames_of(observations: Observations, like: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: observations.frames[by_image(observations, k)] for k, name in enumerate(like)}


def test_agreed_angle_follows_the_majority_not_the_mean():
    turns = np.array([10.0, 14, -178, 179, -179, -177])
    ids = np.array([0, 0, 1, 1, 1, 1])
    agreed = agreed_frames(turns, np.array([0.0, 1, 2, 2, 2, 9]), ids, 2)
    assert agreed[0].tolist() == [12, 0.5]
    assert (agreed[1, 0] + 360) % 360 == pytest.approx(181.25)
    assert agreed[1, 1] == 2
    agreed = agreed_frames(np.array([0.0, 2, 90]), np.zeros(3), np.zeros(3, int), 1)
    assert agreed[0, 0] == 1


def test_reprojection_error_and_track_length_decide():
    tracks, frames = plane_scene(VIEWS)
    errors = tracks.errors.copy()
    errors[:3] = [0.1, 9, 9]  # point 0 keeps one row: too few
    errors[3] = 9  # point 1 keeps two
    observations = observe(replace(tracks, errors=errors), frames, TrackOptions())
    assert len(observations) == len(tracks.rows) - 4
    assert len(observations.points) == 59
    three = observe(replace(tracks, errors=errors), frames, TrackOptions(min_track=3))
    assert len(three.points) == 58


def test_selection_drops_border_flat_blurred_and_repeated():
    import cv2

    views = [(0.0, 0.0, 2.0), (25.0, 0.0, 2.0)]
    tracks, frames = plane_scene(views)
    observations = observe(tracks, frames, TrackOptions())
    pictures = {f"{k}.png": photograph(*pose(*view)) for k, view in enumerate(views)}
    assert len(select(observations, pictures.__getitem__, TrackOptions())) > 0.6 * len(observations)

    flat = {name: np.full_like(p, 90) for name, p in pictures.items()}
    assert len(select(observations, flat.__getitem__, TrackOptions())) == 0
    blurred = {name: cv2.GaussianBlur(p, (0, 0), 12) for name, p in pictures.items()}
    assert len(select(observations, blurred.__getitem__, TrackOptions())) < 0.3 * len(observations)

    same = fixed_camera(("0.png", "again.png"), frames["0.png"])
    again = {"0.png": pictures["0.png"], "again.png": pictures["0.png"]}
    assert len(select(same, again.__getitem__, TrackOptions())) == 0

    edge = frames["0.png"].copy()
    edge[:, :, 2] = [2, 100]
    assert len(select(fixed_camera(("0.png", "1.png"), edge), pictures.__getitem__, TrackOptions())) == 0


def test_fixed_camera_pairs_every_photograph_at_the_same_place():
    frames = np.tile(np.array([[2.0, 0, 50], [0, 2, 60]], np.float32), (3, 1, 1))
    observations = fixed_camera(("day.png", "night.png"), frames)
    assert observations.point_ids.tolist() == [0, 0, 1, 1, 2, 2]
    assert observations.image_ids.tolist() == [0, 1] * 3
    assert len(keep(observations, observations.image_ids == 0)) == 0


def test_missing_frames_are_named():
    tracks, frames = plane_scene(VIEWS)
    with pytest.raises(UserError, match=r"2\.png"):
        observe(tracks, {k: v for k, v in frames.items() if k != "2.png"}, TrackOptions())
    with pytest.raises(UserError, match="60 keypoints"):
        observe(tracks, frames | {"2.png": frames["2.png"][:5]}, TrackOptions())


def test_reads_a_colmap_model(tmp_path):
    import cv2  # noqa: F401  (before pycolmap)
    import pycolmap

    tracks, frames = plane_scene(VIEWS, points=10)
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera(model="PINHOLE", width=320, height=240, params=[300, 300, 160, 120], camera_id=1)
    model.add_camera_with_trivial_rig(camera)
    for k, name in enumerate(tracks.images):
        image = pycolmap.Image(name=name, camera_id=1, image_id=k + 1)
        image.points2D = pycolmap.Point2DList([pycolmap.Point2D(xy) for xy in frames[name][:, :, 2].astype(float)])
        pose_ = pycolmap.Rigid3d(pycolmap.Rotation3d(tracks.R[k]), tracks.t[k])
        model.add_image_with_trivial_frame(image, pose_)
    for p, xyz in enumerate(tracks.points):
        track = pycolmap.Track()
        for k in range(3):
            track.add_element(k + 1, p)
        model.add_point3D(xyz, track, np.zeros(3, np.uint8))
    model.write(str(tmp_path))
    back = read_tracks(tmp_path)
    assert back.images == tracks.images
    assert np.allclose(back.R, tracks.R) and np.allclose(back.t, tracks.t)
    assert sorted(zip(back.point_ids.tolist(), back.image_ids.tolist(), back.rows.tolist(), strict=True)) == sorted(
        (p, k, p) for p in range(10) for k in range(3)
    )
    assert back.errors.max() < 1e-3
    assert len(observe(back, frames, TrackOptions())) == 30
    with pytest.raises(UserError, match="not a readable COLMAP model"):
        read_tracks(tmp_path / "absent")
