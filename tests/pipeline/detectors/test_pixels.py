"""Half-pixel tests of the learned detectors.

A trained network answers beside a blob, not at its centre (`test_contract` bounds that by mirror images). Here the
network is replaced by one whose response is known, the picture's own brightness, so that only the way from the
response's pixels to COLMAP's is tested: pyramid level, resize, padding, half pixel.
"""

import numpy as np
import pytest
import torch

from pipeline.detectors import aliked, keynet, xfeat
from tests.pipeline.detectors.test_contract import make
from tests.pipeline.pictures import blobs, image_of


def nearest_blob(lafs: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(N, 2) distance vectors from each keypoint's nearest blob."""
    difference = lafs[:, None, :, 2] - centres[None]
    nearest = np.linalg.norm(difference, axis=2).argmin(axis=1)
    return difference[np.arange(len(lafs)), nearest]


def test_keynet_at_every_level(tmp_path, monkeypatch):
    monkeypatch.setattr(keynet, "_OFFSET", (0.0, 0.0))
    detector = make("keynet", 5000, tmp_path, orientation="none")
    detector._network = lambda level: (level - 0.3).clamp_min(0)
    rgb, centres = blobs(509, 643, sigma=9, step=128)
    lafs = detector.detect(image_of(rgb)).lafs
    factors = np.round(lafs[:, 0, 0].astype(np.float64) / detector.options.sigma, 1)
    assert set(factors) >= {0.7, 1.0, 1.4, 2.0}
    for factor in set(factors):
        off = nearest_blob(lafs[factors == factor], centres)
        assert np.abs(off.mean(axis=0)).max() < 0.06 * factor, factor
        assert np.abs(off).max() < 0.3 * max(factor, 1), factor


@pytest.mark.parametrize("shape", [(256, 320), (271, 349)])
def test_aliked(tmp_path, monkeypatch, shape):
    monkeypatch.setattr(aliked, "_OFFSETS", {})
    detector = make("aliked", 500, tmp_path)
    dimensions = detector._dim
    detector._network.extract_dense_map = lambda x: (x[:, :1].expand(-1, dimensions, -1, -1), x[:, :1])
    rgb, centres = blobs(*shape, sigma=2)
    lafs = detector.detect(image_of(rgb)).lafs
    off = nearest_blob(lafs, centres)
    assert len(off) >= len(centres) - 2  # two equal pixels at the top of a blob are no maximum
    assert np.abs(off.mean(axis=0)).max() < 0.06 and np.abs(off).max() < 0.4


class Brightness(torch.nn.Module):
    """XFeat's outputs for a picture whose brightness is the keypoint probability."""

    def forward(self, x):
        grey = x.mean(dim=1, keepdim=True)
        cells = torch.nn.functional.pixel_unshuffle(grey, 8)
        logits = torch.cat([8 * cells, 8 * torch.ones_like(cells[:, :1])], dim=1)
        ones = torch.ones_like(cells[:, :1])
        return ones.expand(-1, 64, -1, -1), logits, ones


@pytest.mark.parametrize("shape", [(256, 320), (271, 349)])
def test_xfeat_also_where_it_resizes(tmp_path, monkeypatch, shape):
    monkeypatch.setattr(xfeat, "_OFFSET", (0.0, 0.0))
    detector = make("xfeat", 500, tmp_path, min_score=0.0)
    detector._network.net = Brightness()
    off = []
    for seed in range(6):
        rgb, centres = blobs(*shape, sigma=3, seed=seed)
        lafs = detector.detect(image_of(rgb)).lafs
        distance = nearest_blob(lafs, centres)
        off.append(distance[np.abs(distance).max(axis=1) < 1.5])  # a maximum can split over the edge of a cell
    off = np.concatenate(off)
    assert len(off) > 80
    assert np.abs(off.mean(axis=0)).max() < 0.12 and np.abs(off).max() < 1.5


def test_keynet_orientation_follows_the_picture(tmp_path):
    """A picture turned by a quarter turns its frames by the same: "x" of a frame goes with the content."""
    from tests.pipeline.pictures import picture

    rgb = picture(320, 320)
    detector = make("keynet", 300, tmp_path)
    upright, turned = detector.detect(image_of(rgb)).lafs, detector.detect(image_of(np.rot90(rgb, -1).copy())).lafs
    # np.rot90(-1) turns clockwise on screen: (x, y) -> (H - y, x)
    expected = np.stack([320 - upright[:, 1, 2], upright[:, 0, 2]], axis=1)
    distance = np.linalg.norm(expected[:, None] - turned[None, :, :, 2], axis=2)
    rows = np.flatnonzero(distance.min(axis=1) < 2)
    angle = [np.degrees(np.arctan2(f[:, 1, 0], f[:, 0, 0])) for f in (upright[rows], turned[distance[rows].argmin(1)])]
    difference = (angle[1] - angle[0] - 90 + 180) % 360 - 180
    assert len(rows) > 20
    assert np.median(np.abs(difference)) < 20
