"""Descriptors of 32x32 patches whose networks kornia implements: HardNet, SOSNet, HyNet, TFeat and MKD.

The patches are ours (`desdis.patches`: the same for every descriptor), the networks kornia's. Weights come from a
given file, in the authors' own layout, or from kornia's download.
"""

from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from desdis.errors import UserError
from pipeline import kornia_weights

_BATCH = 1024


class _PatchNetwork:
    """Frames to patches to descriptors of unit length. A method says how its network is built and filled."""

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid", frozen=True)
        magnification: float = Field(default=6.0, gt=0, le=64, description="patch half-width in sigmas of the frame")
        intensity: float = Field(
            default=255.0, gt=0, le=255, description="grey value that white becomes in the patches the network sees"
        )

    max_ratio = 0.9

    def __init__(self, options: Any, weights: str | None = None, device: str = "cpu"):
        self.options, self.device = options, device
        network, self.weights_sha256 = self._network(weights)
        self._net = network.to(device)

    def _network(self, weights: str | None) -> tuple[Any, str]:
        """The network, ready to be asked, and the hash of its weights."""
        raise NotImplementedError

    def describe(self, grey: np.ndarray, lafs: np.ndarray) -> np.ndarray:
        import torch

        from desdis.patches import extract_patches

        patches = extract_patches(grey, lafs, self.options.magnification)
        described = []
        with torch.inference_mode():
            # One empty batch when there are no frames, so that the width is the network's in every case.
            for start in range(0, max(len(patches), 1), _BATCH):
                batch = torch.as_tensor(patches[start : start + _BATCH], dtype=torch.float32, device=self.device)
                described.append(self._describe(batch.reshape(-1, 1, 32, 32) * (self.options.intensity / 255)))
            return _unit(torch.cat(described)).cpu().numpy()

    def _describe(self, patches: Any) -> Any:
        """(n, 1, 32, 32) float32 patches to (n, D) float32; n may be 0, which kornia's networks do not take."""
        if len(patches):
            return self._net(patches)
        return self._net(patches.new_zeros(1, 1, 32, 32))[:0]


def _unit(rows: Any) -> Any:
    """Rows of unit length. A patch without texture can give zero: it becomes the same unit vector everywhere."""
    norms = rows.norm(dim=1, keepdim=True)
    flat = rows.new_full(rows.shape, rows.shape[1] ** -0.5)
    return (rows / norms.clamp_min(1e-12)).where(norms > 1e-6, flat)


def _filled(network: Any, method: str, weights: str | None, urls: Any) -> tuple[Any, str]:
    state, sha256 = kornia_weights.load(method, weights, urls, "descriptor.weights")
    kornia_weights.fill(network, state, method)
    return network, sha256


class HardNet(_PatchNetwork):
    """HardNet (Mishchuk et al., NeurIPS 2017); by default the one trained on Liberty with augmentation."""

    def _network(self, weights: str | None) -> tuple[Any, str]:
        from kornia.feature import hardnet

        return _filled(hardnet.HardNet(pretrained=False), "hardnet", weights, hardnet.urls["liberty_aug"])


class SOSNet(_PatchNetwork):
    """SOSNet (Tian et al., CVPR 2019); by default the one trained on Liberty."""

    def _network(self, weights: str | None) -> tuple[Any, str]:
        from kornia.feature import sosnet

        return _filled(sosnet.SOSNet(pretrained=False), "sosnet", weights, sosnet.urls["lib"])


class HyNet(_PatchNetwork):
    """HyNet (Tian et al., NeurIPS 2020); by default the one trained on Liberty.

    Its first layer divides by the root mean square and subtracts nothing: contrast drops out, brightness does not.
    """

    def _network(self, weights: str | None) -> tuple[Any, str]:
        from kornia.feature import hynet

        return _filled(hynet.HyNet(pretrained=False), "hynet", weights, hynet.urls["liberty"])


class TFeat(_PatchNetwork):
    """TFeat (Balntas et al., BMVC 2016), or HardTFeat, the same body trained with HardNet's loss."""

    def _network(self, weights: str | None) -> tuple[Any, str]:
        from kornia.feature import tfeat

        network = tfeat.TFeat(pretrained=False)
        state, sha256 = kornia_weights.load("tfeat", weights, tfeat.urls["liberty"], "descriptor.weights")
        state = state.get("state_dict", state)
        if "classifier.1.weight" in state:
            state = _from_hardtfeat(state)
        kornia_weights.fill(network, state, "tfeat")
        return network, sha256


def _from_hardtfeat(state: dict[str, Any]) -> dict[str, Any]:
    """HardTFeat's layers under TFeat's names: its last one is an 8x8 convolution, TFeat's a matrix."""
    renamed = {}
    for theirs, ours in {"features.0": "features.1", "features.3": "features.4", "classifier.1": "descr.0"}.items():
        for part in ("weight", "bias"):
            if f"{theirs}.{part}" in state:
                renamed[f"{ours}.{part}"] = state[f"{theirs}.{part}"]
    renamed["descr.0.weight"] = renamed["descr.0.weight"].flatten(1)
    return renamed


class MKD(_PatchNetwork):
    """Multiple kernel descriptor (Mukundan et al., IJCV 2019): hand-made kernels, learned whitening."""

    class Options(_PatchNetwork.Options):
        kernel: Literal["cart", "polar", "concat"] = Field(
            default="concat", description="coordinates of the kernels: cartesian, polar, or both"
        )
        whitening: Literal["pcawt", "pcaws", "pca", "lw"] = Field(
            default="pcawt", description="which whitening is applied"
        )
        training_set: Literal["liberty", "notredame", "yosemite"] = Field(
            default="liberty", description="patches that the whitening was learned on"
        )

    def _network(self, weights: str | None) -> tuple[Any, str]:
        from kornia.feature import mkd

        # kornia's constructor downloads its whitening whatever one has: build without and add it.
        network = mkd.MKDDescriptor(patch_size=32, kernel_type=self.options.kernel, whitening=None)  # pyright: ignore
        models, sha256 = kornia_weights.load("mkd", weights, mkd.urls[self.options.kernel], "descriptor.weights")
        try:
            model = models[self.options.training_set]
            width = len(next(iter(model.values()))["mean"])
        except (KeyError, TypeError, AttributeError, StopIteration) as error:
            raise UserError(
                f"mkd: {weights} is not one of MKD's whitening files (mkd-cart-64.pth and the like)"
            ) from error
        if width != network.odims:
            raise UserError(
                f"mkd: {weights} is for kernels of {width} dimensions, but descriptor.mkd.kernel={self.options.kernel} "
                f"has {network.odims}; choose the kernel that the file is named after"
            )
        network.whitening = self.options.whitening
        network.whitening_layer = mkd.Whitening(self.options.whitening, model, in_dims=width, output_dims=128)
        return network.eval(), sha256
