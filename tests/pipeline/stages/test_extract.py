import numpy as np
import pytest

from pipeline.files import features
from pipeline.stages.extract import describe_detected, upright
from pipeline.types import Detected, Image, Photo, places


def frame(sigma: float, degrees: float, x: float = 10, y: float = 20) -> np.ndarray:
    a = np.deg2rad(degrees)
    return np.array([[sigma * np.cos(a), -sigma * np.sin(a), x], [sigma * np.sin(a), sigma * np.cos(a), y]], np.float32)


@pytest.mark.parametrize("roll", [0, 90, 180, 270, 30])
def test_upright_round_frames_stand_at_the_photographs_roll(roll):
    made = upright(np.stack([frame(3, 77), frame(5, -10)]), roll)
    np.testing.assert_allclose(made, np.stack([frame(3, roll), frame(5, roll)]), atol=1e-4)


def test_upright_keeps_the_shape_of_affine_frames():
    A = np.array([[4.0, 1.0, 5], [0.5, 2.0, 6]], np.float32)[None]
    made = upright(A)
    np.testing.assert_allclose(made[0, :, :2] @ made[0, :, :2].T, A[0, :, :2] @ A[0, :, :2].T, rtol=1e-5)
    assert made[0, 0, 1] == pytest.approx(0, abs=1e-5) and made[0, 1, 1] > 0


def test_places():
    lafs = np.stack([frame(3, 10), frame(3, 80), frame(4, 10), frame(3, 10, x=11)])
    np.testing.assert_array_equal(places(lafs), [0, 0, 2, 3])


def test_places_are_rows_of_equal_centre_and_scale():
    rng = np.random.default_rng(0)
    lafs = np.stack([frame(*rng.integers(1, 4, 1), rng.uniform(0, 360), *rng.integers(-1, 3, 2)) for _ in range(200)])
    keys = [(*row[:, 2], round(np.sqrt(np.linalg.det(row[:, :2])))) for row in lafs]
    np.testing.assert_array_equal(places(lafs), [keys.index(key) for key in keys])
    assert len(places(lafs[:0])) == 0


def photo(width: int, height: int) -> Photo:
    return Photo("a.jpg", None, width, height, 1)  # type: ignore[arg-type]


IMAGE = Image(np.zeros((50, 100), np.uint8), np.zeros((50, 100, 3), np.uint8))


def recording():
    """A list of the frames (N, 2, 3) that the describer beside it was given."""
    described = []

    def describe(grey, frames):
        described.append(frames)
        return np.ones((len(frames), 4), np.float32)

    return described, describe


def test_frames_return_to_the_stored_photograph_and_upright_repeats_are_zero():
    lafs = np.stack([frame(3, 10), frame(3, 80), frame(4, 10)])
    described, describe = recording()
    made = describe_detected(photo(200, 100), IMAGE, Detected(lafs, np.ones(3)), describe, ("oriented", "upright"))
    np.testing.assert_allclose(made.keypoints, lafs[:, :, 2] * 2)
    np.testing.assert_allclose(made.lafs[:, :, :2], lafs[:, :, :2] * 2)
    np.testing.assert_array_equal(made.descriptors["upright"].any(axis=1), [True, False, True])
    np.testing.assert_allclose(described[0], np.concatenate([lafs, upright(lafs[[0, 2]])]))  # all at once
    only = describe_detected(photo(100, 50), IMAGE, Detected(lafs, np.ones(3)), describe, ("upright",))
    assert len(only.lafs) == 2 and set(only.descriptors) == {"upright"}


def test_a_probe_is_upright_for_all_and_oriented_for_the_strongest(monkeypatch):
    monkeypatch.setattr(features, "PROBE", 2)
    lafs = np.stack([frame(3, 10), frame(3, 80), frame(4, 20), frame(5, 30)])
    described, describe = recording()
    made = describe_detected(photo(100, 50), IMAGE, Detected(lafs, np.ones(4)), describe, ("upright", "probe"))
    np.testing.assert_allclose(made.lafs, upright(lafs[[0, 2, 3]]), atol=1e-5)
    assert made.descriptors["upright"].all() and list(made.descriptors) == ["upright", "oriented"]
    np.testing.assert_array_equal(made.descriptors["oriented"].any(axis=1), [True, True, False])
    np.testing.assert_array_equal(described[0][3:], lafs[[0, 2]])
