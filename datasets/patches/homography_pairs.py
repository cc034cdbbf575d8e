"""Positive pairs without end from single photographs: a random homography and a random change of light and noise.

The photograph is warped, changed, and a second patch is cut at the first's frame carried through the homography. The
truth is exact, the frames can be disturbed as a detector would, and no match had to be found first, so pairs are as
hard as one asks for. What it lacks: relief, true changes of light. (As HPatches' jitter, and the pretraining of
SuperPoint, DeTone et al., CVPRW 2018.)
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from datasets.patches.patch_set import read_grey
from datasets.patches.plain_set import PlainScene, group_rows, write_plain_set


class HomographyOptions(BaseModel):
    """How much a photograph changes. Numbers are the largest change; what happens is drawn evenly below it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    magnification: float = Field(
        default=9.0, gt=0, description="half width of what is described, in sigma of the frame"
    )
    margin: float = Field(default=1.25, ge=1, description="stored patch over described window")
    corner_shift: float = Field(default=0.15, ge=0, lt=0.5, description="of the corners, as a share of the sides")
    rotation: float = Field(default=180.0, ge=0, le=180, description="in-plane turn of the second photograph, degrees")
    zoom: float = Field(default=0.5, ge=0, description="change of scale, octaves either way")
    gain: float = Field(default=0.4, ge=0, lt=1, description="share of contrast lost or won")
    gamma: float = Field(default=0.4, ge=0, description="exponent, natural logarithm either way")
    shade: float = Field(default=30.0, ge=0, description="a slope of brightness over the photograph, grey values")
    blur: float = Field(default=1.2, ge=0, description="standard deviation of a Gaussian, pixels")
    noise: float = Field(default=8.0, ge=0, description="standard deviation, grey values")
    frame_angle: float = Field(default=6.0, ge=0, description="standard deviation of the second frame's turn, degrees")
    frame_scale: float = Field(default=0.1, ge=0, description="of its scale, octaves")
    frame_shift: float = Field(default=0.25, ge=0, description="of its centre, sigma")


def random_homography(
    width: int, height: int, options: HomographyOptions, generator: np.random.Generator
) -> np.ndarray:
    """(3, 3) float64, pixels to pixels (COLMAP convention), about the centre of the photograph."""
    import cv2

    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    moved = corners + generator.uniform(-1, 1, (4, 2)) * options.corner_shift * [width, height]
    tilt = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    angle = np.radians(generator.uniform(-options.rotation, options.rotation))
    scale = 2.0 ** generator.uniform(-options.zoom, options.zoom)
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    cx, cy = width / 2, height / 2
    turn = np.array([[c, -s, cx - c * cx + s * cy], [s, c, cy - s * cx - c * cy], [0, 0, 1]])
    return turn @ tilt


def carry_frames(lafs: np.ndarray, H: np.ndarray) -> np.ndarray:
    """Frames (N, 2, 3) through a homography (3, 3): centre, turn and scale (the similarity in its Jacobian)."""
    centres = np.column_stack([lafs[:, :, 2], np.ones(len(lafs))]) @ H.T
    xy = centres[:, :2] / centres[:, 2:]
    J = (H[:2, :2][None] - xy[:, :, None] * H[2, :2][None, None]) / centres[:, 2, None, None]
    A = J @ lafs[:, :, :2]
    scale = np.sqrt(np.abs(np.linalg.det(A)))
    turn = np.arctan2(A[:, 1, 0] - A[:, 0, 1], A[:, 0, 0] + A[:, 1, 1])
    c, s = scale * np.cos(turn), scale * np.sin(turn)
    return np.stack([c, -s, xy[:, 0], s, c, xy[:, 1]], axis=1).reshape(-1, 2, 3).astype(np.float32)


def disturb_frames(lafs: np.ndarray, options: HomographyOptions, generator: np.random.Generator) -> np.ndarray:
    """Frames with a detector's errors of place, turn and scale."""
    n = len(lafs)
    angle = np.radians(generator.normal(0, 1, n) * options.frame_angle)
    scale = 2.0 ** (generator.normal(0, 1, n) * options.frame_scale)
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    A = lafs[:, :, :2] @ np.stack([c, -s, s, c], axis=1).reshape(-1, 2, 2)
    shift = np.einsum("nij,nj->ni", lafs[:, :, :2], generator.normal(0, 1, (n, 2)) * options.frame_shift)
    return np.concatenate([A, (lafs[:, :, 2] + shift)[:, :, None]], axis=2).astype(np.float32)


