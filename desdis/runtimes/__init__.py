"""Runtimes: the same network, faster. One file a runtime; a runtime is called with patches and returns descriptors."""

from typing import TYPE_CHECKING, Protocol

import numpy as np

from desdis.errors import UserError

if TYPE_CHECKING:
    from torch import nn

NAMES = ("torch", "compiled", "onnx", "bf16", "int8")


class Runtime(Protocol):
    """(N, 32, 32) uint8 or float32 in 0..255 to (N, 128) float32 of unit length."""

    name: str

    def __call__(self, patches: np.ndarray) -> np.ndarray: ...


def make(network: "nn.Module", runtime: str = "auto", device: str = "cpu") -> Runtime:
    """The network in a runtime. "auto" takes on the CPU the first that is there and knows the network of int8 (CPUs
    with AVX512-VNNI, light students), bf16 (CPUs with AVX512-BF16), onnx (ONNX Runtime) and torch; on a GPU torch.
    Raises UserError when the one that was asked for is not there."""
    from desdis.runtimes.bf16 import Bf16Runtime
    from desdis.runtimes.int8 import Int8Runtime
    from desdis.runtimes.torch import TorchRuntime

    if runtime not in ("auto", *NAMES):
        raise UserError(f"no runtime called {runtime!r}: auto, {', '.join(NAMES)}")
    for name in [runtime] if runtime != "auto" else ["int8", "bf16", "onnx", "torch"] if device == "cpu" else ["torch"]:
        try:
            if name == "int8":
                return Int8Runtime(network, device)
            if name == "bf16":
                return Bf16Runtime(network, device)
            if name == "compiled":
                from desdis.runtimes.compiled import CompiledRuntime

                return CompiledRuntime(network, device)
            if name == "onnx":
                from desdis.runtimes.onnx import OnnxRuntime

                return OnnxRuntime(network, device)
        except (ImportError, TypeError, ValueError) as error:
            if runtime != "auto":
                raise UserError(f"runtime {name}: {error}; runtime auto takes what there is") from error
    return TorchRuntime(network, device)
