"""The networks: patches (N, 1, 32, 32) in, unit descriptors (N, 128) out.

LightStudent is the network the authors of DesDis published, at any width. HardNet, SOSNet and HyNet are the three
teachers' networks (and the equal-weight students'); their state-dict names are those of kornia's classes, and a test
holds them equal, weights for weights. The light student carries the authors' names (`layer1.1.weight`, ...).

All take grey values in 0..255 as float32. HardNet and SOSNet normalise the patch themselves, so scale and offset of the
input are nearly free; on flat patches (shadow, sky, water) the eps of the normalisation is felt on a 0..1 scale.
"""

import torch
import torch.nn.functional as F
from torch import nn

DIMENSIONS = 128
PATCH_SIZE = 32


def convolution(channels_in: int, channels_out: int, stride: int = 1, affine: bool = False) -> list[nn.Module]:
    """3x3 convolution without bias, batch normalisation: the brick all of these networks are built of."""
    return [
        nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out, affine=affine),
    ]


class LightStudent(nn.Module):
    """DesDis's light student (Liu & Dong, IJCV 2024). `width` 8, 16, 24 and 32 are the authors'; any other works.

    Convolutions cost 4608 w² + 10496 w multiply-adds a patch, 234 w² + 8201 w + 128 parameters.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        w = width
        self.width = width
        self.layer1 = nn.Sequential(nn.InstanceNorm2d(1), *convolution(1, w, stride=2), nn.ReLU())
        self.layer2 = nn.Sequential(*convolution(w, 2 * w, stride=2), nn.ReLU())
        self.layer3 = nn.Sequential(
            *convolution(2 * w, 4 * w, stride=2), nn.ReLU(), *convolution(4 * w, 4 * w), nn.ReLU()
        )
        # The bias is the published file's; the batch normalisation after it cancels it while training.
        self.desc = nn.Sequential(
            nn.Dropout(0.1), nn.Conv2d(4 * w, DIMENSIONS, 4), nn.BatchNorm2d(DIMENSIONS, affine=False)
        )

    def embed(self, patches: torch.Tensor) -> torch.Tensor:
        """(N, 1, 32, 32) -> (N, 128), before the division by the norm."""
        return self.desc(self.layer3(self.layer2(self.layer1(patches)))).flatten(1)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.embed(patches), dim=1)


class HardNet(nn.Module):
    """HardNet's network (Mishchuk et al., NeurIPS 2017): L2-Net's seven convolutions, 39.09 M multiply-adds a patch."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *convolution(1, 32), nn.ReLU(),
            *convolution(32, 32), nn.ReLU(),
            *convolution(32, 64, stride=2), nn.ReLU(),
            *convolution(64, 64), nn.ReLU(),
            *convolution(64, 128, stride=2), nn.ReLU(),
            *convolution(128, 128), nn.ReLU(),
            nn.Dropout(0.3), nn.Conv2d(128, 128, 8, bias=False), nn.BatchNorm2d(128, affine=False),
        )  # fmt: skip

    def embed(self, patches: torch.Tensor) -> torch.Tensor:
        deviation, mean = torch.std_mean(patches, dim=(1, 2, 3), correction=1, keepdim=True)
        return self.features((patches - mean) / (deviation + 1e-6)).flatten(1)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.embed(patches), dim=1)


class SOSNet(nn.Module):
    """SOSNet's network (Tian et al., CVPR 2019): HardNet's, normalised by instance."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.InstanceNorm2d(1, affine=False),
            *convolution(1, 32), nn.ReLU(),
            *convolution(32, 32), nn.ReLU(),
            *convolution(32, 64, stride=2), nn.ReLU(),
            *convolution(64, 64), nn.ReLU(),
            *convolution(64, 128, stride=2), nn.ReLU(),
            *convolution(128, 128), nn.ReLU(),
            nn.Dropout(0.1), nn.Conv2d(128, 128, 8, bias=False), nn.BatchNorm2d(128, affine=False),
        )  # fmt: skip

    def embed(self, patches: torch.Tensor) -> torch.Tensor:
        return self.layers(patches).flatten(1)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        # The paper's local response normalisation, over a window wider than the vector, is the division by the norm.
        return F.normalize(self.embed(patches) + 1e-10, dim=1)


class FilterResponseNorm(nn.Module):
    """x / sqrt(mean over the map of x² + |eps|) * weight + bias (Singh & Krishnan, CVPR 2020), as HyNet uses it."""

    eps: torch.Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.register_buffer("eps", torch.tensor([1e-6]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        power = x.float().square().mean(dim=(2, 3), keepdim=True)
        scale = torch.rsqrt(power + self.eps.abs()) * self.weight
        return torch.addcmul(self.bias.to(x.dtype), x, scale.to(x.dtype))  # the map stays in bfloat16 where it comes so


class ThresholdedLinear(nn.Module):
    """max(x, tau), tau learned per channel: the activation that belongs to FilterResponseNorm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.tau = nn.Parameter(torch.full((1, channels, 1, 1), -1.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.clamp(x, min=self.tau.to(x.dtype))  # the gradient of torch.maximum is nearly twice as slow


class HyNet(nn.Module):
    """HyNet's network (Tian et al., NeurIPS 2020): L2-Net's convolutions with filter response normalisation."""

    def __init__(self) -> None:
        super().__init__()
        # (channels in, channels out, stride) of layer1 .. layer6
        plan = [(1, 32, 1), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1)]
        for number, (channels_in, channels_out, stride) in enumerate(plan, start=1):
            layer = nn.Sequential(
                nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1),
                FilterResponseNorm(channels_out),
                ThresholdedLinear(channels_out),
            )
            if number == 1:  # the raw patch is normalised too: by its power, the mean stays
                layer = nn.Sequential(FilterResponseNorm(1), ThresholdedLinear(1), *layer)
            self.add_module(f"layer{number}", layer)
        self.layer7 = nn.Sequential(
            nn.Dropout(0.3), nn.Conv2d(128, 128, 8, bias=False), nn.BatchNorm2d(128, affine=False)
        )

    def embed(self, patches: torch.Tensor) -> torch.Tensor:
        for number in range(1, 8):
            patches = self.get_submodule(f"layer{number}")(patches)
        return patches.flatten(1)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.embed(patches) + 1e-10, dim=1)


BODIES: dict[str, type[nn.Module]] = {"hardnet": HardNet, "sosnet": SOSNet, "hynet": HyNet}


def build(architecture: str) -> nn.Module:
    """A fresh network by name: "desdis-WIDTH" (any width from 1), "hardnet", "sosnet" or "hynet".

    Raises ValueError for another name.
    """
    if architecture in BODIES:
        return BODIES[architecture]()
    family, _, width = architecture.partition("-")
    if family == "desdis" and width.isdigit() and int(width) > 0:
        return LightStudent(int(width))
    raise ValueError(f"no network called {architecture!r}: desdis-WIDTH, {', '.join(BODIES)}")


def recognise(state: dict[str, torch.Tensor]) -> str | None:
    """The architecture a state dict belongs to, by its names and shapes; None if it is none of ours."""
    first = state.get("layer1.1.weight")
    if first is not None and first.ndim == 4 and "layer3.3.weight" in state:
        return f"desdis-{first.shape[0]}"
    if "features.0.weight" in state:
        return "hardnet"
    if "layers.1.weight" in state:
        return "sosnet"
    if "layer1.0.eps" in state:
        return "hynet"
    return None
