"""torch's compiler over the folded network: fewer passes over memory, and on a GPU one launch a chunk (CUDA graphs: one
thread describes). Compiling takes some ten seconds, worth it from a few million patches on: "auto" does not choose it.
"""

import numpy as np
import torch

from desdis.runtimes.torch import TorchRuntime

CHUNK = 2048  # patches; every chunk is filled up to this, since each new size would be compiled anew


class CompiledRuntime(TorchRuntime):
    """As TorchRuntime. Raises ValueError where nothing can be compiled."""

    name = "compiled"

    def __init__(self, network: torch.nn.Module, device: str = "cpu") -> None:
        super().__init__(network, device)
        self.chunk = max(self.chunk, CHUNK)
        mode = "reduce-overhead" if self.device.type == "cuda" else "default"
        self.network = torch.compile(self.network, mode=mode, dynamic=False)
        try:
            self(np.zeros((1, 32, 32), np.uint8))
        except RuntimeError as error:
            raise ValueError(f"torch.compile fails here: {str(error).strip().splitlines()[0]}") from error

    def describe(self, patches: torch.Tensor) -> torch.Tensor:
        parts = []
        for part in patches.split(CHUNK):
            filled = torch.nn.functional.pad(part, (0, 0, 0, 0, 0, CHUNK - len(part)))
            parts.append(super().describe(filled)[: len(part)])
        return torch.cat(parts)
