"""Bytes on the CPU: twice bfloat16's arithmetic where the CPU has AVX512-VNNI (measured: docs/benchmarks-speed.md).

oneDNN's quantised convolutions as torch carries them: weights in 8 bits with a scale for each output channel, what
passes from layer to layer in 8 bits with one fixed scale. No photographs are needed to find the scales: in the light
student every convolution is followed by a batch normalisation without weights, so that all channels have deviation 1.
Sums are integers: a descriptor does not depend on the batch or the number of threads. Descriptors are off by 0.035 (L2,
mean) to 0.18 (largest).
"""

import numpy as np
import torch
from torch import nn

from desdis import architectures
from desdis.runtimes.bf16 import bias_of, chain
from desdis.runtimes.chunks import in_chunks
from desdis.runtimes.fold import fold
from desdis.runtimes.rows import row_matrix, three_rows

CHUNK = 1024  # patches at once; 512 take a tenth longer

# The largest magnitudes that a byte stands for, in standard deviations, of the standardised patch, of the first layer's
# output (kernels of high frequency: long tails) and of the others'. Measured on training patches: mean and largest
# error fall up to here and rise beyond.
INPUT, FIRST, INNER = 6.0, 10.0, 7.0
ZERO = 128  # the byte of a patch's mean


class Int8Runtime:
    """`runtime(patches)`: (N, 32, 32) uint8 or float32 in 0..255 to (N, 128) float32 of unit length.

    Raises TypeError for a network that is no light student, ValueError where the CPU or this torch lacks what it needs.
    """

    name = "int8"

    def __init__(self, network: nn.Module, device: str = "cpu") -> None:
        if device != "cpu":
            raise ValueError(f"it works on the CPU, not on {device}: use runtime torch there")
        if not isinstance(network, architectures.LightStudent):
            raise TypeError(f"{type(network).__name__} is no light student: its layers' ranges are not known")
        if not supported():
            raise ValueError("this CPU has no AVX512-VNNI, or torch was built without oneDNN's quantised convolutions")
        with torch.no_grad():
            first, *inner, last = chain(fold(network))
            self.rows = Rows(first)
            self.layers: list[Layer] = []
            side, step = self.rows.side, FIRST / 255
            for convolution in inner:
                self.layers.append(Layer(convolution, side, step))
                side, step = side // convolution.stride[0], INNER / 255
            flat = last.weight.permute(0, 2, 3, 1).reshape(len(last.weight), -1)  # (128, row, column, channel)
            self.product = Product(flat, bias_of(last), CHUNK, step, zero=0)

    def __call__(self, patches: np.ndarray) -> np.ndarray:
        return in_chunks(self.embed, patches, CHUNK)

    def embed(self, patches: torch.Tensor) -> torch.Tensor:
        """(N, 32, 32) to (N, 128) float32, before the division by the norm."""
        if not len(patches):
            return torch.empty((0, architectures.DIMENSIONS))
        x = self.rows(standardise(patches))
        for layer in self.layers:
            x = layer(x)
        return self.product(x.permute(0, 2, 3, 1).reshape(len(x), -1))


def standardise(patches: torch.Tensor) -> torch.Tensor:
    """Mean 0 and deviation 1 as the network does it: (N, 32, 32) float32 that counts steps of a byte, ZERO and a half
    (for rounding by cutting) added."""
    area = architectures.PATCH_SIZE**2
    x = patches.reshape(len(patches), area).to(torch.float32, copy=True)
    x -= x.mean(dim=1, keepdim=True)
    variance = torch.linalg.vector_norm(x, dim=1, keepdim=True).square() / area
    x *= (127 / INPUT) / (variance + 1e-5).sqrt()
    x += ZERO + 0.5
    return x.clamp_(0, 255).view(-1, architectures.PATCH_SIZE, architectures.PATCH_SIZE)


class Product:
    """A matrix product: (M, K) uint8 to (M, N), float32, or bytes after a ReLU where `out` is the step of these."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, rows: int, step: float, zero: int, out: float = 0):
        values, self.scales = quantised(weight)
        self.weight = torch.ops.onednn.qlinear_prepack(values, [rows, weight.shape[1]])
        self.zeros = torch.zeros(len(weight), dtype=torch.int64)
        self.bias, self.step, self.zero = bias, step, zero
        self.out = (out, 0, torch.uint8, "relu") if out else (1.0, 0, torch.float32, "none")

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.onednn.qlinear_pointwise(
            x, self.step, self.zero, self.weight, self.scales, self.zeros, self.bias, *self.out, [], ""
        )


class Rows:
    """The first layer, (N, 32, 32) of `standardise` to (N, C, H, W) bytes, channels last in memory."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        side, self.stride = architectures.PATCH_SIZE, convolution.stride[0]
        self.side, self.channels = side // self.stride, convolution.out_channels
        matrix, bias = row_matrix(convolution, side), bias_of(convolution).repeat(self.side)
        self.product = Product(matrix, bias, CHUNK * self.side, INPUT / 127, ZERO, out=FIRST / 255)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        n, side, _ = x.shape
        padded = torch.full((n, side + 2, side), ZERO, dtype=torch.uint8)
        padded[:, 1:-1] = x
        y = self.product(three_rows(padded, self.stride))
        return y.view(n, self.side, self.side, self.channels).permute(0, 3, 1, 2)


class Layer:
    """A 3x3 convolution and ReLU: (N, C, H, W) to (N, C', H', W'), bytes, channels last in memory. `step` is what one
    step of an incoming byte stands for."""

    def __init__(self, convolution: nn.Conv2d, side: int, step: float) -> None:
        self.stride, self.bias, self.step = list(convolution.stride), bias_of(convolution), step
        values, self.scales = quantised(convolution.weight)
        shape = [CHUNK, convolution.in_channels, side, side]
        self.weight = torch.ops.onednn.qconv_prepack(
            values, self.scales, step, 0, self.stride, [1, 1], [1, 1], 1, shape
        )
        self.zeros = torch.zeros(len(values), dtype=torch.int64)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.onednn.qconv2d_pointwise(
            x, self.step, 0, self.weight, self.scales, self.zeros, self.bias, self.stride, [1, 1], [1, 1], 1,
            INNER / 255, 0, torch.uint8, "relu", [], "",
        )  # fmt: skip


def quantised(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (C, ...) in steps of -127..127 as int8, and the step of each output channel, (C,) float32."""
    largest = weight.abs().flatten(1).amax(dim=1).clamp_min(1e-8)
    steps = largest / 127
    return (weight / steps.view(-1, *[1] * (weight.dim() - 1))).round().to(torch.int8), steps


def supported() -> bool:
    """Whether CPU and torch can do this fast, and without saturating sums of two products (CPUs before VNNI)."""
    known = getattr(torch.cpu, "_is_vnni_supported", lambda: False)
    return known() and all(
        hasattr(torch.ops.onednn, name)
        for name in ("qconv_prepack", "qconv2d_pointwise", "qlinear_prepack", "qlinear_pointwise")
    )
