"""Photographs with what was found on them: small JPEGs with vector overlays for the page, PNGs for `pipeline.show`.

Photographs are drawn on their stored pixel grid (EXIF orientation is not applied), as the keypoints are.
"""

from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pipeline.html.contents import Contents, Pair

SEEN, REST = (94, 214, 255), (235, 120, 60)  # RGB: keypoints in the model and the others
_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def read_photo(path: Path, long_side: int | None = None) -> np.ndarray | None:
    """(H, W, 3) uint8 BGR, shrunk to `long_side`; None where OpenCV cannot read it."""
    image = cv2.imread(str(path), _FLAGS)
    if image is None or long_side is None or max(image.shape[:2]) <= long_side:
        return image
    scale = long_side / max(image.shape[:2])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def data_uri(image: np.ndarray, quality: int = 78) -> str:
    """The picture as a JPEG inside an address."""
    done, jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    if not done:
        raise RuntimeError("OpenCV could not write a JPEG")
    return "data:image/jpeg;base64," + b64encode(jpeg.tobytes()).decode()


@dataclass(frozen=True)
class Card:
    """A photograph of the gallery. `uri` is None where the file is gone. seen and rest are SVG paths of dots in a
    coordinate system of `box` (width, height)."""

    number: int
    name: str
    uri: str | None
    box: tuple[int, int]
    seen: str
    rest: str
    keypoints: int
    observed: int
    error: float | None
    registered: bool


def gallery(contents: Contents) -> list[Card]:
    """Every photograph, the more there are the smaller: the page stays below some megabytes."""
    count = max(1, len(contents.names))
    side = int(np.clip(360 * np.sqrt(30 / count), 110, 360))
    dots = int(np.clip(60_000 / count, 40, 600))
    cards = []
    for number, name in enumerate(contents.names):
        path = contents.photo(name)
        image = read_photo(path, side) if path else None
        width, height = contents.sizes[name]
        view = contents.model.views.get(name) if contents.model else None
        observed = np.zeros(len(contents.keypoints[name]), bool)
        if view is not None:
            observed[view.observed] = True
        box = (720, max(1, round(720 * height / width)))
        at = np.round(contents.keypoints[name] * (720 / width)).astype(int)
        strongest = np.argsort(-contents.scores[name], kind="stable")[:dots]
        chosen = observed[strongest]
        cards.append(
            Card(number, name, data_uri(image, 72) if image is not None else None, box,
                 _dots(at[strongest[chosen]]), _dots(at[strongest[~chosen]]), len(at), int(observed.sum()),
                 float(view.errors.mean()) if view is not None and len(view.errors) else None, view is not None)
        )  # fmt: skip
    return cards


@dataclass(frozen=True)
class PairPicture:
    """Two photographs side by side and lines between them, in a coordinate system of `box`."""

    title: str
    pair: Pair
    uris: tuple[str | None, str | None]
    box: tuple[int, int]
    places: tuple[tuple[int, int, int, int], tuple[int, int, int, int]]  # x, y, width, height of each photograph
    lines: list[list[int]]  # x1, y1, x2, y2, hue
    shown: int


def telling_pairs(contents: Contents) -> list[PairPicture]:
    """The verified pairs with most, median and fewest inliers."""
    ranked = contents.verified
    chosen = {0: "Best pair", len(ranked) // 2: "Median pair", len(ranked) - 1: "Worst pair"} if ranked else {}
    return [pair_picture(contents, ranked[k], title) for k, title in sorted(chosen.items())]


def pair_picture(contents: Contents, pair: Pair, title: str, max_lines: int = 140) -> PairPicture:
    """The layout of a pair: both photographs at one height, at most `max_lines` of its inliers."""
    places, scales, images = _side_by_side(contents, pair, 1400, 24)
    rows = pair.inliers
    if len(rows) > max_lines:
        rows = np.random.default_rng(0).choice(rows, max_lines, replace=False)
    ends = [contents.keypoints[n][rows[:, k]] * scales[k] + places[k][:2] for k, n in enumerate(pair.names)]
    hues = _hues(contents.keypoints[pair.names[0]][rows[:, 0]])
    lines = np.column_stack([*ends, hues]).astype(int).tolist()
    uris = [None if i is None else data_uri(_fitted(i, p), 76) for i, p in zip(images, places, strict=True)]
    height = max(p[1] + p[3] for p in places)
    return PairPicture(title, pair, (uris[0], uris[1]), (1400, height), (places[0], places[1]), lines, len(rows))


def draw_pair(contents: Contents, pair: Pair, width: int = 1800, max_lines: int = 500) -> np.ndarray:
    """A PNG's pixels (H, W, 3) BGR: the pair with its inlier matches."""
    places, scales, images = _side_by_side(contents, pair, width, 12)
    canvas = np.full((max(p[1] + p[3] for p in places), width, 3), 255, np.uint8)
    for image, place in zip(images, places, strict=True):
        x, y, w, h = place
        canvas[y : y + h, x : x + w] = 200 if image is None else cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA)
    rows = pair.inliers
    if len(rows) > max_lines:
        rows = np.random.default_rng(0).choice(rows, max_lines, replace=False)
    ends = [contents.keypoints[n][rows[:, k]] * scales[k] + places[k][:2] for k, n in enumerate(pair.names)]
    layer = canvas.copy()
    for a, b, hue in zip(*ends, _hues(contents.keypoints[pair.names[0]][rows[:, 0]]), strict=True):
        colour = _bgr(hue)
        _line(layer, a, b, colour, 1)
        for end in (a, b):
            _dot(layer, end, 3.0, colour)
    return cv2.addWeighted(layer, 0.8, canvas, 0.2, 0)


