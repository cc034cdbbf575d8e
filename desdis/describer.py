"""A describer: weights in a runtime, with patches cut on the way. Photograph and frames in, descriptors out."""

import json
from typing import TYPE_CHECKING

import numpy as np

from desdis.errors import UserError
from desdis.patches import checked_frames, extract_patches

if TYPE_CHECKING:
    from torch import nn

MAGNIFICATION = 9.0  # half the side of a patch in sigmas of the detection
SIZE = 32
SLICE = 16384  # frames cut and described at once, 16 MB: each slice blurs the image anew, so that few are better


class Describer:
    """A network ready to describe.

    name: of the weights; sha256: of their file; magnification: half the side of a patch in sigmas, where `describe` is
    not told otherwise; runtime: how the network runs; device: where.
    """

    def __init__(
        self, network: "nn.Module", name: str, sha256: str, device: str = "cpu", runtime: str = "auto",
        magnification: float = MAGNIFICATION,
    ) -> None:  # fmt: skip
        from desdis import runtimes

        self.name, self.sha256, self.magnification, self.device = name, sha256, magnification, device
        self._network = network
        self.runtime = runtimes.make(network, runtime, device)

    def describe_patches(self, patches: np.ndarray) -> np.ndarray:
        """(N, 32, 32) uint8, or float32 in 0..255, to (N, 128) float32 of unit length. A patch without any texture
        gives a finite unit vector too. Raises ValueError for patches of another size, type or range."""
        patches = np.ascontiguousarray(patches)
        if patches.ndim != 3 or patches.shape[1:] != (SIZE, SIZE):
            raise ValueError(f"patches must be (N, {SIZE}, {SIZE}), not {patches.shape}: resample them first")
        if patches.dtype != np.uint8:
            if patches.dtype != np.float32:
                raise ValueError(f"patches must be uint8 or float32 in 0..255, not {patches.dtype}")
            _check_range(patches, "patches")
        return self.runtime(patches)

    def describe(self, grey: np.ndarray, lafs: np.ndarray, magnification: float | None = None) -> np.ndarray:
        """grey (H, W) uint8, or float32 in 0..255, and lafs (N, 2, 3) float32 (COLMAP's pixel convention,
        sqrt(|det A|) = sigma) to (N, 128) float32 of unit length. Half a patch's side is magnification sigma. Raises
        ValueError where there is no photograph, and for one or frames of another shape, type or range."""
        if grey is None:
            raise ValueError("grey is None: the photograph could not be read")
        magnification = self.magnification if magnification is None else magnification
        lafs = lafs if len(lafs) else np.empty((0, 2, 3), np.float32)
        if grey.dtype == np.float32:
            _check_range(grey, "grey")
        if self.device != "cpu" and len(lafs):
            from desdis.runtimes.torch import TorchRuntime

            lafs = checked_frames(grey, lafs)
            assert isinstance(self.runtime, TorchRuntime)
            return self.runtime.describe_image(grey, lafs, magnification)
        slices = [lafs[begin : begin + SLICE] for begin in range(0, max(1, len(lafs)), SLICE)]
        parts = [self.runtime(extract_patches(grey, part, magnification, SIZE)) for part in slices]
        return np.concatenate(parts)

    def as_module(self) -> "nn.Module":
        """The network as a torch module, (N, 1, 32, 32) float32 to (N, 128), as kornia's LAFDescriptor takes it. kornia
        cuts patches in 0..1: they are brought to 0..255 first."""
        import torch

        class Described(torch.nn.Module):
            def __init__(self, network: torch.nn.Module) -> None:
                super().__init__()
                self.network = network

            def forward(self, patches: torch.Tensor) -> torch.Tensor:
                return self.network(patches * 255.0)

        return Described(self._network).eval()


def _check_range(values: np.ndarray, what: str) -> None:
    """Raises ValueError for float32 values that are not in 0..255, or are all in 0..1."""
    # NaN fails the comparison too
    if values.size and not (values.min() >= -1 and 1 < values.max() <= 256):
        if not np.isfinite(values).all():
            raise ValueError(f"{what}: values that are not finite")
        if values.min() < -1 or values.max() > 256:
            raise ValueError(f"{what}: values outside 0..255")
        if values.max() > 0:  # at most 1: the scale 0..1, on which flat patches would come out differently
            raise ValueError(f"{what}: values in 0..1; multiply them by 255")


def load(name_or_file: str, device: str = "auto", runtime: str = "auto") -> Describer:
    """Weights by name ("desdis-8", "-16", "-24", "-32", "-48", "-hardnet", "-sosnet", "official/desdis-32") or a file
    (ours, or the authors' .pth) as a Describer.

    device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1". runtime: "auto" (the fastest there is), or one of
    `desdis.runtimes.NAMES`; "torch", "compiled" and "onnx" are exact on a CPU, "bf16" and "int8" round. The describer's
    magnification is that of the patches the weights were trained on, where their file tells, else 9.
    Raises UserError when there are no such weights, or no such device.
    """
    import torch

    from desdis.checkpoints import load_network

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device {device}: torch sees no GPU; use device cpu or auto")
    try:
        if torch.device(device).type not in ("cpu", "cuda"):
            raise RuntimeError("another kind")
    except RuntimeError as error:
        raise UserError(f"device {device}: there is cpu, cuda, cuda:1 and so on, and auto") from error
    network, info = load_network(name_or_file)
    trained = json.loads(info.metadata.get("patches", "{}")).get("magnification") or 1
    # 1 is said by sets whose frames have no size, PhotoTour's
    return Describer(network, info.name, info.sha256, device, runtime, trained if trained > 1 else MAGNIFICATION)
