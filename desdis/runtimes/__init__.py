"""Runtimes: the same network, faster. One file a runtime; a runtime is called with patches and returns descriptors."""

from typing import TYPE_CHECKING, Protocol

import numpy as np

from desdis.errors import UserError

if TYPE_CHECKING:
    from torch import nn

NAMES = ("torch", "onnx")


class Runtime(Protocol):
    """(N, 32, 32) uint8 or float32 in 0..255 to (N, 128) float32 of unit length."""

    name: str

    def __call__(self, patches: np.ndarray) -> np.ndarray: ...


def make(network: "nn.Module", runtime: str = "auto", device: str = "cpu") -> Runtime:
    """The network in a runtime. "auto": ONNX Runtime on the CPU where it is installed and knows the network, else
    torch. Raises UserError when the runtime that was asked for is not there."""
    from desdis.runtimes.torch import TorchRuntime

    if runtime not in ("auto", *NAMES):
        raise UserError(f"no runtime called {runtime!r}: auto, {', '.join(NAMES)}")
    if runtime == "torch" or (runtime == "auto" and device != "cpu"):
        return TorchRuntime(network, device)
    try:
        from desdis.runtimes.onnx import OnnxRuntime

        return OnnxRuntime(network, device)
    except (ImportError, TypeError, ValueError) as error:
        if runtime == "auto":
            return TorchRuntime(network, device)
        raise UserError(f"runtime onnx: {error}") from error
