"""Just enough of protobuf's wire format to write an ONNX model: numbers, bytes and messages in messages.

Format: https://protobuf.dev/programming-guides/encoding and onnx/onnx.proto (IR version 8). A message is a list of
(field number, value); a value is an int (varint), a float (32 bits), bytes, text or another message.
"""

import struct
from typing import TypeAlias

import numpy as np

Value: TypeAlias = "int | float | bytes | str | list[tuple[int, Value]]"
Message: TypeAlias = list[tuple[int, Value]]

FLOAT, INT64 = 1, 7  # TensorProto.DataType
OPSET = 17


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1  # negative numbers are written as their 64 bit complement
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def encode(message: Message) -> bytes:
    out = bytearray()
    for field, value in message:
        if isinstance(value, int):
            out += varint(field << 3) + varint(value)
        elif isinstance(value, float):
            out += varint(field << 3 | 5) + struct.pack("<f", value)
        else:
            data = value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else encode(value)
            out += varint(field << 3 | 2) + varint(len(data)) + data
    return bytes(out)


def tensor(name: str, array: np.ndarray) -> Message:
    """TensorProto of a float32 or int64 array."""
    kind = FLOAT if array.dtype == np.float32 else INT64
    return [*((1, int(n)) for n in array.shape), (2, kind), (8, name), (9, np.ascontiguousarray(array).tobytes())]


def node(operator: str, inputs: list[str], output: str, **attributes: int | float | list[int]) -> Message:
    """NodeProto; AttributeProto's types are 1 float, 2 int, 7 ints."""
    message: Message = [*((1, name) for name in inputs), (2, output), (4, operator)]
    for name, value in attributes.items():
        if isinstance(value, list):
            message.append((5, [(1, name), *((8, n) for n in value), (20, 7)]))
        elif isinstance(value, float):
            message.append((5, [(1, name), (2, value), (20, 1)]))
        else:
            message.append((5, [(1, name), (3, value), (20, 2)]))
    return message


def port(name: str, shape: list[int | str]) -> Message:
    """ValueInfoProto of a float32 tensor; a text in the shape names a free dimension."""
    dimensions: Message = [(1, [(2, n) if isinstance(n, str) else (1, n)]) for n in shape]
    return [(1, name), (2, [(1, [(1, FLOAT), (2, dimensions)])])]


def model(nodes: list[Message], tensors: list[Message], source: Message, sink: Message) -> bytes:
    """ModelProto of a graph with one input and one output."""
    graph: Message = [*((1, n) for n in nodes), (2, "desdis"), *((5, t) for t in tensors), (11, source), (12, sink)]
    return encode([(1, 8), (7, graph), (8, [(1, ""), (2, OPSET)])])
