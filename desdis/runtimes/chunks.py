"""Patches in chunks of few different sizes."""

from collections.abc import Callable

import numpy as np
import torch

from desdis.architectures import DIMENSIONS

STEP = 64  # patches; a chunk is filled up to a multiple


@torch.inference_mode()
def in_chunks(embed: Callable[[torch.Tensor], torch.Tensor], patches: np.ndarray, size: int) -> np.ndarray:
    """(N, 32, 32) to (N, 128) float32 of unit length: `embed` of `size` patches at a time, the last ones filled up with
    flat patches. For each new size oneDNN would write code anew, and keep it."""
    descriptors = torch.empty((len(patches), DIMENSIONS))
    for begin in range(0, len(patches), size):
        part, rows = torch.from_numpy(patches[begin : begin + size]), descriptors[begin : begin + size]
        filled = torch.nn.functional.pad(part, (0, 0, 0, 0, 0, -len(part) % STEP))
        torch.nn.functional.normalize(embed(filled)[: len(rows)], dim=1, out=rows)
    return descriptors.numpy()
