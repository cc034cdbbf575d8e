"""What patches go through before they are learnt from."""

import pytest
import torch

from desdis.augment import Augmentation, augment, plain, resample


def test_augmentation_turns_pairs_together():
    raw = torch.arange(64 * 64).reshape(1, 64, 64).remainder(251).to(torch.uint8).repeat(16, 1, 1)
    turned, frames = augment(raw, Augmentation(), 1.25, torch.Generator().manual_seed(0))
    torch.testing.assert_close(turned, resample(raw[:, None].float(), frames))
    assert turned.shape == (16, 1, 32, 32)
    torch.testing.assert_close(turned[:8], turned[8:])
    clean = plain(raw[:1], 1.25)[0, 0]
    eight = [t for k in range(4) for t in (clean.rot90(k), clean.rot90(k).flip(1))]
    for patch in turned[:8, 0]:
        assert min((patch - each).abs().max().item() for each in eight) < 1e-2
    assert len({tuple(p[0, :4].round().tolist()) for p in turned[:8, 0]}) > 2


@pytest.mark.parametrize("key", ["rotation", "scale", "shift", "gamma", "gain", "blur", "noise", "occlusion"])
def test_each_augmentation_acts_alone_and_is_repeatable(key):
    raw = torch.randint(0, 256, (8, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    options = Augmentation(turns=0, **{key: 0.5 if key != "noise" else 10.0})
    once, twice = (augment(raw, options, 1.25, torch.Generator().manual_seed(1))[0] for _ in range(2))
    assert torch.equal(once, twice) and once.min() >= 0 and once.max() <= 255
    assert (once - plain(raw, 1.25)).abs().max() > 0.5
