"""ALIKED (Zhao et al., TIM 2023): keypoints and descriptors of the whole image from one network, by kornia."""

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pipeline import kornia_weights
from pipeline.detectors.frames import circles, nothing, usable
from pipeline.types import Detected, Image

_MIN_SIDE = 32  # pixels: one cell of the coarsest feature map
# Pixels (x, y) by which the published networks answer beside the structure they answer to, the same way in every
# image (so turned images disagree by twice this): half the median mismatch between a photograph's keypoints and its
# mirror image's, over 12 photographs of the validation set. n32 was not measured.
# `python -m pipeline.benchmark_mirror` shows what is left of it.
_OFFSETS = {"aliked-t16": (1.69, 1.74), "aliked-n16": (1.56, 1.66), "aliked-n16rot": (0.47, -0.08)}
_URLS = (
    "https://huggingface.co/kornia/aliked/resolve/main/{}.pth",
    "https://github.com/Shiaoming/ALIKED/raw/main/models/{}.pth",
)


class Aliked:
    """Frames are upright circles of a nominal scale: the network knows places, not scales or angles."""

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)
        model: Literal["aliked-t16", "aliked-n16", "aliked-n16rot", "aliked-n32"] = Field(
            default="aliked-n16", description="network; n16rot was trained for turned images, t16 is the small one"
        )
        weights: Path | None = Field(
            default=None, description="weights file of that network (default: kornia's download)"
        )
        min_score: float = Field(default=0.2, gt=0, le=1, description="smallest detection score")
        nms_radius: int = Field(default=2, ge=1, le=16, description="no two keypoints closer than this, pixels")
        sigma: float = Field(
            default=4.0, gt=0, le=64, description="scale given to the frames, pixels (for other descriptors)"
        )

    max_ratio = 0.95

    def __init__(self, options: Options, max_keypoints: int, device: str = "cpu"):
        from kornia.feature import ALIKED

        self.options, self.max_keypoints, self.device = options, max_keypoints, device
        self._network = ALIKED(options.model, -1, options.min_score, options.nms_radius)
        urls = [url.format(options.model) for url in _URLS]
        state, self.weights_sha256 = kornia_weights.load(
            options.model, options.weights, urls, "detector.aliked.weights"
        )
        kornia_weights.fill(self._network, state, options.model, may_miss=["dkd."])
        self._network.to(device)
        self._dim = self._network.desc_head.sf_conv.out_channels

    def detect(self, image: Image) -> Detected:
        import torch

        height, width = image.grey.shape
        if min(height, width) < _MIN_SIDE or image.grey.min() == image.grey.max():
            return nothing(self._dim)
        with torch.inference_mode():
            rgb = torch.from_numpy(np.ascontiguousarray(image.rgb)).to(self.device)
            features, score_map = self._network.extract_dense_map(rgb.permute(2, 0, 1)[None].float() / 255)
            if image.mask is not None:
                score_map = score_map * torch.from_numpy(image.mask).to(score_map)
            places, scores = (found[0].cpu().numpy() for found in self._network.dkd(score_map)[:2])
            # -1..1 between the centres of the outermost pixels, to COLMAP's corner-based pixels
            centres = (places.astype(np.float64) + 1) / 2 * (width - 1, height - 1) + 0.5
            centres -= _OFFSETS.get(self.options.model, (0.0, 0.0))
            # Where an image has nothing above the threshold kornia falls back to its weaker maxima: not wanted.
            wanted = np.flatnonzero(usable(centres, image) & (scores > self.options.min_score))
            wanted = wanted[np.argsort(-scores[wanted], kind="stable")][: self.max_keypoints]
            chosen = torch.from_numpy(places[wanted]).to(self.device)
            descriptors = self._network.desc_head(features, [chosen])[0][0].cpu().numpy()
        return Detected(circles(centres[wanted], self.options.sigma), scores[wanted], descriptors)
