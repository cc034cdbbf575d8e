"""The model as a picture: points splatted with a depth buffer and cameras as frusta, anti-aliased by supersampling.

Drawn with numpy and OpenCV alone, so that a page without WebGL, a printer and the command line show the same model.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.html.contents import SparseModel
from pipeline.html.scene import frame, frustum, frustum_size, near_points


@dataclass(frozen=True)
class Eye:
    """Where a picture is taken from, in scene coordinates; `focal` in units of the picture's height."""

    position: np.ndarray
    target: np.ndarray
    focal: float = 1.2071  # 45 degrees from top to bottom, as plotly's camera

    def project(self, xyz: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        """(..., 3) scene points to pixels (..., 2) and depths (...,)."""
        forward = self.target - self.position
        forward = forward / np.linalg.norm(forward)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        R = np.stack([right, np.cross(forward, right), forward])
        local = (xyz - self.position) @ R.T
        depth = np.maximum(local[..., 2], 1e-6)
        return local[..., :2] / depth[..., None] * self.focal * height + (width / 2, height / 2), local[..., 2]


def best_eye(model: SparseModel, width: int, height: int, turn: float = 32.0, rise: float = 24.0) -> Eye:
    """From behind the cameras, `turn` degrees aside and `rise` up, so that points and cameras fill the picture."""
    at = frame(model)
    size = frustum_size(model, at)
    cameras = np.array([frustum(v.pose.R, v.pose.centre, v.half_angles, size, at) for v in model.views.values()])
    points = at.points(model.xyz[near_points(model, at, 2.2)])
    if len(points):
        low, high = np.percentile(points, [1, 99], axis=0)
        points = points[((points >= low) & (points <= high)).all(axis=1)]
    cameras = cameras.reshape(-1, 3)
    near = cameras[np.linalg.norm(cameras, axis=1) < 6]  # one lost camera must not shrink the rest
    shown = np.vstack([points, near if len(near) else cameras])
    target = (shown.min(axis=0) + shown.max(axis=0)) / 2
    angle, tilt = np.radians(turn), np.radians(rise)
    direction = np.array([np.sin(angle) * np.cos(tilt), -np.cos(angle) * np.cos(tilt), np.sin(tilt)])
    right = np.array([np.cos(angle), np.sin(angle), 0.0])
    down = np.cross(-direction, right)
    distance = 3.0
    for _ in range(40):  # shift the target to the middle of what is seen, and step back until it fits
        eye = Eye(target + direction * distance, target)
        pixels, depth = eye.project(shown, width, height)
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        if depth.min() < 0.1:
            distance *= 1.4
            continue
        shift = ((low + high) / 2 - (width / 2, height / 2)) * distance / (eye.focal * height)
        target = target + right * shift[0] + down * shift[1]
        distance *= float(np.clip(((high - low) / (0.92 * width, 0.9 * height)).max(), 0.8, 1.25)) ** 0.7
    return Eye(target + direction * distance, target)


def draw_model(
    model: SparseModel,
    width: int = 1600,
    height: int = 900,
    eye: Eye | None = None,
    background: tuple[int, int, int] = (16, 19, 24),
    frusta: tuple[int, int, int] = (90, 200, 255),
    splat: float = 0.0011,
) -> np.ndarray:
    """(height, width, 3) uint8 RGB. Colours are RGB; `splat` is a point's radius in picture heights at depth 1 scene
    unit from the target's distance."""
    factor = 2  # supersampling
    W, H = width * factor, height * factor
    eye = eye or best_eye(model, width, height)
    at = frame(model)
    rows = near_points(model, at)
    pixels, depth = eye.project(at.points(model.xyz[rows]), W, H)
    canvas = np.empty((H, W, 3), np.float32)
    canvas[:] = background
    shade = np.linspace(1.18, 0.82, H, dtype=np.float32)[:, None, None]  # a floor of light, not a flat wall
    canvas *= shade
    usual = float(np.linalg.norm(eye.target - eye.position))
    visible = (depth > 0.05) & (pixels > -50).all(axis=1) & (pixels < (W + 50, H + 50)).all(axis=1)
    order = np.flatnonzero(visible)[np.argsort(-depth[visible], kind="stable")]  # far to near: a painter's buffer
    # Points seen by many photographs are certain; the others are drawn smaller and let the background through.
    sure = np.clip((model.track_length[rows] - 1) / 4, 0.35, 1.0)
    faint = np.clip(1.25 - 0.25 * depth / usual, 0.55, 1.0)
    layer = canvas.astype(np.uint8)
    for k in order:
        radius = max(1.0, splat * H * usual / depth[k] * (0.75 + 0.5 * sure[k]))
        weight = faint[k] * (0.6 + 0.4 * sure[k])
        colour = model.rgb[rows[k]] * weight + np.array(background) * (1 - weight)
        centre = int(round(pixels[k, 0] * 16)), int(round(pixels[k, 1] * 16))
        cv2.circle(layer, centre, int(radius * 16), [float(c) for c in colour], -1, cv2.LINE_AA, 4)
    size = frustum_size(model, at)
    shapes = [frustum(v.pose.R, v.pose.centre, v.half_angles, size, at) for v in model.views.values()]
    shapes.sort(key=lambda shape: -float(eye.project(shape, W, H)[1].mean()))
    for shape in shapes:
        corners, away = eye.project(shape, W, H)
        if away.min() > 0.05:
            _draw_frustum(layer, np.round(corners * 16).astype(np.int32), frusta, factor)
    return cv2.resize(layer, (width, height), interpolation=cv2.INTER_AREA)


def _draw_frustum(layer: np.ndarray, corners: np.ndarray, colour: tuple[int, int, int], factor: int) -> None:
    pane = layer.copy()
    cv2.fillConvexPoly(pane, corners[1:], colour, cv2.LINE_AA, 4)
    low, high = np.clip(corners.min(axis=0) // 16 - 4, 0, None), corners.max(axis=0) // 16 + 5
    box = (slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])))
    layer[box] = cv2.addWeighted(pane[box], 0.22, layer[box], 0.78, 0) if layer[box].size else layer[box]
    ring = [corners[[1, 2, 3, 4]].reshape(-1, 1, 2)]
    cv2.polylines(layer, ring, True, colour, factor, cv2.LINE_AA, 4)
    for corner in corners[1:]:
        cv2.line(layer, tuple(map(int, corners[0])), tuple(map(int, corner)), colour, factor, cv2.LINE_AA, 4)
