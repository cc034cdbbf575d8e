"""XFeat (Potje et al., CVPR 2024): keypoints and descriptors of the whole image from one light network, by kornia."""

from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pipeline import kornia_weights
from pipeline.detectors.frames import circles, nothing, usable
from pipeline.types import Detected, Image

_MIN_SIDE = 32  # pixels: kornia enlarges smaller images
# Pixels (x, y) by which the published network answers beside the structure it answers to, the same way in every
# image (so turned images disagree by twice this): half the most frequent mismatch between a photograph's keypoints and
# its mirror image's, on photographs of the validation set.
# `python -m pipeline.benchmark_mirror` shows what is left of it.
_OFFSET = (0.42, -1.50)


class XFeat:
    """Frames are upright circles of a nominal scale: the network knows places, not scales or angles."""

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)
        weights: Path | None = Field(default=None, description="weights file (default: kornia's download)")
        min_score: float = Field(
            default=0.05, ge=0, le=1, description="keypoint probability that a keypoint must exceed"
        )
        sigma: float = Field(
            default=4.0, gt=0, le=64, description="scale given to the frames, pixels (for other descriptors)"
        )

    max_ratio = 0.95

    def __init__(self, options: Options, max_keypoints: int, device: str = "cpu"):
        from kornia.feature import XFeat as Network

        self.options, self.max_keypoints, self.device = options, max_keypoints, device
        self._network = Network(detection_threshold=options.min_score)
        state, self.weights_sha256 = kornia_weights.load(
            "xfeat", options.weights, Network.weights_url, "detector.xfeat.weights"
        )
        # Only the refinement of semi-dense matches uses the fine matcher, and not every export has it.
        kornia_weights.fill(self._network.net, state, "xfeat", may_miss=["fine_matcher."])
        self._network.eval().to(device)

    def detect(self, image: Image) -> Detected:
        import torch

        height, width = image.grey.shape
        if min(height, width) < _MIN_SIDE or image.grey.min() == image.grey.max():
            return nothing(64)
        rgb = torch.from_numpy(np.ascontiguousarray(image.rgb)).to(self.device).permute(2, 0, 1)[None].float() / 255
        # What the image's edge and the mask take away is made good from the weaker ones.
        found = self._network.detectAndCompute(rgb, top_k=height * width)[0]
        places, scores, descriptors = (found[key].cpu().numpy() for key in ("keypoints", "scores", "descriptors"))
        # kornia reports pixel i of an image shrunk to multiples of 32 at i x ratio; its centre is (i + 0.5) x ratio.
        ratio = np.array([width / (width // 32 * 32), height / (height // 32 * 32)])
        centres = places + (0.5 - np.array(_OFFSET)) * ratio
        keep = np.flatnonzero(usable(centres, image))[: self.max_keypoints]
        return Detected(circles(centres[keep], self.options.sigma), scores[keep], descriptors[keep])
