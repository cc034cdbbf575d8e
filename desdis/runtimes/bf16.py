"""bfloat16 on the CPU: four times the arithmetic where the CPU has AVX512-BF16 (measured: docs/benchmarks-speed.md).

oneDNN's convolutions as torch carries them, with weights laid out once and ReLU fused. Normalisation, sums and the last
division are float32. Descriptors are off by 0.01 (L2, mean) to 0.02 (largest), less than rounding the patch to bytes.
"""

import numpy as np
import torch
from torch import nn

from desdis import architectures
from desdis.runtimes.chunks import in_chunks
from desdis.runtimes.fold import fold
from desdis.runtimes.rows import row_matrix, three_rows

CHUNK = 512  # patches at once; fewer, and the calls' own cost shows (14 % at 128 and width 8)


class Bf16Runtime:
    """`runtime(patches)`: (N, 32, 32) uint8 or float32 in 0..255 to (N, 128) float32 of unit length.

    Raises TypeError for a network that is not a chain of convolutions (HyNet), ValueError where the CPU or this torch
    lacks what it needs.
    """

    name = "bf16"

    def __init__(self, network: nn.Module, device: str = "cpu") -> None:
        if device != "cpu":
            raise ValueError(f"it works on the CPU, not on {device}: use runtime torch there")
        if not supported():
            raise ValueError("this CPU has no AVX512-BF16, or torch was built without oneDNN")
        convolutions = chain(fold(network))
        self.hardnet = isinstance(network, architectures.HardNet)
        with torch.no_grad():
            first, *others = convolutions[:-1]
            side = architectures.PATCH_SIZE // first.stride[0]
            self.layers: list[Rows | Layer] = [Rows(first) if side * first.out_channels <= 128 else Pairs(first)]
            for convolution in others:
                self.layers.append(Layer(convolution, side))
                side //= convolution.stride[0]
            last = convolutions[-1]
            flat = last.weight.permute(0, 2, 3, 1).reshape(len(last.weight), -1)  # (128, row, column, channel)
            self.weight = torch.ops.mkldnn._reorder_linear_weight(flat.bfloat16().contiguous(), CHUNK)
            self.bias = bias_of(last).bfloat16()

    def __call__(self, patches: np.ndarray) -> np.ndarray:
        return in_chunks(self.embed, patches, CHUNK)

    def embed(self, patches: torch.Tensor) -> torch.Tensor:
        """(N, 32, 32) to (N, 128) float32, before the division by the norm."""
        x = self.standardise(patches)
        for layer in self.layers:
            x = layer(x)
        x = x.permute(0, 2, 3, 1).reshape(len(x), -1)
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "").float()

    def standardise(self, patches: torch.Tensor) -> torch.Tensor:
        """Mean 0 and deviation 1 as the network does it, (N, 32, 32) bfloat16."""
        area = architectures.PATCH_SIZE**2
        x = patches.reshape(len(patches), area).to(torch.float32, copy=True)
        x -= x.mean(dim=1, keepdim=True)
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        if self.hardnet:
            x /= length / (area - 1) ** 0.5 + 1e-6
        else:
            x /= (length.square() / area + 1e-5).sqrt()
        return x.bfloat16().view(-1, architectures.PATCH_SIZE, architectures.PATCH_SIZE)


class Layer:
    """A 3x3 convolution and ReLU: (N, C, H, W) to (N, C', H', W'), bfloat16, channels last in memory."""

    def __init__(self, convolution: nn.Conv2d, side: int) -> None:
        shape = [CHUNK, convolution.in_channels, side, side]
        self.prepare(convolution.weight, bias_of(convolution), list(convolution.stride), shape)

    def prepare(self, weight: torch.Tensor, bias: torch.Tensor, stride: list[int], shape: list[int]) -> None:
        weight = weight.bfloat16().contiguous(memory_format=torch.channels_last)
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(weight, [1, 1], stride, [1, 1], 1, shape)
        self.bias, self.stride = bias.bfloat16(), stride

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._convolution_pointwise(
            x, self.weight, self.bias, [1, 1], self.stride, [1, 1], 1, "relu", [], ""
        )


class Pairs(Layer):
    """The first layer, (N, 32, 32) to (N, C, H, W). One channel leaves the vector units idle, so that the pixels 2k
    and 2k + 1 of a row become two channels; the output is the same memory as without."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        self.channels, step = convolution.out_channels, convolution.stride[0]
        side = architectures.PATCH_SIZE
        weight, bias = in_pairs(convolution.weight, step), bias_of(convolution).repeat(2 // step)
        self.prepare(weight, bias, [step, 1], [CHUNK, 2, side, side // 2])

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        n, side, _ = x.shape
        y = super().__call__(x.view(n, side, side // 2, 2).permute(0, 3, 1, 2))
        return y.permute(0, 2, 3, 1).reshape(n, y.shape[2], -1, self.channels).permute(0, 3, 1, 2)


class Rows:
    """The first layer as one matrix product, which wins where it is narrow."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        side, self.step = architectures.PATCH_SIZE, convolution.stride[0]
        self.side, self.channels = side // self.step, convolution.out_channels
        matrix = row_matrix(convolution, side).bfloat16().contiguous()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(matrix, CHUNK * self.side)
        self.bias = bias_of(convolution).repeat(self.side).bfloat16()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        rows = three_rows(nn.functional.pad(x, (0, 0, 1, 1)), self.step)
        y = torch.ops.mkldnn._linear_pointwise(rows, self.weight, self.bias, "relu", [], "")
        return y.view(len(x), self.side, self.side, self.channels).permute(0, 3, 1, 2)


def in_pairs(weight: torch.Tensor, step: int) -> torch.Tensor:
    """(C, 1, 3, 3) kernels over pixels to (2 / step x C, 2, 3, 3) kernels over pairs of pixels."""
    outputs = 2 // step
    paired = torch.zeros(outputs, len(weight), 2, 3, 3)
    for q in range(outputs):
        for column in range(3):
            pixel = q * step + column - 1  # -1 .. 2, counted from the pair's first pixel
            paired[q, :, pixel % 2, :, 1 + pixel // 2] = weight[:, 0, :, column]
    return paired.reshape(-1, 2, 3, 3)


def chain(folded: nn.Module) -> list[nn.Conv2d]:
    """The convolutions of a folded network in order; between them is nothing but ReLU."""
    if not isinstance(folded, architectures.LightStudent | architectures.HardNet | architectures.SOSNet):
        raise TypeError(f"{type(folded).__name__} is not a chain of convolutions")
    return [module for module in folded.modules() if isinstance(module, nn.Conv2d)]


def bias_of(convolution: nn.Conv2d) -> torch.Tensor:
    return torch.zeros(convolution.out_channels) if convolution.bias is None else convolution.bias.detach()


def supported() -> bool:
    """Whether CPU and torch can do this fast."""
    known = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return known() and all(
        hasattr(torch.ops.mkldnn, name)
        for name in (
            "_convolution_pointwise", "_linear_pointwise", "_reorder_convolution_weight", "_reorder_linear_weight",
        )
    )  # fmt: skip
