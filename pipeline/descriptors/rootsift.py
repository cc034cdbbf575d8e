"""SIFT and RootSIFT (Arandjelovic & Zisserman 2012) on given frames, by OpenCV."""

import numpy as np
from pydantic import BaseModel, ConfigDict

_SIGMA = 1.6  # OpenCV's SIFT: blur of the first layer, and layers an octave
_LAYERS = 3


class SIFT:
    """128 gradient histograms, L2 normalised."""

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)

    max_ratio = 0.8
    weights_sha256 = None

    def __init__(self, options: Options, weights: str | None = None, device: str = "cpu"):
        import cv2

        self._cv2 = cv2
        self._sift = cv2.SIFT.create(
            nfeatures=0,
            nOctaveLayers=_LAYERS,
            contrastThreshold=0.04,
            edgeThreshold=10,
            sigma=_SIGMA,
            enable_precise_upscale=True,
        )

    def describe(self, grey: np.ndarray, lafs: np.ndarray) -> np.ndarray:
        """Affine shape is ignored: SIFT knows place, scale and angle."""
        if not len(lafs):
            return np.zeros((0, 128), np.float32)
        scale = np.sqrt(np.abs(np.linalg.det(lafs[:, :, :2].astype(np.float64))))
        angle = np.rad2deg(np.arctan2(lafs[:, 1, 0], lafs[:, 0, 0])) % 360
        # The layer in which SIFT would have found this scale; OpenCV packs it into `octave`.
        step = np.rint(np.log2(scale / _SIGMA) * _LAYERS).astype(int).clip(1 - _LAYERS)
        octave = (step - 1) // _LAYERS
        packed = (octave & 255) | ((step - octave * _LAYERS) << 8)
        keypoints = [
            self._cv2.KeyPoint(float(x), float(y), float(2 * s), float(a), 1.0, int(o))
            for (x, y), s, a, o in zip(lafs[:, :, 2] - 0.5, scale, angle, packed, strict=True)
        ]
        kept, descriptors = self._sift.compute(grey, keypoints)
        if len(kept) != len(keypoints):
            raise RuntimeError(f"OpenCV described {len(kept)} of {len(keypoints)} keypoints")
        return self.normalise(descriptors)

    @staticmethod
    def normalise(descriptors: np.ndarray) -> np.ndarray:
        return descriptors / np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), 1e-12)


class RootSIFT(SIFT):
    """Square root of the L1-normalised histograms: Euclidean distance becomes the Hellinger distance."""

    @staticmethod
    def normalise(descriptors: np.ndarray) -> np.ndarray:
        return np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-12))
