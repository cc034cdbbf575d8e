"""Descriptors of patches by one door: whatever the network, (N, 32, 32) uint8 goes in and unit vectors come out.

A method is named by what `desdis.load` takes (`desdis-32`, `official/desdis-32`, a file of weights), by `rootsift`, or
by KIND:FILE with a kind of `pipeline.descriptors` (`tfeat:tfeat-liberty.params`, `mkd:mkd-concat-64.pth`).
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from desdis.errors import UserError

SIZE = 32
STRIP = 1000  # patches of a strip: OpenCV's remap takes sides up to 32,766 pixels


@dataclass(frozen=True)
class PatchMethod:
    """describe: (N, 32, 32) uint8 to (N, D) float32. parameters and multiply_adds (a patch) are None without a
    network; sha256 is that of the weights."""

    name: str
    describe: Callable[[np.ndarray], np.ndarray]
    parameters: int | None = None
    multiply_adds: int | None = None
    sha256: str | None = None


def patch_method(spec: str) -> PatchMethod:
    """The method that `spec` names. Raises UserError where there is none, or its weights cannot be read."""
    from pipeline.descriptors import DESCRIPTORS

    kind, colon, file = spec.partition(":")
    if spec == "rootsift":
        return PatchMethod(spec, _rootsift())
    if colon and kind in DESCRIPTORS and kind != "desdis":
        return _peer(kind, file)
    return _ours(spec)


def patches_per_second(method: PatchMethod, count: int = 4096, repeats: int = 3) -> float:
    """The best of some runs over `count` patches, a second of processor time: what one core does, also beside others'
    work."""
    patches = np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE), np.uint8)
    method.describe(patches[:256])
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        method.describe(patches)
        times.append(time.process_time() - begin)
    return count / min(times)


def cost(network: Any) -> tuple[int, int]:
    """(parameters, multiply-adds of convolutions and matrices for one 32x32 patch) of a torch network."""
    import torch

    total = 0

    def count(module: Any, _inputs: Any, output: Any) -> None:
        nonlocal total
        total += int(module.weight[0].numel() * output[0].numel())

    layers = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.inference_mode():
        network(torch.rand(1, 1, SIZE, SIZE) * 255)
    for hook in hooks:
        hook.remove()
    return sum(p.numel() for p in network.parameters()), total


def _ours(spec: str) -> PatchMethod:
    import desdis
    from desdis.checkpoints import load_network

    describer = desdis.load(spec, device="cpu")
    parameters, multiply_adds = cost(load_network(spec)[0])
    name = f"{Path(spec).parent.name}/{Path(spec).stem}" if Path(spec).suffix else spec
    return PatchMethod(name, describer.describe_patches, parameters, multiply_adds, describer.sha256)


def _peer(kind: str, file: str) -> PatchMethod:
    """A descriptor of whole photographs is given a strip of patches, and frames that lie on them exactly."""
    from pipeline.descriptors import DESCRIPTORS
    from pipeline.detectors import load

    if not Path(file).is_file():
        raise UserError(f"{kind}:{file}: there is no such file of weights")
    Descriptor = load(DESCRIPTORS, kind)
    words: dict[str, Any] = {"magnification": 6.0} if "magnification" in Descriptor.Options.model_fields else {}
    if kind == "mkd":
        words["kernel"] = next((k for k in ("cart", "polar") if k in Path(file).name), "concat")
    descriptor = Descriptor(Descriptor.Options(**words), file)
    sigma = SIZE / 2 / words.get("magnification", 6.0)

    def describe(patches: np.ndarray) -> np.ndarray:
        found = []
        for begin in range(0, max(1, len(patches)), STRIP):
            part = patches[begin : begin + STRIP]
            lafs = np.zeros((len(part), 2, 3), np.float32)
            lafs[:, 0, 0] = lafs[:, 1, 1] = sigma
            lafs[:, 0, 2], lafs[:, 1, 2] = SIZE / 2, SIZE / 2 + SIZE * np.arange(len(part))
            strip = part.reshape(-1, SIZE) if len(part) else np.zeros((SIZE, SIZE), np.uint8)
            found.append(descriptor.describe(np.ascontiguousarray(strip), lafs))
        return np.concatenate(found)

    network = getattr(descriptor, "_net", None)
    parameters, multiply_adds = cost(network) if network is not None else (None, None)
    sha256 = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return PatchMethod(f"{kind}:{Path(file).stem}", describe, parameters, multiply_adds, sha256)


def _rootsift() -> Callable[[np.ndarray], np.ndarray]:
    """RootSIFT of a patch (Arandjelovic & Zisserman, CVPR 2012), kornia's: 4x4 cells over the whole patch."""
    import torch
    from kornia.feature import SIFTDescriptor

    sift = SIFTDescriptor(SIZE, rootsift=True).eval()

    def describe(patches: np.ndarray) -> np.ndarray:
        found = [np.zeros((0, 128), np.float32)]
        with torch.inference_mode():
            for begin in range(0, len(patches), 2048):
                part = torch.from_numpy(patches[begin : begin + 2048]).float()[:, None] / 255
                found.append(torch.nn.functional.normalize(sift(part), dim=1).numpy())
        return np.concatenate(found)

    return describe
