"""A textured plane photographed by cameras that are known exactly: what the tests of patch sets cut from."""

from functools import cache

import numpy as np

from datasets.patches.sfm_tracks import Tracks

SIZE = (320, 240)  # width, height
K = np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]])


@cache
def texture(seed: int = 0, side: int = 900) -> np.ndarray:
    """(side, side) uint8: blobs of several sizes."""
    import cv2

    generator = np.random.default_rng(seed)
    sum_ = np.zeros((side, side), np.float32)
    for sigma in (2, 5, 12):
        layer = cv2.GaussianBlur(generator.standard_normal((side, side)).astype(np.float32), (0, 0), sigma)
        sum_ += layer / layer.std()
    return np.clip(128 + 35 * sum_, 0, 255).astype(np.uint8)


def pose(yaw: float, roll: float, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """cam_from_world of a camera that looks at the world's origin (the plane z = 0, x right, y down)."""
    a, b = np.radians(yaw), np.radians(roll)
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    lean = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return lean @ turn, np.array([0, 0, distance])


def homography(R: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Plane coordinates (z = 0) to pixels, COLMAP convention."""
    return K @ np.column_stack([R[:, 0], R[:, 1], t])


def photograph(R: np.ndarray, t: np.ndarray, seed: int = 0) -> np.ndarray:
    """(240, 320) uint8: the plane's texture spans (-1.5, 1.5)² of the world."""
    import cv2

    pixels = texture(seed)
    to_texture = np.array([[300.0, 0, 450], [0, 300, 450], [0, 0, 1]])
    half = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
    H = half @ homography(R, t) @ np.linalg.inv(half @ to_texture)
    return cv2.warpPerspective(pixels, H, SIZE, flags=cv2.INTER_AREA)


def plane_scene(views: list[tuple[float, float, float]], points: int = 60, seed: int = 3) -> tuple[Tracks, dict]:
    """Exact tracks of points on the plane, and frames that a perfect detector would give (angle and size fixed on the
    plane, carried into each photograph)."""
    generator = np.random.default_rng(seed)
    xyz = np.column_stack([generator.uniform(-0.25, 0.25, (points, 2)), np.zeros(points)])
    angles, sizes = generator.uniform(0, 2 * np.pi, points), generator.uniform(0.006, 0.012, points)
    poses = [pose(*view) for view in views]
    names = tuple(f"{k}.png" for k in range(len(poses)))
    frames = {}
    for name, (R, t) in zip(names, poses, strict=True):
        H = homography(R, t)
        projected = np.column_stack([xyz[:, :2], np.ones(points)]) @ H.T
        xy = projected[:, :2] / projected[:, 2:]
        J = (H[:2, :2][None] - xy[:, :, None] * H[2, :2][None, None]) / projected[:, 2, None, None]
        c, s = np.cos(angles), np.sin(angles)
        A = J @ np.stack([c, -s, s, c], axis=1).reshape(-1, 2, 2) * sizes[:, None, None]
        scale = np.sqrt(np.abs(np.linalg.det(A)))
        turn = np.arctan2(A[:, 1, 0] - A[:, 0, 1], A[:, 0, 0] + A[:, 1, 1])
        c, s = scale * np.cos(turn), scale * np.sin(turn)
        frames[name] = np.stack([c, -s, xy[:, 0], s, c, xy[:, 1]], axis=1).reshape(-1, 2, 3).astype(np.float32)
    count = len(poses)
    tracks = Tracks(
        images=names,
        R=np.array([R for R, _ in poses]),
        t=np.array([t for _, t in poses]),
        focals=np.full((count, 2), 300.0),
        points=xyz,
        image_ids=np.tile(np.arange(count, dtype=np.int32), points),
        rows=np.repeat(np.arange(points), count),
        point_ids=np.repeat(np.arange(points, dtype=np.int32), count),
        errors=np.zeros(points * count, np.float32),
    )
    return tracks, frames
