"""Descriptors: one file a method. A descriptor has one method, `describe`."""

from typing import Protocol

import numpy as np
from pydantic import BaseModel


class Descriptor(Protocol):
    """Built as `Descriptor(options, weights=NAME_OR_FILE_OR_None, device="cpu")`; `Options` is its own pydantic
    model. `weights_sha256` is the hash of the weights file in use, or None where there is none."""

    Options: type[BaseModel]
    weights_sha256: str | None

    def describe(self, grey: np.ndarray, lafs: np.ndarray) -> np.ndarray:
        """grey (H, W) uint8 and lafs (N, 2, 3) float32 (COLMAP pixel convention, sqrt(|det A|) = sigma) to (N, D)
        float32 descriptors of unit length. The patch half-width is `magnification` times sigma."""
        ...


DESCRIPTORS = {
    "desdis": "pipeline.descriptors.desdis:DesDis",
    "hardnet": "pipeline.descriptors.kornia_patches:HardNet",
    "sosnet": "pipeline.descriptors.kornia_patches:SOSNet",
    "hynet": "pipeline.descriptors.kornia_patches:HyNet",
    "tfeat": "pipeline.descriptors.kornia_patches:TFeat",
    "mkd": "pipeline.descriptors.kornia_patches:MKD",
    "rootsift": "pipeline.descriptors.rootsift:RootSIFT",
    "sift": "pipeline.descriptors.rootsift:SIFT",
}
