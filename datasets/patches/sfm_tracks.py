"""A reconstruction's tracks as `Observations`: any COLMAP model, and the detections' frames, in; filtered rows out.

As the PhotoTour set was once made (Brown, Hua & Winder, PAMI 2011): a 3D point that was matched and triangulated tells
which patches show the same thing. The frames of one point must correspond in scale and orientation. A frame A in a
photograph is carried to the point's own plane (through the point, facing the mean of its cameras) by the inverse of
the projection's Jacobian J there: B = J^-1 A. Scale sqrt(|det B|) and angle of B are then comparable between
photographs, and what a track agrees on is a median. `frames: detected` keeps each detection's own frame and drops those
that disagree; `frames: propagated` draws the agreed frame in every photograph (J times it).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from datasets.patches.observations import (
    Observations,
    different_looks,
    distinct_points,
    inside,
    keep,
    one_per_image,
    patches_by_image,
    textured,
)
from datasets.scenes.colmap_model import load
from desdis.errors import UserError


class TrackOptions(BaseModel):
    """Which observations become patches."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    magnification: float = Field(
        default=9.0, gt=0, description="half width of what is described, in sigma of the frame"
    )
    frames: Literal["detected", "propagated"] = Field(
        default="detected",
        description="each detection's own, or the track's agreed frame drawn in every photograph",
    )
    min_track: int = Field(default=2, ge=2, description="fewest photographs that see a point")
    max_error_px: float = Field(default=2.0, gt=0, description="largest reprojection error of an observation, pixels")
    max_error_sigma: float = Field(default=1.0, gt=0, description="and in sigma of its frame")
    max_scale_error: float = Field(default=0.35, ge=0, description="detected scale against the track's, octaves")
    max_angle_error: float = Field(
        default=22.5, ge=0, le=180, description="detected angle against the track's, degrees"
    )
    max_obliqueness: float = Field(
        default=75.0, gt=0, lt=90, description="angle between a view and the track's mean, degrees"
    )
    min_contrast: float = Field(default=4.0, ge=0, description="least standard deviation of a patch, grey values")
    min_sharpness: float = Field(
        default=0.1, ge=0, description="least Laplacian over standard deviation of a 32 px patch"
    )
    max_correlation: float = Field(
        default=0.985, gt=0, le=1, description="two rows of a point more alike than this are one"
    )


@dataclass(frozen=True)
class Tracks:
    """A model as arrays. images: names; K rows: image_ids, rows (of the photograph's frames), point_ids, errors px.
    R (I, 3, 3), t (I, 3) cam_from_world; focals (I, 2); points (P, 3). The camera's distortion is used for the errors
    only: over a patch it changes scale and angle by far less than a detector's own error."""

    images: tuple[str, ...]
    R: np.ndarray
    t: np.ndarray
    focals: np.ndarray
    points: np.ndarray
    image_ids: np.ndarray
    rows: np.ndarray
    point_ids: np.ndarray
    errors: np.ndarray


def read_tracks(folder: Path) -> Tracks:
    """The tracks of one COLMAP model (cameras, images, points3D; binary or text). Raises UserError if there is none."""
    model = load(folder)
    ids = sorted(model.reg_image_ids(), key=lambda i: model.images[i].name)
    place = {image_id: k for k, image_id in enumerate(ids)}
    poses = [model.images[i].cam_from_world() for i in ids]
    cameras = [model.images[i].camera for i in ids]
    image_ids, rows, point_ids, xyz = [], [], [], []
    for number, point_id in enumerate(sorted(model.point3D_ids())):
        point = model.points3D[point_id]
        xyz.append(point.xyz)
        for element in point.track.elements:
            image_ids.append(place[element.image_id])
            rows.append(element.point2D_idx)
            point_ids.append(number)
    tracks = Tracks(
        images=tuple(model.images[i].name for i in ids),
        R=np.array([pose.rotation.matrix() for pose in poses]).reshape(-1, 3, 3),
        t=np.array([pose.translation for pose in poses]).reshape(-1, 3),
        focals=np.array([(c.focal_length_x, c.focal_length_y) for c in cameras]).reshape(-1, 2),
        points=np.array(xyz).reshape(-1, 3),
        image_ids=np.array(image_ids, np.int32),
        rows=np.array(rows, np.int64),
        point_ids=np.array(point_ids, np.int32),
        errors=np.zeros(len(rows), np.float32),
    )
    local = in_camera(tracks)
    errors = np.full(len(rows), np.inf, np.float32)
    for k, image_id in enumerate(ids):
        mine = np.flatnonzero(tracks.image_ids == k)
        image = model.images[image_id]
        seen = np.array([image.points2D[int(row)].xy for row in tracks.rows[mine]]).reshape(-1, 2)
        errors[mine] = np.linalg.norm(cameras[k].img_from_cam(local[mine]).reshape(-1, 2) - seen, axis=1)
    return replace(tracks, errors=errors)


