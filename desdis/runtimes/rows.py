"""A narrow 3x3 convolution over one channel as a matrix product: one channel by itself leaves the vector units idle."""

import torch
from torch import nn


def row_matrix(convolution: nn.Conv2d, side: int) -> torch.Tensor:
    """(row of the output x C, three rows of the input), (side / stride x C, 3 side) float32, mostly zeros."""
    # Each input pixel by itself through the convolution. Three rows, the middle one in reach.
    pixels = torch.eye(3 * side).reshape(3 * side, 1, 3, side)
    stride = (1, convolution.stride[0])
    columns = nn.functional.conv2d(pixels, convolution.weight, stride=stride, padding=(0, 1))  # (3 side, C, 1, row)
    return columns[:, :, 0].permute(2, 1, 0).reshape(-1, 3 * side)


def three_rows(padded: torch.Tensor, stride: int) -> torch.Tensor:
    """(N, side + 2, side), a row of border above and below, to (N x side / stride, 3 side): what output rows see."""
    n, height, side = padded.shape
    return padded.as_strided((n, side // stride, 3 * side), (height * side, stride * side, 1)).reshape(-1, 3 * side)
