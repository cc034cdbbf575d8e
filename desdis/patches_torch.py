"""Frames to patches on the device: `desdis.patches` in torch, for describers on a GPU (pixels go up once, patches never
come down). The same pyramid, levels and coordinates; the two agree to about a grey level (a test holds them)."""

import math

import torch
from torch.nn import functional as F

from desdis.patches import LAG, STEPS, blur_variance, octave_of


def extract_patches(grey: torch.Tensor, lafs: torch.Tensor, magnification: float, size: int = 32) -> torch.Tensor:
    """grey (H, W) uint8 or float32 and lafs (N, 2, 3) float32 on one device, as `desdis.patches.extract_patches` takes
    them, to (N, size, size) float32 patches on that device."""
    patches = torch.empty((len(lafs), size, size), device=lafs.device)
    axes = lafs[:, :, :2] * magnification
    cells = 2 * torch.linalg.det(axes.double()).abs().sqrt() / size
    levels = (STEPS * cells.clamp_min(1).log2()).round().long()
    u = (2 * torch.arange(size, device=lafs.device, dtype=torch.float32) + 1) / size - 1

    base, octave, variance = grey.float()[None, None], 0, 0.0
    for level in levels.unique().tolist():
        while octave < octave_of(level):
            next_variance = blur_variance(LAG + STEPS * (octave + 1))
            base = blur(base, (next_variance - variance) / 4.0**octave)[:, :, ::2, ::2]
            octave, variance = octave + 1, next_variance
        image = blur(base, (blur_variance(level) - variance) / 4.0**octave)
        rows = (levels == level).nonzero()[:, 0]
        a, centres = axes[rows] / 2**octave, (lafs[rows, :, 2] - 0.5) / 2**octave
        across = a[:, None, None, :, 0] * u[None, None, :, None]  # (n, 1, size, 2)
        down = a[:, None, None, :, 1] * u[None, :, None, None]  # (n, size, 1, 2)
        places = across + down + centres[:, None, None]
        patches[rows] = sample(image, places)
    return patches


def sample(image: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """image (1, 1, H, W) at places (n, size, size, 2), x and y in pixels from the first pixel's centre: bilinear, the
    border repeated, (n, size, size)."""
    n, size = places.shape[:2]
    height, width = image.shape[2:]
    extent = torch.tensor([width - 1, height - 1], device=image.device).clamp_min(1)
    grid = (2 * places / extent - 1).reshape(1, n * size, size, 2)
    return F.grid_sample(image, grid, padding_mode="border", align_corners=True).reshape(n, size, size)


def blur(image: torch.Tensor, variance: float) -> torch.Tensor:
    """Gaussian of that variance, sampled and cut at four sigmas, the border repeated."""
    if variance <= 0:
        return image
    reach = math.ceil(4 * variance**0.5)
    k = torch.arange(-reach, reach + 1, device=image.device)
    kernel = torch.exp(-(k**2) / (2 * variance))
    kernel /= kernel.sum()
    image = F.conv2d(F.pad(image, (reach, reach, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))
    return F.conv2d(F.pad(image, (0, 0, reach, reach), mode="replicate"), kernel.view(1, 1, -1, 1))