def in_camera(tracks: Tracks) -> np.ndarray:
    """(K, 3) each row's point in its camera's coordinates."""
    R, t = tracks.R[tracks.image_ids], tracks.t[tracks.image_ids]
    return np.einsum("kij,kj->ki", R, tracks.points[tracks.point_ids]) + t


def plane_jacobians(tracks: Tracks) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """J (K, 2, 2) pixels by unit of the point's plane, views (K, 3) unit vectors to the camera, and obliqueness (K,)
    degrees between the view and the plane's normal (the mean of the point's views)."""
    R, local = tracks.R[tracks.image_ids], in_camera(tracks)
    views = -np.einsum("kji,kj->ki", R, local)
    views /= np.linalg.norm(views, axis=1, keepdims=True)
    normals = np.stack(
        [np.bincount(tracks.point_ids, views[:, k], minlength=len(tracks.points)) for k in range(3)], axis=1
    )
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    # Right-handed as the cameras see it: e1 x e2 points away from them, as x (right) and y (down) of an image do.
    helper = np.eye(3)[np.abs(normals).argmin(axis=1)]
    e1 = np.cross(helper, normals)
    e1 /= np.maximum(np.linalg.norm(e1, axis=1, keepdims=True), 1e-12)
    e2 = np.cross(e1, normals)
    basis = np.stack([e1, e2], axis=2)[tracks.point_ids]  # (K, 3, 2)
    x, y, z = local.T
    z = np.where(np.abs(z) < 1e-12, 1e-12, z)
    fx, fy = tracks.focals[tracks.image_ids].T
    zero = np.zeros_like(z)
    project = np.stack([fx / z, zero, -fx * x / z**2, zero, fy / z, -fy * y / z**2], axis=1).reshape(-1, 2, 3)
    cosine = (views * normals[tracks.point_ids]).sum(axis=1).clip(-1, 1)
    return project @ R @ basis, views, np.degrees(np.arccos(cosine))


def turn_of(matrices: np.ndarray) -> np.ndarray:
    """(K,) degrees: the rotation nearest to each (K, 2, 2) matrix."""
    return np.degrees(np.arctan2(matrices[:, 1, 0] - matrices[:, 0, 1], matrices[:, 0, 0] + matrices[:, 1, 1]))


def agreed_frames(turns: np.ndarray, sizes: np.ndarray, point_ids: np.ndarray, count: int) -> np.ndarray:
    """(P, 2) degrees and log2 size that a point's rows agree on. turns (K,) degrees, sizes (K,) log2; P = count.

    The angle is the mean of the rows around that row which most others agree with (within 22.5 degrees): with two
    orientations about, a mean of all would be neither. The size is the median. Rows come sorted by point.
    """
    agreed = np.zeros((count, 2))
    starts = np.append(np.flatnonzero(np.diff(point_ids, prepend=-1)), len(point_ids))
    for begin, end in pairwise(starts):
        turn = turns[begin:end]
        apart = (turn[None] - turn[:, None] + 180) % 360 - 180
        close = np.abs(apart) <= 22.5
        best = close.sum(axis=1).argmax()
        agreed[point_ids[begin]] = turn[best] + apart[best, close[best]].mean(), np.median(sizes[begin:end])
    return agreed


