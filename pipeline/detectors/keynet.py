"""Key.Net (Barroso-Laguna et al., ICCV 2019): maxima of a learned response over an image pyramid.

The network is kornia's; pyramid, maxima and pixel positions are ours. kornia's own detector reports a level's pixel u
at u x factor, which is off by (factor - 1) / 2 pixels; the centre of a level's pixel lies at (u + 0.5) x factor in
COLMAP's convention, and that is what leaves this file.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pipeline import kornia_weights
from pipeline.detectors.frames import circles, nothing, usable
from pipeline.types import Detected, Image

_STEP = 2**0.5  # between pyramid levels
_WINDOW = 15  # pixels of a level: side of the neighbourhood in which a maximum must be the largest
_BORDER = 15  # pixels of a level: no detection closer to its edge
_RADIUS = 22.0  # pixels of a level: half-width of the patch that AffNet, OriNet and the gradient look at
# Pixels (x, y) of a level by which the published network answers beside the structure it answers to, the same way in
# every image (so turned images disagree by twice this): half the median mismatch between a photograph's keypoints and
# its mirror image's, over 12 photographs of the validation set (from fine to coarse levels 1.6 to 1.9 and 1.2 to 1.5).
# `python -m pipeline.benchmark_mirror` shows what is left of it.
_OFFSET = (1.65, 1.25)


class KeyNet:
    """Key.Net with, by choice, AffNet's shape (Mishkin et al., ECCV 2018) and an orientation."""

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)
        weights: Path | None = Field(default=None, description="Key.Net's weights file (default: kornia's download)")
        orientation: Literal["gradient", "orinet", "none"] = Field(
            default="gradient", description="angle of a frame: dominant gradient, OriNet's answer, or none (upright)"
        )
        orinet_weights: Path | None = Field(
            default=None, description="OriNet's weights file (default: kornia's download)"
        )
        affine: bool = Field(default=False, description="affine shape by AffNet instead of circles")
        affnet_weights: Path | None = Field(
            default=None, description="AffNet's weights file (default: kornia's download)"
        )
        sigma: float = Field(
            default=_RADIUS / 6, gt=0, le=64, description="scale of a frame in pixels of its pyramid level"
        )
        upscale: bool = Field(default=True, description="search the image enlarged by the square root of 2 too")
        pyramid_levels: int = Field(default=4, ge=0, le=8, description="smaller levels, each 0.71 of the one before")

    def __init__(self, options: Options, max_keypoints: int, device: str = "cpu"):
        import kornia.feature as KF
        from kornia.feature import affine_shape, keynet, orientation

        self.options, self.max_keypoints, self.device = options, max_keypoints, device
        self._network, self.weights_sha256 = self._load(
            KF.KeyNet(pretrained=False), "keynet", options.weights, keynet.KeyNet_URL, "weights"
        )
        self._shape, self._orient = None, None
        if options.affine:
            network, urls = KF.LAFAffNetShapeEstimator(pretrained=False), affine_shape.urls["affnet"]
            self._shape, _ = self._load(network, "AffNet", options.affnet_weights, urls, "affnet_weights")
        if options.orientation == "orinet":
            network, urls = KF.OriNet(pretrained=False), orientation.urls["orinet"]
            network, _ = self._load(network, "OriNet", options.orinet_weights, urls, "orinet_weights")
            self._orient = KF.LAFOrienter(32, angle_detector=network).eval()
        elif options.orientation == "gradient":
            self._orient = KF.LAFOrienter(19).to(device).eval()

    def _load(self, network: Any, method: str, file: Path | None, urls: Any, option: str) -> tuple[Any, str]:
        state, sha256 = kornia_weights.load(method, file, urls, f"detector.keynet.{option}")
        kornia_weights.fill(network, state, method)
        return network.to(self.device), sha256

    def detect(self, image: Image) -> Detected:
        import torch

        if min(image.grey.shape) <= 2 * _BORDER or image.grey.min() == image.grey.max():
            return nothing()
        with torch.inference_mode():
            grey = torch.from_numpy(np.ascontiguousarray(image.grey)).to(self.device)[None, None].float() / 255
            found = [self._maxima(level, image) for level in self._pyramid(grey)]
            centres, factors, scores = (np.concatenate(column) for column in zip(*found, strict=True))
            best = np.argsort(-scores, kind="stable")[: self.max_keypoints]
            lafs = self._frames(grey, centres[best], factors[best])
        return Detected(lafs, scores[best])

    def _pyramid(self, grey: Any) -> list[Any]:
        """(1, 1, h, w) tensors, the largest first."""
        from kornia.geometry.transform import pyrdown, resize

        height, width = grey.shape[-2:]
        levels = [grey]
        while len(levels) <= self.options.pyramid_levels and min(levels[-1].shape[-2:]) > 2 * _BORDER * _STEP:
            levels.append(pyrdown(levels[-1], factor=_STEP))
        if self.options.upscale:
            size = (int(height * _STEP), int(width * _STEP))
            levels.insert(0, resize(grey, size, interpolation="bilinear", align_corners=False))
        return [level for level in levels if min(level.shape[-2:]) > 2 * _BORDER]

    def _maxima(self, level: Any, image: Image) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Centres (n, 2) in COLMAP's pixels of the image, factors (n,) from the level to it, responses (n,)."""
        import torch
        from kornia.geometry.subpix import nms2d

        response = self._network(level)
        kept = nms2d(response, (_WINDOW, _WINDOW), mask_only=True) & (response > 0)
        inside = slice(_BORDER, -_BORDER)
        rows, columns = (index + _BORDER for index in kept[0, 0, inside, inside].nonzero(as_tuple=True))
        r = response[0, 0]
        x = columns + _vertex(r[rows, columns - 1], r[rows, columns], r[rows, columns + 1])
        y = rows + _vertex(r[rows - 1, columns], r[rows, columns], r[rows + 1, columns])
        (h, w), (height, width) = level.shape[-2:], image.grey.shape
        factor = np.array([width / w, height / h])
        centres = (torch.stack([x, y], dim=1).cpu().numpy() + 0.5 - np.array(_OFFSET)) * factor
        keep = usable(centres, image)
        return centres[keep], np.full(keep.sum(), factor.mean()), r[rows, columns].cpu().numpy()[keep]

    def _frames(self, grey: Any, centres: np.ndarray, factors: np.ndarray) -> np.ndarray:
        """(N, 2, 3) float32 frames. kornia's local affine frames map the patch axes to the image as ours do, with
        centres half a pixel lower and the patch's half-width for scale."""
        import torch

        lafs = circles(centres - 0.5, _RADIUS * factors)
        for module in (self._shape, self._orient):
            if module is not None and len(lafs):
                lafs = module(torch.from_numpy(lafs)[None].to(grey), grey)[0].cpu().numpy()
        lafs[:, :, :2] *= self.options.sigma / _RADIUS
        lafs[:, :, 2] = centres
        return lafs


def _vertex(left: Any, middle: Any, right: Any) -> Any:
    """Offset in -0.5..0.5 of the top of the parabola through three neighbours, the middle one being the largest."""
    return (0.5 * (right - left) / (2 * middle - left - right).clamp_min(1e-12)).clamp(-0.5, 0.5)
