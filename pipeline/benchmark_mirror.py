"""Where a detector's keypoints lie beside what they answer to: `python -m pipeline.benchmark_mirror DIR ... KEY=VALUE`.

A photograph and its mirror image hold the same structures. If a detector answers d pixels to the right of each, the
mirrored keypoints come back 2 d beside the photograph's; half the most frequent mismatch is d. Hand-made detectors have
none; learned ones keep what they were taught. Also printed: the share of keypoints found again, within 2 pixels, in the
photograph turned by half a turn, where such an offset counts double. What a detector's file takes off already (_OFFSET)
is not seen any more.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from desdis.errors import UserError, command
from pipeline.detectors import DETECTORS, Detector, load
from pipeline.types import Image

_REACH = 6.0  # pixels of the finest level: mismatches looked at
_STEP = 0.25


def offset(detector: Detector, image: Image) -> np.ndarray:
    """(2,) pixels (x, y) by which the detector's keypoints lie beside the structures they answer to."""
    found = _centres(detector, image)
    measured = np.zeros(2)
    for axis, size in enumerate(image.grey.shape[::-1]):
        mirrored = _centres(detector, _flipped(image, 1 - axis))
        mirrored[:, axis] = size - mirrored[:, axis]
        mismatch = (mirrored[None] - found[:, None]).reshape(-1, 2)
        measured[axis] = -densest(mismatch[(np.abs(mismatch) < _REACH).all(axis=1)])[axis] / 2
    return measured


def found_again(detector: Detector, image: Image, within: float = 2.0) -> float:
    """Share of the keypoints that the image turned by half a turn has too, within so many pixels."""
    found = _centres(detector, image)
    turned = image.grey.shape[::-1] - _centres(detector, _flipped(_flipped(image, 0), 1))
    if not len(found) or not len(turned):
        return 0.0
    nearest = np.concatenate([np.linalg.norm(part[:, None] - turned[None], axis=2).min(axis=1)
                              for part in np.array_split(found, 1 + len(found) // 512)])  # fmt: skip
    return float((nearest < within).mean())


def densest(points: np.ndarray) -> np.ndarray:
    """(2,) where (N, 2) points crowd most: true counterparts crowd round one place, chance ones are spread evenly."""
    import cv2

    bins = int(2 * _REACH / _STEP)
    counts, x, y = np.histogram2d(points[:, 0], points[:, 1], bins=bins, range=[(-_REACH, _REACH)] * 2)
    counts = cv2.GaussianBlur(counts, (0, 0), 2)
    i, j = np.unravel_index(counts.argmax(), counts.shape)
    best = np.array([x[i], y[j]]) + _STEP / 2
    for _ in range(30):
        weight = np.exp(-((points - best) ** 2).sum(axis=1) / 0.5)
        best = (points * weight[:, None]).sum(axis=0) / weight.sum()
    return best


def _centres(detector: Detector, image: Image) -> np.ndarray:
    return detector.detect(image).lafs[:, :, 2].astype(np.float64)


def _flipped(image: Image, axis: int) -> Image:
    return Image(np.ascontiguousarray(np.flip(image.grey, axis)), np.ascontiguousarray(np.flip(image.rgb, axis)))


@command
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.benchmark_mirror", description=__doc__)
    parser.add_argument("images", nargs="+", type=Path, metavar="DIR", help="photographs")
    parser.add_argument("--max-size", type=int, default=700, help="long side in pixels (700)")
    parser.add_argument("--every", type=int, default=1, help="every n-th photograph of a folder (1)")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="options as of run_reconstruction.py")
    given = parser.parse_args(arguments)
    import cv2

    from datasets.photos.read import read_image
    from pipeline.recipe import load_recipe

    recipe = load_recipe(None, given.set).detector
    method = load(DETECTORS, recipe.name)
    detector = method(getattr(recipe, recipe.name, method.Options()), recipe.max_keypoints, "cpu")
    files = [path for folder in given.images for path in sorted(folder.iterdir())[:: given.every] if path.is_file()]
    if not files:
        raise UserError(f"{given.images[0]}: holds no photograph")
    print("| photograph | offset x, y, pixels | found again after half a turn |\n| --- | --- | --- |")
    rows = []
    for path in files:
        rgb, grey = read_image(path)
        scale = min(1.0, given.max_size / max(grey.shape))
        size = tuple(round(side * scale) // 32 * 32 for side in grey.shape[::-1])  # no resize inside the networks
        grey, rgb = (cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) for pixels in (grey, rgb))
        image = Image(grey, rgb)
        rows.append((*offset(detector, image), found_again(detector, image)))
        print(
            f"| {path.parent.name}/{path.name} | {rows[-1][0]:.2f}, {rows[-1][1]:.2f} | {rows[-1][2]:.2f} |", flush=True
        )
    x, y, again = np.median(rows, axis=0)
    print(f"| median of {len(rows)} | {x:.2f}, {y:.2f} | {again:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
