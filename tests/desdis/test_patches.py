"""Patches against a slow plain resampling, and what anti-aliasing promises."""

import cv2
import numpy as np
import pytest
import torch

from desdis import patches, patches_torch
from desdis.patches import extract_patches


def picture(height: int = 120, width: int = 160, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(0, 255, (height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 1.5)
    return np.clip(127 + 4 * (smooth - smooth.mean()), 0, 255).astype(np.float32)


def frames(n: int, sigmas: tuple[float, float], size: tuple[int, int], seed: int = 1) -> np.ndarray:
    """Random affine frames (a rotation, a stretch up to 1.5), some of them over the border."""
    rng = np.random.default_rng(seed)
    sigma = np.exp(rng.uniform(np.log(sigmas[0]), np.log(sigmas[1]), n))
    angle, stretch = rng.uniform(-np.pi, np.pi, n), np.exp(rng.uniform(-0.4, 0.4, n))
    rotation = np.stack([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
    a = sigma[:, None, None] * rotation * np.stack([stretch, 1 / stretch], axis=1)[:, None]
    return np.concatenate([a, rng.uniform(0, size, (n, 2))[:, :, None]], axis=2).astype(np.float32)


def gaussian(image: np.ndarray, variance: float) -> np.ndarray:
    """Convolution with a sampled Gaussian, one axis after the other, the border repeated."""
    if variance <= 0:
        return image
    reach = int(np.ceil(5 * variance**0.5))
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * variance))
    kernel /= kernel.sum()
    for axis in (0, 1):
        padded = np.pad(image, [(reach, reach) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        image = np.apply_along_axis(np.convolve, axis, padded, kernel, mode="valid")
    return image


def plain(grey: np.ndarray, laf: np.ndarray, magnification: float, size: int) -> np.ndarray:
    """One patch in float64: blur the whole photograph once, keep every step-th pixel, read cell after cell."""
    a, centre = laf[:, :2].astype(np.float64), laf[:, 2].astype(np.float64)
    cell = 2 * magnification * abs(np.linalg.det(a)) ** 0.5 / size
    level = round(patches.STEPS * np.log2(max(cell, 1.0)))
    step = 2 ** patches.octave_of(level)
    image = gaussian(grey.astype(np.float64), patches.blur_variance(level))[::step, ::step]
    result = np.empty((size, size))
    for row in range(size):
        for column in range(size):
            u = np.array([(2 * column + 1) / size - 1, (2 * row + 1) / size - 1])
            x, y = (centre + magnification * a @ u - 0.5) / step
            x, y = np.clip(x, 0, image.shape[1] - 1), np.clip(y, 0, image.shape[0] - 1)
            x0, y0 = min(int(x), image.shape[1] - 2), min(int(y), image.shape[0] - 2)
            fx, fy = x - x0, y - y0
            top = (1 - fx) * image[y0, x0] + fx * image[y0, x0 + 1]
            bottom = (1 - fx) * image[y0 + 1, x0] + fx * image[y0 + 1, x0 + 1]
            result[row, column] = (1 - fy) * top + fy * bottom
    return result


@pytest.mark.parametrize(("dtype", "mean", "largest"), [(np.float32, 0.5, 6.0), (np.uint8, 1.0, 8.0)])
def test_agrees_with_the_plain_resampling(dtype, mean, largest):
    """Grey levels. OpenCV takes coordinates to 1/32 pixel (the test's texture changes by up to 40 a pixel) and cuts
    its Gaussian at 3 sigma; bytes are rounded after each blur."""
    grey = picture().astype(dtype)
    lafs = frames(60, (0.4, 9.0), (160, 120))
    fast = extract_patches(grey, lafs, 6.0)
    assert fast.dtype == dtype and fast.shape == (60, 32, 32)
    for laf, patch in zip(lafs, fast, strict=True):
        difference = np.abs(patch - plain(grey, laf, 6.0, 32))
        assert difference.mean() < mean and difference.max() < largest


@pytest.mark.parametrize("size", [16, 32, 64])
def test_a_frame_of_the_patch_own_size_copies_pixels(size):
    """Half a side of size / 2 pixels, centre on a pixel corner: cells are pixels."""
    grey = picture().astype(np.uint8)
    laf = np.array([[[size / 8, 0, 70], [0, size / 8, 60]]], np.float32)
    half = size // 2
    expected = grey[60 - half : 60 + half, 70 - half : 70 + half]
    np.testing.assert_array_equal(extract_patches(grey, laf, 4.0, size)[0], expected)


def test_a_quarter_turn_turns_the_patch():
    """Angles are clockwise on screen: the patch's right is the image's down."""
    grey = picture()
    upright = np.array([[[4, 0, 80.3], [0, 4, 60.6]]], np.float32)
    turned = np.array([[[0, -4, 80.3], [4, 0, 60.6]]], np.float32)
    a, b = extract_patches(grey, upright, 6.0)[0], extract_patches(grey, turned, 6.0)[0]
    np.testing.assert_allclose(b, np.rot90(a), atol=3)


def test_the_border_is_repeated():
    grey = np.zeros((40, 40), np.uint8)
    grey[:, 0] = 200
    patch = extract_patches(grey, np.array([[[4, 0, -60], [0, 4, 20]]], np.float32), 4.0)
    assert (patch == 200).all()


def test_smoothness_changes_evenly_with_the_cell():
    """Standard deviation of white noise in a patch, cells from 1 to 16 pixels in steps of 3 %: it falls, without a
    jump, like 1 / cell."""
    noise = np.random.default_rng(0).normal(128, 20, (900, 900)).astype(np.float32)
    cells = 2 ** np.arange(0, 4, 0.04)
    centres = np.stack(np.meshgrid([300, 450, 600], [300, 450, 600]), axis=-1).reshape(-1, 2)
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])  # so that cells fall anywhere between pixels
    deviations = []
    for cell in cells:
        lafs = np.concatenate([np.tile(cell * turn, (9, 1, 1)), centres[:, :, None]], axis=2)
        deviations.append(extract_patches(noise, lafs.astype(np.float32), 16.0).std())
    ratios = np.divide(deviations[1:], deviations[:-1])
    # A level's step is 0.84; the first two, where blur begins, are 0.75 (white noise is finer than any photograph).
    assert ratios.min() > 0.73 and ratios[cells[1:] > 1.6].min() > 0.8 and ratios.max() < 1.1
    product = np.array(deviations) * cells
    assert product[cells > 2].max() / product[cells > 2].min() < 1.35


def test_frames_do_not_depend_on_their_neighbours():
    grey = picture().astype(np.uint8)
    lafs = frames(700, (0.4, 9.0), (160, 120))
    together = extract_patches(grey, lafs, 6.0)
    order = np.random.default_rng(0).permutation(700)
    np.testing.assert_array_equal(extract_patches(grey, lafs[order], 6.0), together[order])
    np.testing.assert_array_equal(extract_patches(grey, lafs[5:6], 6.0)[0], together[5])


def test_no_frames():
    assert extract_patches(picture(), np.empty((0, 2, 3), np.float32), 6.0).shape == (0, 32, 32)


def test_a_frame_larger_than_a_tiny_picture():
    patch = extract_patches(np.full((5, 7), 9, np.uint8), np.array([[[300, 0, 3], [0, 300, 2]]], np.float32), 9.0)
    assert (patch == 9).all()


@pytest.mark.parametrize(
    ("grey", "lafs"),
    [
        (np.zeros((9, 9, 3), np.uint8), np.zeros((1, 2, 3))),
        (np.zeros((9, 9), np.float64), np.zeros((1, 2, 3))),
        (np.zeros((0, 9), np.uint8), np.zeros((1, 2, 3))),
        (np.zeros((9, 9), np.uint8), np.zeros((1, 6))),
        (np.zeros((9, 9), np.uint8), np.full((1, 2, 3), np.nan)),
    ],
)
def test_what_cannot_be_cut_is_refused(grey, lafs):
    with pytest.raises(ValueError):
        extract_patches(grey, lafs, 6.0)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_same_on_a_device(dtype):
    """The torch form, on CPU tensors: within OpenCV's 1/32 pixel and its shorter Gaussian."""
    grey = picture().astype(dtype)
    lafs = frames(200, (0.4, 12.0), (160, 120))
    theirs = patches_torch.extract_patches(torch.from_numpy(grey), torch.from_numpy(lafs), 6.0).numpy()
    difference = np.abs(theirs - extract_patches(grey, lafs, 6.0))
    assert difference.mean() < 0.6 and difference.max() < 8
