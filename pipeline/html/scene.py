"""The model in 3D: one upright frame of reference for the page's view and for pictures, packed small."""

from base64 import b64encode
from dataclasses import dataclass
from typing import Any

import numpy as np

from datasets.cameras import Pose
from pipeline.html.contents import Contents, SparseModel


@dataclass(frozen=True)
class Frame:
    """World to scene: X' = R (X - centre) / size. x right, y away from the cameras, z up, as the photographs see it;
    most points lie within a radius of 1."""

    R: np.ndarray
    centre: np.ndarray
    size: float

    def points(self, xyz: np.ndarray) -> np.ndarray:
        """(..., 3) world points in the scene."""
        return (xyz - self.centre) @ self.R.T / self.size


def frame(model: SparseModel) -> Frame:
    """Up is where the photographs have it on average: COLMAP's world has no up of its own."""
    rotations = np.array([view.pose.R for view in model.views.values()])
    down = _mean_direction(rotations[:, 1])
    forward = _mean_direction(rotations[:, 2])
    away = forward - down * (forward @ down)
    if np.linalg.norm(away) < 0.1:  # looking straight down, as from the air: the photographs' up points away
        away = -rotations[0, 1] - down * (-rotations[0, 1] @ down)
    if np.linalg.norm(away) < 1e-6:
        away = np.cross(down, np.eye(3)[np.argmin(np.abs(down))])
    y = away / np.linalg.norm(away)
    R = np.stack([np.cross(y, -down), y, -down])
    centre = np.median(model.xyz, axis=0) if len(model.xyz) else np.mean(_centres(model), axis=0)
    spread = np.linalg.norm(model.xyz - centre, axis=1) if len(model.xyz) else np.ones(1)
    return Frame(R, centre, float(np.percentile(spread, 90)) or 1.0)


def _centres(model: SparseModel) -> np.ndarray:
    return np.array([view.pose.centre for view in model.views.values()])


def _mean_direction(directions: np.ndarray) -> np.ndarray:
    """The mean unit vector, or the first where they cancel out (a walk around an object)."""
    mean = directions.mean(axis=0)
    length = np.linalg.norm(mean)
    return mean / length if length > 0.15 else directions[0]


def near_points(model: SparseModel, at: Frame, reach: float = 4.0) -> np.ndarray:
    """(K,) rows of the points within `reach` scene units: a few points near the horizon would shrink all others."""
    return np.flatnonzero(np.linalg.norm(at.points(model.xyz), axis=1) <= reach)


def frustum_size(model: SparseModel, at: Frame) -> float:
    """Depth of a drawn frustum in scene units: a part of the usual distance of neighbouring cameras."""
    centres = at.points(_centres(model))
    apart = np.linalg.norm(centres[:, None] - centres[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    return float(np.clip(0.45 * np.median(apart.min(axis=1)), 0.04, 0.2)) if len(centres) > 1 else 0.2


def frustum(R: np.ndarray, centre: np.ndarray, half: tuple[float, float], depth: float, at: Frame) -> np.ndarray:
    """(5, 3) scene points: the camera's centre and the corners of its picture, clockwise from the top left."""
    w, h = half
    shrink = depth / max(1.0, np.hypot(w, h) / 0.6)  # wide angles must not look like larger cameras
    corners = np.array([[-w, -h, 1], [w, -h, 1], [w, h, 1], [-w, h, 1]]) * shrink * at.size
    return at.points(np.vstack([centre, corners @ R + centre]))


def packed(contents: Contents, max_points: int = 40_000) -> dict[str, Any] | None:
    """What the page's 3D view draws: arrays as base64 (float32 positions, uint8 colours). None without a model."""
    model = contents.model
    if model is None or not model.views:
        return None
    at = frame(model)
    rows = near_points(model, at)
    if len(rows) > max_points:
        rows = np.sort(np.random.default_rng(0).choice(rows, max_points, replace=False))
    depth = frustum_size(model, at)
    number = {name: i for i, name in enumerate(contents.names)}
    usual = next(iter(model.views.values())).half_angles

    def drawn(name: str, pose: Pose, depth: float) -> dict[str, Any]:
        half = model.views[name].half_angles if name in model.views else usual
        corners = frustum(pose.R, pose.centre, half, depth, at)
        return {"photo": number.get(name, -1), "corners": np.round(corners, 4).tolist()}

    cameras = [drawn(name, view.pose, depth) for name, view in model.views.items()]
    # A little larger: where the model is right they would hide each other.
    reference = [drawn(name, pose, 1.25 * depth) for name, pose in contents.reference.items()]
    return {
        "xyz": b64encode(at.points(model.xyz[rows]).astype("<f4").tobytes()).decode(),
        "rgb": b64encode(model.rgb[rows].tobytes()).decode(),
        "cameras": cameras,
        "reference": reference,
        "shown": len(rows),
        "total": len(model.xyz),
    }
