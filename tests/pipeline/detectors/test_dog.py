"""The budget cuts frames before they are read: nothing of what is kept may depend on it."""

import numpy as np
import pytest

from pipeline.detectors import dog
from pipeline.types import Image, places
from tests.pipeline.pictures import image_of, picture


def detector(budget: int, **options) -> dog.Dog:
    return dog.Dog(dog.Dog.Options(**options), budget)


def cut_by_definition(image: Image, budget: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames and scores of the budget's strongest places among all that there are."""
    everything = detector(10**6).detect(image)
    first = places(everything.lafs)
    kept = np.isin(first, np.flatnonzero(first == np.arange(len(first)))[:budget])
    return everything.lafs[kept], everything.scores[kept]


@pytest.mark.parametrize("budget", [1, 30, 400])
@pytest.mark.parametrize("frames", [1.0, 1.5])
def test_the_strongest_of_all(monkeypatch, budget, frames):
    """With one frame a place read, second orientations take the budget up and the detector reads them all."""
    monkeypatch.setattr(dog, "STRONGEST", frames)
    image = image_of(picture(352, 384))
    lafs, scores = cut_by_definition(image, budget)
    found = detector(budget).detect(image)
    np.testing.assert_array_equal(found.lafs, lafs)
    np.testing.assert_array_equal(found.scores, scores)


def test_equal_responses_are_cut_the_same_way():
    tile = picture(96, 96)
    image = image_of(np.tile(tile, (4, 4, 1)))
    lafs, scores = cut_by_definition(image, 50)
    assert (np.diff(scores) == 0).any()
    np.testing.assert_array_equal(detector(50).detect(image).lafs, lafs)


def test_even_selection_sees_weak_ones_too():
    """A corner without strong keypoints gets its share."""
    rgb = picture(352, 384)
    rgb[:176, :192] //= 8
    strongest, even = (
        detector(150, selection=how).detect(image_of(rgb)).lafs[:, :, 2] for how in ("strongest", "even")
    )
    in_corner = [(np.unique(centres, axis=0) < (192, 176)).all(axis=1).sum() for centres in (strongest, even)]
    assert in_corner[1] > in_corner[0] + 5
