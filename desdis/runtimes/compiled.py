"""torch's compiler over the folded network: fewer passes over memory, and on a GPU one launch a chunk (CUDA graphs).

Compiling takes some ten seconds, which pays from a few million patches on; "auto" does not choose it.
"""

import torch

from desdis.runtimes.torch import TorchRuntime

CHUNK = 2048  # patches; every chunk is filled up to this, since each new size would be compiled anew


class CompiledRuntime(TorchRuntime):
    """As TorchRuntime."""

    name = "compiled"

    def __init__(self, network: torch.nn.Module, device: str = "cpu") -> None:
        super().__init__(network, device)
        self.chunk = CHUNK
        mode = "reduce-overhead" if self.device.type == "cuda" else "default"
        self.network = torch.compile(self.network, mode=mode, dynamic=False)

    def describe(self, patches: torch.Tensor) -> torch.Tensor:
        filled = torch.nn.functional.pad(patches, (0, 0, 0, 0, 0, self.chunk - len(patches)))
        return super().describe(filled)[: len(patches)]
