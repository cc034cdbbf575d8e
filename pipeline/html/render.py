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


def best_eye(model: SparseModel, width: int, height: int, rise: float = 22.0) -> Eye:
    """From behind the cameras and above them, turned to the side from which the points look largest."""
    at = frame(model)
    size = frustum_size(model, at)
    cameras = np.array([frustum(v.pose.R, v.pose.centre, v.half_angles, size, at) for v in model.views.values()])
    cameras = cameras.reshape(-1, 3)
    near = cameras[np.linalg.norm(cameras, axis=1) < 6]  # one lost camera must not shrink the rest
    cameras = near if len(near) else cameras
    rows = near_points(model, at, 2.2)
    points = at.points(model.xyz[rows[:: max(1, len(rows) // 2000)]])  # enough to know where they are
    if len(points):
        low, high = np.percentile(points, [0.3, 99.7], axis=0)
        points = points[((points >= low) & (points <= high)).all(axis=1)]
    found = [_fitting(points, cameras, width, height, turn, rise) for turn in (-38.0, -20.0, 20.0, 38.0)]

    def extent(eye: Eye) -> float:
        return float(np.prod(np.ptp(eye.project(points, width, height)[0], axis=0))) if len(points) else 0.0

    return max(found, key=extent)


def _fitting(points: np.ndarray, cameras: np.ndarray, width: int, height: int, turn: float, rise: float) -> Eye:
    """The eye at these angles (degrees) from which points and cameras just fill the picture."""
    shown = np.vstack([points, cameras])
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
        distance *= float(np.clip(((high - low) / (0.93 * width, 0.9 * height)).max(), 0.8, 1.25)) ** 0.7
    return Eye(target + direction * distance, target)


def draw_model(
    model: SparseModel,
    width: int = 1600,
    height: int = 900,
    eye: Eye | None = None,
    background: tuple[int, int, int] = (15, 18, 23),
    frusta: tuple[int, int, int] = (90, 200, 255),
) -> np.ndarray:
    """(height, width, 3) uint8 RGB; colours are RGB. Points are drawn as large as their number leaves room."""
    factor = 2  # supersampling
    W, H = width * factor, height * factor
    eye = eye or best_eye(model, width, height)
    at = frame(model)
    rows = near_points(model, at)
    pixels, depth = eye.project(at.points(model.xyz[rows]), W, H)
    light = np.linspace(1.15, 0.85, H, dtype=np.float32)[:, None, None]  # a fall of light, not a flat wall
    layer = np.clip(np.broadcast_to(np.array(background) * light, (H, W, 3)), 0, 255).astype(np.uint8)
    usual = float(np.linalg.norm(eye.target - eye.position))
    visible = (depth > 0.05) & (pixels > -50).all(axis=1) & (pixels < (W + 50, H + 50)).all(axis=1)
    order = np.flatnonzero(visible)[np.argsort(-depth[visible], kind="stable")]  # far to near: the painter's buffer
    spread = np.ptp(np.percentile(pixels[order], [5, 95], axis=0), axis=0) if len(order) else np.ones(2)
    room = 0.42 * np.sqrt(spread.prod() / max(1, len(order)))
    usual_radius = float(np.clip(room, 1.1 * factor, 3.2 * factor))
    # Points that many photographs see are certain; the others let some of the background through.
    sure = np.clip((model.track_length[rows] - 1) / 3, 0.3, 1.0)
    colours = _lifted(model.rgb[rows], dark=sum(background) < 384)
    for k in order:
        radius = np.clip(usual_radius * usual / depth[k], 0.5 * usual_radius, 2 * usual_radius)
        weight = 0.55 + 0.45 * sure[k]
        colour = colours[k] * weight + np.array(background) * (1 - weight)
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


def _lifted(rgb: np.ndarray, dark: bool) -> np.ndarray:
    """(N, 3) colours that stand out from the ground: brighter on a dark one, and a little more saturated."""
    colours = 255 * (rgb / 255.0) ** (0.68 if dark else 1.0)
    grey = colours.mean(axis=1, keepdims=True)
    return np.clip(grey + 1.25 * (colours - grey), 0, 255)


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
