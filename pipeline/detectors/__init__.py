"""Detectors: one file a method. A detector has one method, `detect`."""

from importlib import import_module
from typing import Any, Protocol

from pydantic import BaseModel

from pipeline.types import Detected, Image


class Detector(Protocol):
    """Built as `Detector(options, max_keypoints=N, device="cpu")`; `Options` is its own pydantic model."""

    Options: type[BaseModel]

    def detect(self, image: Image) -> Detected:
        """Frames of at most `max_keypoints` places of the image, strongest first; none where the mask is False."""
        ...


DETECTORS = {
    "dog": "pipeline.detectors.dog:Dog",
    "keynet": "pipeline.detectors.keynet:KeyNet",
    "aliked": "pipeline.detectors.aliked:Aliked",
    "xfeat": "pipeline.detectors.xfeat:XFeat",
}


def load(registry: dict[str, str], name: str) -> Any:
    """The class that a family's dictionary names; its module is imported now and not before."""
    module, cls = registry[name].split(":")
    return getattr(import_module(module), cls)