def observe(tracks: Tracks, frames: Mapping[str, np.ndarray], options: TrackOptions) -> Observations:
    """The rows of a model whose geometry is good, with frames that correspond.

    frames: by photograph, (N, 2, 3) float32 frames whose rows are the model's 2D points, COLMAP pixel convention.
    Raises UserError where frames are missing or fewer than the model's points.
    """
    for k, name in enumerate(tracks.images):
        need = tracks.rows[tracks.image_ids == k].max(initial=-1) + 1
        if name not in frames or len(frames[name]) < need:
            raise UserError(f"no frames for the {need} keypoints of {name}: give those that the model was made from")
    A = np.zeros((len(tracks.rows), 2, 3), np.float32)
    for k, name in enumerate(tracks.images):
        mine = tracks.image_ids == k
        A[mine] = frames[name][tracks.rows[mine]]

    order = np.argsort(tracks.point_ids, kind="stable")
    A = A[order]
    fields = ("image_ids", "rows", "point_ids", "errors")
    tracks = replace(tracks, **{name: getattr(tracks, name)[order] for name in fields})
    J, views, obliqueness = plane_jacobians(tracks)
    sigmas = np.sqrt(np.abs(np.linalg.det(A[:, :, :2].astype(np.float64))))
    determinants = np.linalg.det(J)
    good = (determinants > 1e-12) & (obliqueness <= options.max_obliqueness) & (sigmas > 0)
    good &= (tracks.errors <= options.max_error_px) & (tracks.errors <= options.max_error_sigma * sigmas)
    inverse = np.linalg.inv(np.where(good[:, None, None], J, np.eye(2)))
    B = inverse @ A[:, :, :2]
    turns, sizes = turn_of(B), np.log2(np.maximum(sigmas, 1e-12) * np.sqrt(np.abs(np.linalg.det(inverse))))
    agreed = agreed_frames(turns[good], sizes[good], tracks.point_ids[good], len(tracks.points))
    turn, size = agreed[tracks.point_ids].T
    angle_errors = (turns - turn + 180) % 360 - 180
    scale_errors = sizes - size
    rolls = turn_of(inverse)
    if options.frames == "propagated":
        angle = np.radians(turn - rolls)
        scale = 2.0**size * np.sqrt(np.maximum(determinants, 0))
        c, s = scale * np.cos(angle), scale * np.sin(angle)
        A[:, 0, 0], A[:, 0, 1], A[:, 1, 0], A[:, 1, 1] = c, -s, s, c
    good &= (np.abs(angle_errors) <= options.max_angle_error) & (np.abs(scale_errors) <= options.max_scale_error)
    observations = Observations(
        images=tracks.images,
        image_ids=tracks.image_ids,
        point_ids=tracks.point_ids,
        frames=A,
        views=views.astype(np.float32),
        rolls=rolls.astype(np.float32),
        scale_errors=scale_errors.astype(np.float32),
        angle_errors=angle_errors.astype(np.float32),
        errors=tracks.errors,
        points=tracks.points.astype(np.float32),
        point_sizes=(2.0 ** agreed[:, 1]).astype(np.float32),
    )
    observations = keep(observations, good, options.min_track)
    return keep(observations, one_per_image(observations), options.min_track)


def select(observations: Observations, read: Callable[[str], np.ndarray], options: TrackOptions) -> Observations:
    """Those rows whose patches lie in the photograph and are worth learning from. `read(name)` gives (H, W) uint8."""
    sizes = np.array([read(name).shape[::-1] for name in observations.images], np.float32).reshape(-1, 2)
    observations = keep(observations, inside(observations, sizes, options.magnification), options.min_track)
    observations = keep(observations, distinct_points(observations), options.min_track)
    patches = patches_by_image(observations, read, options.magnification, 32)
    mask = textured(patches, options.min_contrast, options.min_sharpness)
    observations, patches = keep(observations, mask, 1), patches[mask]
    return keep(observations, different_looks(observations, patches, options.max_correlation), options.min_track)


def fixed_camera(images: tuple[str, ...], frames: np.ndarray) -> Observations:
    """A camera that did not move: the same frames (N, 2, 3) in every photograph show the same places (light, weather
    and season change). The frames' own pixels serve as the scene's unit."""
    n, i = len(frames), len(images)
    sigma = np.sqrt(np.abs(np.linalg.det(frames[:, :, :2].astype(np.float64)))).astype(np.float32)
    zero = np.zeros(n * i, np.float32)
    return Observations(
        images=images,
        image_ids=np.tile(np.arange(i, dtype=np.int32), n),
        point_ids=np.repeat(np.arange(n, dtype=np.int32), i),
        frames=np.repeat(frames.astype(np.float32), i, axis=0),
        views=np.tile(np.array([0, 0, -1], np.float32), (n * i, 1)),
        rolls=zero,
        scale_errors=zero,
        angle_errors=zero,
        errors=zero,
        points=np.column_stack([frames[:, :, 2], np.zeros(n)]).astype(np.float32),
        point_sizes=sigma,
    )