def change_light(grey: np.ndarray, options: HomographyOptions, generator: np.random.Generator) -> np.ndarray:
    """(H, W) uint8: gamma, contrast, a slope of brightness, blur and noise, in the order in which a camera has them."""
    import cv2

    height, width = grey.shape
    gamma = np.exp(generator.uniform(-options.gamma, options.gamma))
    picture = 255 * (grey.astype(np.float32) / 255) ** gamma
    picture = (picture - 128) * (1 + generator.uniform(-options.gain, options.gain)) + 128
    direction = generator.uniform(0, 2 * np.pi)
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    slope = np.cos(direction) * x[None] + np.sin(direction) * y[:, None]
    picture += generator.uniform(0, options.shade) * slope
    sigma = generator.uniform(0, options.blur)
    if sigma > 0.2:
        picture = cv2.GaussianBlur(picture, (0, 0), sigma)
    picture += generator.standard_normal(picture.shape, np.float32) * generator.uniform(0, options.noise)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def warp(grey: np.ndarray, H: np.ndarray) -> np.ndarray:
    """The photograph through H, on its own size. Blurred first where it shrinks, so that it does not alias."""
    import cv2

    height, width = grey.shape
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # OpenCV counts from the first pixel's centre
    centre = H @ [width / 2, height / 2, 1]
    shrink = np.sqrt(centre[2] ** 3 / np.linalg.det(H)) if np.linalg.det(H) > 0 else 1.0
    if shrink > 1.05:
        grey = cv2.GaussianBlur(grey, (0, 0), 0.5 * np.sqrt(shrink**2 - 1))
    return cv2.warpPerspective(grey, np.linalg.inv(half) @ H @ half, (width, height), flags=cv2.INTER_CUBIC)


def homography_pairs(
    grey: np.ndarray, lafs: np.ndarray, options: HomographyOptions, seed: int, size: int = 64
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Endless rounds (first, second, rows): (n, size, size) uint8 patches of the same places in the photograph and in a
    changed one, and which rows of lafs (N, 2, 3) they are (those whose described windows lie in both).

    grey (H, W) uint8. The same seed gives the same rounds.
    """
    from desdis.patches import extract_patches

    height, width = grey.shape
    half_width = options.margin * options.magnification
    original = extract_patches(grey, lafs, half_width, size)
    generator = np.random.default_rng(seed)
    corners = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]]) * options.magnification

    def within(frames: np.ndarray) -> np.ndarray:
        at = np.einsum("kij,cj->kci", frames[:, :, :2], corners) + frames[:, None, :, 2]
        return ((at >= 0) & (at <= [width, height])).all(axis=(1, 2))

    first_inside = within(lafs)
    while True:
        H = random_homography(width, height, options, generator)
        second = disturb_frames(carry_frames(lafs, H), options, generator)
        changed = change_light(warp(grey, H), options, generator)
        rows = np.flatnonzero(first_inside & within(second))
        yield original[rows], extract_patches(changed, second[rows], half_width, size), rows


def write_set(
    folder: Path,
    photographs: dict[str, Path],
    frames: dict[str, np.ndarray],
    options: HomographyOptions,
    rounds: int = 1,
    seed: int = 0,
) -> None:
    """A patch set of homography pairs that `desdis.train` reads: a photograph is a scene, a frame a point, its rows the
    original patch and one of each round. Exact correspondence, no change of view in 3D (all views equal)."""
    scenes = []
    for number, (name, path) in enumerate(sorted(photographs.items())):
        lafs = frames[name]
        patches, rows = [np.zeros((0, 64, 64), np.uint8)], [np.zeros(0, int)]
        pairs = homography_pairs(read_grey(path), lafs, options, seed + 7919 * number)
        for _ in range(rounds):
            first, second, found = next(pairs)
            new = ~np.isin(found, np.concatenate(rows))
            patches += [first[new], second]
            rows += [found[new], found]
        order, point_ids, used = group_rows(np.concatenate(rows))
        places = np.column_stack([lafs[used, :, 2], np.zeros(len(used))])
        sigmas = np.sqrt(np.abs(np.linalg.det(lafs[used, :, :2].astype(np.float64))))
        scenes.append(PlainScene(name, np.concatenate(patches)[order], point_ids, places, sigmas))
    write_plain_set(
        folder, scenes, margin=options.margin, magnification=options.magnification,
        options={"source": "homography pairs", "seed": seed, "rounds": rounds} | options.model_dump(),
        photographs=photographs,
    )  # fmt: skip
