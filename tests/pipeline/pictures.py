"""Rendered pictures for the tests of detectors and descriptors, and the weights that those tests use."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.types import Image

WEIGHTS = Path(__file__).parents[3] / "shared" / "weights"


def shared(path: str) -> str:
    """A file of ../shared/weights; the test is skipped where that folder is absent."""
    if not WEIGHTS.is_dir():
        pytest.skip("needs ../shared/weights beside the repository")
    return str(WEIGHTS / path)


def picture(height: int = 320, width: int = 384, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8 RGB: polygons, discs and strokes of many sizes over a soft texture, as a busy wall may look."""
    generator = np.random.default_rng(seed)
    scale = 4  # drawn large and shrunk, so that edges are smooth
    canvas = np.full((height * scale, width * scale, 3), 120, np.uint8)
    for _ in range(height * width // 350):
        centre = generator.integers(0, (width * scale, height * scale))
        radius = float(np.exp(generator.uniform(np.log(4), np.log(28)))) * scale
        colour = tuple(int(c) for c in generator.integers(0, 256, 3))
        kind = generator.integers(3)
        if kind == 0:
            corners = centre + generator.normal(size=(generator.integers(3, 6), 2)) * radius
            cv2.fillConvexPoly(canvas, cv2.convexHull(corners.astype(np.int32)), colour, cv2.LINE_AA)
        elif kind == 1:
            cv2.circle(canvas, tuple(int(c) for c in centre), int(radius / 2), colour, -1, cv2.LINE_AA)
        else:
            end = centre + generator.normal(size=2) * radius
            cv2.line(canvas, tuple(int(c) for c in centre), tuple(int(c) for c in end), colour, 2 * scale, cv2.LINE_AA)
    small = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    texture = cv2.GaussianBlur(generator.normal(size=(height, width)).astype(np.float32), (0, 0), 1.5)
    small = cv2.GaussianBlur(small, (0, 0), 0.6) * 0.8 + 25 + 30 * texture[..., None]
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)


def blobs(height: int, width: int, sigma: float, seed: int = 0, step: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 picture of bright Gaussian blobs, and their (N, 2) centres in COLMAP's pixels."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.arange(width // step), np.arange(height // step)), axis=-1).reshape(-1, 2)
    centres = (grid + 0.5) * step + generator.uniform(-3, 3, grid.shape)
    y, x = np.mgrid[:height, :width] + 0.5
    light = sum(np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2)) for cx, cy in centres)
    grey = np.rint(40 + 200 * np.asarray(light)).clip(0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2), centres


def image_of(rgb: np.ndarray, mask: np.ndarray | None = None) -> Image:
    return Image(cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY), np.ascontiguousarray(rgb), mask)