def draw_keypoints(contents: Contents, name: str, long_side: int = 1600) -> np.ndarray:
    """A PNG's pixels (H, W, 3) BGR: the photograph with its keypoints; those in the model are filled."""
    path = contents.photo(name)
    image = read_photo(path, long_side) if path else None
    width, height = contents.sizes[name]
    scale = min(1.0, long_side / max(width, height))
    if image is None:
        image = np.full((round(height * scale), round(width * scale), 3), 200, np.uint8)
    image = cv2.addWeighted(image, 0.8, np.full_like(image, 0), 0.2, 0)
    at = contents.keypoints[name] * (image.shape[1] / width)
    view = contents.model.views.get(name) if contents.model else None
    observed = np.zeros(len(at), bool)
    if view is not None:
        observed[view.observed] = True
    for xy in at[~observed]:
        _dot(image, xy, 1.6, REST[::-1])
    for xy in at[observed]:
        _dot(image, xy, 2.2, SEEN[::-1])
    return image


def _side_by_side(
    contents: Contents, pair: Pair, width: int, gap: int
) -> tuple[list[tuple[int, int, int, int]], list[np.ndarray], list[np.ndarray | None]]:
    """Places of the two photographs at one height, pixels-to-place scales (2,), and the photographs or None."""
    sizes = [contents.sizes[name] for name in pair.names]
    ratio = sum(w / h for w, h in sizes)
    height = min(int((width - gap) / ratio), 900)
    widths = [round(height * w / h) for w, h in sizes]
    left = (width - gap - sum(widths)) // 2
    places = [(left, 0, widths[0], height), (left + widths[0] + gap, 0, widths[1], height)]
    scales = [np.array([p[2] / w, p[3] / h]) for p, (w, h) in zip(places, sizes, strict=True)]
    paths = [contents.photo(name) for name in pair.names]
    return places, scales, [read_photo(path, 1400) if path else None for path in paths]


def _fitted(image: np.ndarray, place: tuple[int, int, int, int]) -> np.ndarray:
    size = min(place[2], image.shape[1]), min(place[3], image.shape[0])
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _hues(xy: np.ndarray) -> np.ndarray:
    """Hue in degrees by the place across the first photograph, by rank: neighbouring lines can be told apart."""
    order = np.argsort(np.argsort(xy[:, 0] + 0.35 * xy[:, 1], kind="stable"), kind="stable")
    return 160 + 220 * order / max(1, len(order) - 1)


def _bgr(hue: float) -> tuple[int, ...]:
    pixel = np.array([[[(hue % 360) / 2, 165, 255]]], np.uint8)
    return tuple(int(v) for v in cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0])


def _dots(xy: np.ndarray) -> str:
    return "".join(f"M{x} {y}h0" for x, y in xy)


def _fixed(xy: np.ndarray) -> tuple[int, int]:
    """OpenCV draws with 4 fractional bits, pixel centres at integers."""
    return int(round((float(xy[0]) - 0.5) * 16)), int(round((float(xy[1]) - 0.5) * 16))


def _dot(image: np.ndarray, xy: np.ndarray, radius: float, colour: tuple[int, ...]) -> None:
    cv2.circle(image, _fixed(xy), int(radius * 16), colour, -1, cv2.LINE_AA, 4)


def _line(image: np.ndarray, a: np.ndarray, b: np.ndarray, colour: tuple[int, ...], width: int) -> None:
    cv2.line(image, _fixed(a), _fixed(b), colour, width, cv2.LINE_AA, 4)
