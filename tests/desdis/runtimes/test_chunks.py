import numpy as np
import pytest
import torch

from desdis.runtimes.chunks import STEP, in_chunks


@pytest.mark.parametrize("count", [0, 1, STEP, STEP + 1, 300])
def test_everything_is_described_once_in_few_sizes(count):
    patches = np.random.default_rng(0).random((count, 32, 32), np.float32)
    sizes = []

    def embed(part: torch.Tensor) -> torch.Tensor:
        sizes.append(len(part))
        return part.reshape(len(part), 1024)[:, :128]

    described = in_chunks(embed, patches, 2 * STEP)
    expected = patches.reshape(count, 1024)[:, :128]
    np.testing.assert_allclose(described, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-6)
    assert set(sizes) <= {STEP, 2 * STEP} and count <= sum(sizes) < count + STEP
