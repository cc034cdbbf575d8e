"""Frames to patches: a grey image and local affine frames in, square patches out, anti-aliased, border replicated.

A cell of a patch covers c = 2 magnification sigma / size pixels. A patch with c > 1 is sampled from a blurred image, so
that detail finer than a cell does not alias. Blur grows in steps of a quarter octave; images blurred enough are
subsampled by powers of two. Bilinear interpolation blurs too, by 1/6 of the squared grid step on average, which is
taken off the Gaussian, so that the smoothness of a patch does not jump where the grid changes: the standard deviation
of white noise in a patch falls with 1 / c in steps of 0.84. (kornia 0.9's pyramid lets it fall by 4.5 at c = 2.)
"""

from collections.abc import Iterator

import numpy as np

STEPS = 4  # blur levels an octave of cell size; neighbouring levels differ by 19 % in blur, a patch is within 9 %
LAG = 3  # a grid of step s serves cells from 2**(LAG / STEPS) s on: 1.7 grid pixels, enough blur to subsample cleanly
CHUNK = 256  # patches resampled at once: their coordinate maps (2 MB) stay in the cache


def levels_of(cells: np.ndarray) -> np.ndarray:
    """Level (N,) int of each cell size (N,) in pixels: the level whose own cell size 2**(level / STEPS) is nearest."""
    return np.rint(STEPS * np.log2(np.maximum(cells, 1.0))).astype(np.int64)


def octave_of(level: int) -> int:
    """The level's image is subsampled by 2**octave."""
    return max(0, (level - LAG) // STEPS)


def blur_variance(level: int) -> float:
    """Variance in squared pixels of the Gaussian that the level's image was convolved with.

    A Gaussian of half a cell is wanted; the photograph is taken to have half a pixel already (Lowe, IJCV 2004).
    """
    step = 2.0 ** octave_of(level)
    return 0.25 * (4.0 ** (level / STEPS) - 1) - (step**2 - 1) / 6


def pyramid(grey: np.ndarray, levels: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(level, image) for each of the wanted levels, ascending. An image keeps every 2**octave-th pixel of both axes,
    beginning with the first; dtype and border follow `extract_patches`."""
    import cv2

    def blur(image: np.ndarray, variance: float) -> np.ndarray:
        if variance <= 0:
            return image
        return cv2.GaussianBlur(image, (0, 0), variance**0.5, borderType=cv2.BORDER_REPLICATE)

    base, octave, variance = grey, 0, 0.0
    for level in sorted(levels.tolist()):
        while octave < octave_of(level):
            next_variance = blur_variance(LAG + STEPS * (octave + 1))  # of the next grid's first level
            base = np.ascontiguousarray(blur(base, (next_variance - variance) / 4.0**octave)[::2, ::2])
            octave, variance = octave + 1, next_variance
        yield level, blur(base, (blur_variance(level) - variance) / 4.0**octave)


def checked_frames(grey: np.ndarray, lafs: np.ndarray) -> np.ndarray:
    """lafs as float32; raises ValueError for a photograph or frames that `extract_patches` does not take."""
    if grey.ndim != 2 or grey.dtype not in (np.uint8, np.float32) or not 0 < max(grey.shape) < 32767 or not grey.size:
        raise ValueError(f"grey must be (H, W) uint8 or float32 below 32767 a side, not {grey.shape} {grey.dtype}")
    lafs = np.asarray(lafs, np.float32)
    if lafs.ndim != 3 or lafs.shape[1:] != (2, 3):
        raise ValueError(f"frames must be (N, 2, 3), not {lafs.shape}")
    if not np.isfinite(lafs).all():
        raise ValueError("frames with coordinates that are not finite")
    return lafs


def extract_patches(grey: np.ndarray, lafs: np.ndarray, magnification: float, size: int = 32) -> np.ndarray:
    """Resample one patch a frame.

    grey: (H, W) uint8 or float32, sides up to 32,766. lafs: (N, 2, 3) float32 frames [A | c] in pixels, the centre of
    the top-left pixel at (0.5, 0.5); half the side of a patch is magnification sqrt(|det A|) pixels. Returns
    (N, size, size) patches of grey's dtype: cell (row j, column i) shows c + magnification A (u_i, u_j) with
    u_k = (2k + 1) / size - 1. Outside the image its border is repeated.

    Raises ValueError on another dtype or shape, or frames that are not finite.
    """
    import cv2

    lafs = checked_frames(grey, lafs)
    patches = np.empty((len(lafs), size, size), grey.dtype)
    axes = lafs[:, :, :2] * np.float32(magnification)
    cells = 2 * np.sqrt(np.abs(np.linalg.det(axes.astype(np.float64)))) / size
    levels = levels_of(cells)
    u = ((2 * np.arange(size) + 1) / size - 1).astype(np.float32)
    chunk = min(CHUNK, max(1, 32766 // size))  # rows of one remap
    x_map = np.empty((chunk, size, size), np.float32)
    y_map = np.empty_like(x_map)

    for level, image in pyramid(grey, np.unique(levels)):
        rows = np.flatnonzero(levels == level)
        step = np.float32(2.0 ** octave_of(level))
        a = axes[rows] / step
        centres = (lafs[rows, :, 2] - np.float32(0.5)) / step
        for begin in range(0, len(rows), chunk):
            part = slice(begin, begin + chunk)
            n = len(rows[part])
            across = a[part, :, 0, None, None] * u  # (n, 2, 1, size)
            down = (a[part, :, 1, None] * u + centres[part, :, None])[..., None]  # (n, 2, size, 1)
            np.add(across[:, 0], down[:, 0], out=x_map[:n])
            np.add(across[:, 1], down[:, 1], out=y_map[:n])
            patches[rows[part]] = cv2.remap(
                image,
                x_map[:n].reshape(n * size, size),
                y_map[:n].reshape(n * size, size),
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            ).reshape(n, size, size)
    return patches
