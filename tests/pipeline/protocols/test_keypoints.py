"""Keypoints found once for many methods are those that each would have found, and their cost is every method's."""

from dataclasses import replace

import numpy as np
import pytest

from datasets.photos.read import read_image
from datasets.scenes.rendered import render_scene
from pipeline.protocols.keypoints import remembered, shared_detector
from pipeline.recipe import Recipe
from pipeline.run import detector
from pipeline.types import Detected, Image


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scene")
    render_scene(folder, n_images=2, size=(160, 120), arc=10.0)
    return folder / "images"


def test_shared_keypoints_are_the_detectors_own(images, tmp_path):
    recipe = Recipe.model_validate({"detector": {"max_keypoints": 200}, "device": "cpu"})
    detect, cost = shared_detector(recipe, tmp_path, images)
    assert cost["seconds"] > 0 and cost["peak_memory_mib"] > 0
    (kept,) = tmp_path.iterdir()
    files = {path: path.stat().st_mtime_ns for path in kept.glob("*.npz")}
    assert len(files) == 2
    for path in sorted(images.iterdir()):
        rgb, grey = read_image(path)
        mine, own = detect(Image(grey, rgb)), detector(recipe, "cpu").detect(Image(grey, rgb))
        np.testing.assert_array_equal(mine.lafs, own.lafs)
        np.testing.assert_array_equal(mine.scores, own.scores)
    other_descriptor = Recipe.model_validate(recipe.model_dump() | {"descriptor": {"name": "rootsift"}})
    assert shared_detector(other_descriptor, tmp_path, images)[1] == cost
    assert {path: path.stat().st_mtime_ns for path in kept.glob("*.npz")} == files
    shared_detector(Recipe.model_validate({"detector": {"max_keypoints": 100}, "device": "cpu"}), tmp_path, images)
    assert len(list(tmp_path.iterdir())) == 2


def test_other_pixels_and_other_masks_are_asked_again(tmp_path):
    asked = []

    def detect(image: Image) -> Detected:
        asked.append(image)
        return Detected(np.full((1, 2, 3), len(asked), np.float32), np.ones(1, np.float32))

    found = remembered(detect, tmp_path)
    plain = Image(np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.uint8))
    masked = replace(plain, mask=np.eye(8, dtype=bool))
    brighter = replace(plain, rgb=plain.rgb + 1)
    answers = [found(image).lafs[0, 0, 0] for image in (plain, masked, brighter, plain, masked)]
    assert answers == [1, 2, 3, 1, 2] and len(asked) == 3
