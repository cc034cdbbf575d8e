import numpy as np
import pytest

from desdis.runtimes.chunks import STEP, chunks


@pytest.mark.parametrize("count", [0, 1, STEP, STEP + 1, 300])
def test_chunks_cover_everything_in_few_sizes(count):
    patches = np.arange(count * 1024, dtype=np.float32).reshape(count, 32, 32)
    seen = np.zeros(count, int)
    for where, part in chunks(patches, 2 * STEP):
        rows = patches[where]
        seen[where] += 1
        assert len(part) in (STEP, 2 * STEP) and len(part) - len(rows) < STEP
        np.testing.assert_array_equal(part[: len(rows)].numpy(), rows)
        assert not part[len(rows) :].any()
    assert (seen == 1).all()
