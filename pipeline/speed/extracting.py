"""One decoded photograph to features, all in: ours, pycolmap's SIFT, OpenCV's SIFT, ALIKED and XFeat."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from desdis.errors import UserError
from pipeline.speed.timing import Contender, interleaved, timing_table
from pipeline.types import Image, Photo


def extracting(
    photographs: list[np.ndarray], keypoints: int, describers: dict[str, Any], peers: Path | None, rounds: int
) -> str:
    """photographs (H, W, 3) uint8; describers by name (`desdis.Describer`). A turn is all photographs."""
    import pycolmap

    from pipeline.detectors.dog import Dog
    from pipeline.stages.extract import describe_detected

    images = [Image(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), rgb) for rgb in photographs]
    dog = Dog(Dog.Options(), keypoints)

    def ours(describer: Any, ways: tuple[str, ...]) -> Callable[[], int]:
        def call() -> int:
            count = 0
            for image in images:
                height, width = image.grey.shape
                photo = Photo("", Path(), width, height, 1)
                features = describe_detected(photo, image, dog.detect(image), describer.describe, ways)
                count += len(features.lafs)
            return count

        return call

    pycolmap.logging.minloglevel = pycolmap.logging.WARNING.value
    options = pycolmap.FeatureExtractionOptions()
    options.sift.max_num_features = keypoints
    colmap = pycolmap.FeatureExtractor.create(options, pycolmap.Device.cpu)
    assert colmap is not None
    sift = cv2.SIFT.create(keypoints, 3, 0.0067)
    calls: dict[str, Callable[[], int]] = {
        "pycolmap SIFT": lambda: sum(len(colmap.extract_from_uint8_array(image.grey)[0]) for image in images),
        "OpenCV SIFT": lambda: sum(len(sift.detectAndCompute(image.grey, None)[0]) for image in images),
        "our detector alone": lambda: sum(len(dog.detect(image).lafs) for image in images),
    }
    for name, describer in describers.items():
        calls[name] = ours(describer, ("upright", "probe"))
    name, describer = next(iter(describers.items()))
    calls[f"{name}, both ways"] = ours(describer, ("oriented", "upright"))
    calls |= _whole_image_peers(images, keypoints, peers)
    counts: dict[str, int] = {}

    def counted(name: str) -> Callable[[], None]:
        def call() -> None:
            counts[name] = calls[name]()

        return call

    contenders = {name: Contender(counted(name), len(images)) for name in calls}
    timings = interleaved(contenders, rounds)
    noted = {
        name: replace(contender, note=f"{counts[name] / len(images):,.0f} keypoints")
        for name, contender in contenders.items()
    }
    return timing_table(noted, timings, "pycolmap SIFT", "photograph")


def _whole_image_peers(images: list[Image], keypoints: int, peers: Path | None) -> dict[str, Callable[[], int]]:
    """ALIKED n16 and XFeat where their weights lie in the folder."""
    from pipeline.detectors.aliked import Aliked
    from pipeline.detectors.xfeat import XFeat

    found: dict[str, Callable[[], int]] = {}
    files = {"ALIKED n16": (Aliked, ["aliked-n16.pth"]), "XFeat": (XFeat, ["xfeat.pt", "xfeat-kornia-nofine.pth"])}
    for name, (method, names) in files.items():
        file = next((peers / n for n in names if (peers / n).is_file()), None) if peers else None
        if file is None:
            continue
        try:
            detector = method(method.Options(weights=file), keypoints)
        except UserError:
            continue
        found[name] = lambda detector=detector: sum(len(detector.detect(image).lafs) for image in images)
    return found
