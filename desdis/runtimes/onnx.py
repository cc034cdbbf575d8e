"""ONNX Runtime on the CPU: the folded network as a graph, written in memory (no package but onnxruntime is needed)."""

import os

import numpy as np
import torch
from torch import nn

from desdis import architectures
from desdis.runtimes import protobuf
from desdis.runtimes.fold import fold

CHUNK = 128  # patches at once: activations stay in the second-level cache


class Graph:
    """Nodes one after another; `last` is the name of the newest output."""

    def __init__(self) -> None:
        self.nodes: list[protobuf.Message] = []
        self.tensors: list[protobuf.Message] = []
        self.last = "patches"

    def constant(self, value: torch.Tensor | float | list[int]) -> str:
        name = f"c{len(self.tensors)}"
        array = value.numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        self.tensors.append(protobuf.tensor(name, array.astype(np.int64 if array.dtype.kind == "i" else np.float32)))
        return name

    def add(self, operator: str, *inputs: str, **attributes: int | float | list[int]) -> str:
        """Append a node; without inputs it reads the newest output."""
        output = f"n{len(self.nodes)}"
        self.nodes.append(protobuf.node(operator, list(inputs) or [self.last], output, **attributes))
        self.last = output
        return output

    def layer(self, module: nn.Module) -> None:
        """Append what a layer of desdis.architectures computes."""
        x = self.last
        match module:
            case nn.Sequential():
                for child in module:
                    self.layer(child)
            case nn.Conv2d():
                assert isinstance(module.padding, tuple)
                weights = [self.constant(module.weight), *([] if module.bias is None else [self.constant(module.bias)])]
                pads = [*module.padding, *module.padding]
                self.add("Conv", x, *weights, strides=list(module.stride), pads=pads)
            case nn.ReLU():
                self.add("Relu")
            case nn.InstanceNorm2d():
                one, zero = self.constant(torch.ones(1)), self.constant(torch.zeros(1))
                self.add("InstanceNormalization", x, one, zero, epsilon=module.eps)
            case architectures.FilterResponseNorm():
                power = self.add("ReduceMean", self.add("Mul", x, x), axes=[2, 3])
                deviation = self.add("Sqrt", self.add("Add", power, self.constant(module.get_buffer("eps").abs())))
                self.add("Mul", self.add("Div", x, deviation), self.constant(module.weight))
                self.add("Add", self.last, self.constant(module.bias))
            case architectures.ThresholdedLinear():
                self.add("Max", x, self.constant(module.tau))
            case _:
                raise TypeError(f"no ONNX form for {type(module).__name__}")

    def standardise(self) -> None:
        """HardNet's own: (x - mean) / (standard deviation over n - 1 + 1e-6)."""
        area = architectures.PATCH_SIZE**2
        centred = self.add("Sub", self.last, self.add("ReduceMean", axes=[1, 2, 3]))
        variance = self.add("ReduceMean", self.add("Mul", centred, centred), axes=[1, 2, 3])
        deviation = self.add("Sqrt", self.add("Mul", variance, self.constant(area / (area - 1))))
        self.add("Div", centred, self.add("Add", deviation, self.constant(1e-6)))


def graph(network: nn.Module) -> bytes:
    """The network as an ONNX model: "patches" (N, 1, 32, 32) float32 to "descriptors" (N, 128) float32 of unit length.

    Raises TypeError for a network that is not of desdis.architectures.
    """
    folded = fold(network)
    g = Graph()
    if isinstance(folded, architectures.HardNet):
        g.standardise()
    elif not isinstance(folded, architectures.LightStudent | architectures.SOSNet | architectures.HyNet):
        raise TypeError(f"no ONNX form for {type(folded).__name__}")
    for module in folded.children():
        g.layer(module)
    g.add("Flatten")
    g.add("LpNormalization", axis=1, p=2)
    g.nodes.append(protobuf.node("Identity", [g.last], "descriptors"))
    return protobuf.model(
        g.nodes,
        g.tensors,
        protobuf.port("patches", ["N", 1, architectures.PATCH_SIZE, architectures.PATCH_SIZE]),
        protobuf.port("descriptors", ["N", architectures.DIMENSIONS]),
    )


class OnnxRuntime:
    """`runtime(patches)`: (N, 32, 32) uint8 or float32 in 0..255 to (N, 128) float32 of unit length."""

    name = "onnx"

    def __init__(self, network: nn.Module, device: str = "cpu") -> None:
        import onnxruntime

        if device != "cpu":
            raise ValueError(f"the onnx runtime works on the CPU, not on {device}: use runtime torch there")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", 0) or 0)  # 0: one a core
        options.enable_cpu_mem_arena = False  # it would keep its peak until the end
        self.session = onnxruntime.InferenceSession(graph(network), options, providers=["CPUExecutionProvider"])

    def __call__(self, patches: np.ndarray) -> np.ndarray:
        descriptors = np.empty((len(patches), architectures.DIMENSIONS), np.float32)
        for begin in range(0, len(patches), CHUNK):
            part = patches[begin : begin + CHUNK, None].astype(np.float32, copy=False)
            descriptors[begin : begin + CHUNK] = np.asarray(self.session.run(None, {"patches": part})[0])
        return descriptors
