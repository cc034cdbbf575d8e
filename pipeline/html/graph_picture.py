"""The view graph as a PNG: the network on the left, the matrix of inlier matches on the right."""

import math

import cv2
import numpy as np

from pipeline.html.contents import Contents
from pipeline.html.figures import graph_layout

_PAPER, _INK, _SOFT = (255, 255, 255), (39, 32, 27), (114, 101, 91)  # BGR
_ACCENT, _WARN = (168, 99, 37), (45, 69, 194)
_RAMP = np.array([[249, 243, 238], [234, 208, 185], [214, 163, 111], [176, 108, 43], [107, 58, 18]], float)


def draw_graph(contents: Contents, width: int = 1600, height: int = 900) -> np.ndarray:
    """(height, width, 3) uint8 BGR. Strong lines and dark cells are many inliers; photographs outside the model in
    the colour of warning."""
    factor = 2
    W, H = width * factor, height * factor
    canvas = np.full((H, W, 3), _PAPER, np.uint8)
    half = W // 2
    top, margin = int(0.08 * H), int(0.05 * H)
    side = min(half - 3 * margin, H - top - 3 * margin)
    place = graph_layout(contents)
    xy = np.array([place[name] for name in contents.names], float).reshape(-1, 2)
    low = xy.min(axis=0) if len(xy) else np.zeros(2)
    span = np.maximum(np.ptp(xy, axis=0), 1e-9) if len(xy) else np.ones(2)
    at = (xy - low) / span * (half - 3 * margin, H - top - 2 * margin) + (1.5 * margin, top)
    row = {name: i for i, name in enumerate(contents.names)}
    most = max((len(p.inliers) for p in contents.verified), default=1)
    for pair in reversed(contents.verified):  # weak ones first
        strength = math.log1p(len(pair.inliers)) / math.log1p(most)
        colour = [float(c) for c in np.array(_PAPER) + (np.array(_ACCENT) - _PAPER) * (0.1 + 0.75 * strength**2)]
        a, b = (tuple(int(v) for v in at[row[name]]) for name in pair.names)
        cv2.line(canvas, a, b, colour, max(1, round(factor * (0.5 + 2 * strength**3))), cv2.LINE_AA)
    inside = set(contents.model.views) if contents.model else set()
    for name, point in zip(contents.names, at, strict=True):
        centre, radius = (int(point[0]), int(point[1])), factor * (7 if len(at) < 60 else 5)
        cv2.circle(canvas, centre, radius + 2 * factor, _PAPER, -1, cv2.LINE_AA)
        cv2.circle(canvas, centre, radius, _ACCENT if name in inside else _WARN, -1, cv2.LINE_AA)
    corner = (half + (half - side) // 2, top + (H - top - side) // 2 - margin // 2)
    _matrix(canvas, contents, row, corner, side, most)
    picture = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    return _titled(picture, contents, at / factor, corner[0] // factor)


def _matrix(
    canvas: np.ndarray, contents: Contents, row: dict[str, int], corner: tuple[int, int], side: int, most: int
) -> None:
    cell = side / max(1, len(row))
    x0, y0 = corner
    cv2.rectangle(canvas, (x0, y0), (x0 + side, y0 + side), (246, 244, 243), -1)
    for pair in contents.verified:
        strength = math.log1p(len(pair.inliers)) / math.log1p(most)
        colour = [float(np.interp(strength * 4, range(5), _RAMP[:, k])) for k in range(3)]
        i, j = (row[name] for name in pair.names)
        for a, b in ((i, j), (j, i)):
            first = round(x0 + b * cell), round(y0 + a * cell)
            last = round(x0 + (b + 1) * cell) - 1, round(y0 + (a + 1) * cell) - 1
            cv2.rectangle(canvas, first, last, colour, -1)


def _titled(picture: np.ndarray, contents: Contents, at: np.ndarray, right: int) -> np.ndarray:
    """Texts, by Pillow: OpenCV knows no letters beyond ASCII."""
    from PIL import Image, ImageDraw, ImageFont

    page = Image.fromarray(picture[..., ::-1])
    draw = ImageDraw.Draw(page)
    size = max(12, picture.shape[0] // 40)
    title = f"{len(contents.names)} photographs, {len(contents.verified)} of {len(contents.pairs)} pairs verified"
    draw.text((size * 2, size), title, fill=_INK[::-1], font=ImageFont.load_default(size))
    draw.text((right, size), "inlier matches by pair", fill=_SOFT[::-1], font=ImageFont.load_default(size))
    if len(at) <= 30:
        small = ImageFont.load_default(max(10, size * 2 // 3))
        for name, (x, y) in zip(contents.names, at, strict=True):
            draw.text((x, y + size * 0.55), name[-24:], fill=_SOFT[::-1], font=small, anchor="mt")
    return np.asarray(page)[..., ::-1].copy()
