"""Patches in chunks of few different sizes."""

from collections.abc import Iterator

import numpy as np
import torch

STEP = 64  # patches; a chunk is filled up to a multiple


def chunks(patches: np.ndarray, size: int) -> Iterator[tuple[slice, torch.Tensor]]:
    """Where `size` patches at a time lie in the whole, and they themselves (M, 32, 32), the last ones filled up with
    flat patches: for each new size oneDNN would write code anew, and keep it."""
    for begin in range(0, len(patches), size):
        part = torch.from_numpy(patches[begin : begin + size])
        yield slice(begin, begin + len(part)), torch.nn.functional.pad(part, (0, 0, 0, 0, 0, -len(part) % STEP))
