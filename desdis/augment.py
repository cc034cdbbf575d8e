"""What happens to patches before the network sees them, in one pass on the device: 64x64 in, 32x32 out.

Turns and flips are drawn once a pair (both patches alike, as published); everything else is drawn for each patch. All
geometry is one affine sampling grid, so a patch is resampled once. Randomness comes from the generator that is given.
"""

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F


def option(default, text: str, low: float | None = None, high: float | None = None, among: tuple[str, ...] = ()):
    """A field with its line of help and what values it may take."""
    return dataclasses.field(default=default, metadata={"help": text, "low": low, "high": high, "among": among})


@dataclass(frozen=True)
class Augmentation:
    """Strengths; 0 turns a thing off."""

    turns: float = option(
        1.0, "share of pairs of which both get a quarter turn and maybe a flip (published: all)", 0, 1
    )
    rotation: float = option(0.0, "standard deviation of each patch's turn, degrees", 0)
    scale: float = option(0.0, "... of its size, natural logarithm", 0)
    shift: float = option(0.0, "... of its centre, share of the half width", 0)
    gamma: float = option(0.0, "... of the exponent of the grey values, natural logarithm", 0)
    gain: float = option(0.0, "... of the contrast, natural logarithm; offset 32 gain, values clipped to 0..255", 0)
    blur: float = option(0.0, "largest share of a 3x3 box blur mixed in, uniform from 0", 0, 1)
    noise: float = option(0.0, "largest standard deviation of added noise, grey values, uniform from 0", 0)
    occlusion: float = option(0.0, "share of patches that get a rectangle of one grey value", 0, 1)


def window(count: int, margin: float, device: torch.device | None = None) -> torch.Tensor:
    """(count, 2, 3) sampling frames for grid_sample: the central 1 / margin of a patch, untouched."""
    frame = torch.tensor([[1 / margin, 0, 0], [0, 1 / margin, 0]], device=device)
    return frame.expand(count, 2, 3)


def resample(patches: torch.Tensor, frames: torch.Tensor, size: int = 32) -> torch.Tensor:
    """(N, 1, S, S) float patches through (N, 2, 3) frames -> (N, 1, size, size), bilinear, borders repeated."""
    steps = (2 * torch.arange(size, device=patches.device) + 1) / size - 1  # pixel centres in -1..1
    a, b, c = frames[:, :, 0, None, None], frames[:, :, 1, None, None], frames[:, :, 2, None, None]
    grid = a * steps + (b * steps[:, None] + c)  # (N, 2, size, size); affine_grid does this by a slow matrix product
    return F.grid_sample(patches, grid.permute(0, 2, 3, 1), "bilinear", "border", align_corners=False)


def turned(pairs: int, options: Augmentation, margin: float, generator: torch.Generator) -> torch.Tensor:
    """(2 pairs, 2, 3) sampling frames: a quarter turn and maybe a flip, the same for rows i and i + pairs."""
    frames = window(2 * pairs, margin, generator.device).clone()
    if options.turns:
        angle = torch.randint(4, (pairs,), generator=generator, device=generator.device) * (torch.pi / 2)
        flip = 1.0 - 2.0 * torch.randint(2, (pairs,), generator=generator, device=generator.device)
        spared = torch.rand(pairs, generator=generator, device=generator.device) >= options.turns
        angle, flip = angle.masked_fill(spared, 0), flip.masked_fill(spared, 1)
        cos, sin = angle.cos(), angle.sin()
        turn = torch.stack([torch.stack([cos * flip, -sin], 1), torch.stack([sin * flip, cos], 1)], dim=1)
        frames[:, :, :2] = turn.repeat(2, 1, 1) / margin
    return frames


def jittered(frames: torch.Tensor, options: Augmentation, margin: float, generator: torch.Generator) -> torch.Tensor:
    """The frames (N, 2, 3), each a little turned, scaled and shifted on its own."""

    def normal() -> torch.Tensor:
        return torch.randn(len(frames), generator=generator, device=generator.device)

    angle, size = torch.deg2rad(options.rotation * normal()), torch.exp(options.scale * normal())
    cos, sin = size * angle.cos(), size * angle.sin()
    jitter = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], dim=1)
    shift = torch.stack([normal(), normal()], dim=1) * (options.shift / margin)
    return torch.cat([frames[:, :, :2] @ jitter, frames[:, :, 2:] + shift[:, :, None]], dim=2)


def photometric(patches: torch.Tensor, options: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Exposure, sharpness, noise and cover on (N, 1, S, S) values in 0..255; the result stays in 0..255."""
    device, count = generator.device, len(patches)

    def normal() -> torch.Tensor:
        return torch.randn(count, 1, 1, 1, generator=generator, device=device)

    def uniform() -> torch.Tensor:
        return torch.rand(count, 1, 1, 1, generator=generator, device=device)

    if options.blur:
        patches = torch.lerp(patches, F.avg_pool2d(patches, 3, 1, 1, count_include_pad=False), options.blur * uniform())
    if options.gamma:
        patches = 255 * (patches / 255).clamp(0, 1) ** torch.exp(options.gamma * normal())
    if options.gain:
        mean = patches.mean(dim=(2, 3), keepdim=True)
        patches = mean + (patches - mean) * torch.exp(options.gain * normal()) + 32 * options.gain * normal()
    if options.noise:
        noise = torch.randn(patches.shape, generator=generator, device=device)
        patches = patches + noise * (options.noise * uniform())
    if options.occlusion:
        size = patches.shape[-1]
        steps = torch.arange(size, device=device) / size
        hit = uniform() < options.occlusion
        side = 0.2 + 0.3 * uniform()
        left, top = uniform() * 1.2 - 0.1, uniform() * 1.2 - 0.1
        inside = ((steps - left).abs() < side / 2) & ((steps[:, None] - top).abs() < side / 2) & hit
        patches = torch.where(inside, 255 * uniform(), patches)
    return patches.clamp(0, 255)


def augment(
    patches: torch.Tensor, options: Augmentation, margin: float, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """(2B, S, S) uint8, anchors first, then their positives -> (2B, 1, 32, 32) float32 in 0..255, and the frames
    (2B, 2, 3) of their turns and flips alone."""
    frames = turned(len(patches) // 2, options, margin, generator)
    sampled = resample(patches[:, None].float(), jittered(frames, options, margin, generator))
    return photometric(sampled, options, generator), frames


def plain(patches: torch.Tensor, margin: float) -> torch.Tensor:
    """(N, S, S) uint8 -> (N, 1, 32, 32) float32: the window that is described, nothing added."""
    return resample(patches[:, None].float(), window(len(patches), margin, patches.device))
