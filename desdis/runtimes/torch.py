"""torch as it comes: folded, channels last; half precision on a GPU, where patches go up as bytes in one stream."""

import numpy as np
import torch

from desdis.patches_torch import extract_patches
from desdis.runtimes.fold import fold

CHUNK = {"cpu": 256, "cuda": 16384}


class TorchRuntime:
    """`runtime(patches)`: (N, 32, 32) uint8 or float32 in 0..255 to (N, 128) float32 of unit length."""

    name = "torch"

    def __init__(self, network: torch.nn.Module, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self.dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        # The patch's own normalisation stays in float32: squares of grey values leave half precision's range.
        self.network = fold(network).to(self.device, memory_format=torch.channels_last)  # pyright: ignore
        self.chunk = CHUNK.get(self.device.type, 1024)

    def describe(self, patches: torch.Tensor) -> torch.Tensor:
        """(N, 32, 32) on the device to (N, 128) float32 on the device."""
        batch = patches.unsqueeze(1).float().contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return torch.nn.functional.normalize(self.network(batch).float(), dim=1)

    @torch.inference_mode()
    def describe_image(self, grey: np.ndarray, lafs: np.ndarray, magnification: float) -> np.ndarray:
        """Cut and described on the device: only the photograph and the frames go there, only descriptors come back."""
        pixels, frames = (torch.from_numpy(np.ascontiguousarray(a)).to(self.device) for a in (grey, lafs))
        parts = [
            self.describe(extract_patches(pixels, part, magnification)) for part in frames.float().split(self.chunk)
        ]
        return torch.cat(parts).cpu().numpy()

    @torch.inference_mode()
    def __call__(self, patches: np.ndarray) -> np.ndarray:
        descriptors = torch.empty((len(patches), 128), device=self.device)
        for begin in range(0, len(patches), self.chunk):
            part = torch.from_numpy(patches[begin : begin + self.chunk])
            if self.device.type == "cuda":
                part = part.pin_memory().to(self.device, non_blocking=True)
            descriptors[begin : begin + self.chunk] = self.describe(part)
        return descriptors.cpu().numpy()
