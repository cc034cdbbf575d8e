"""A small scene rendered with exact poses: for the tests, and for `make demo`.

Out: `images/0000.jpg ...`, `cameras/0000.jpg.camera ...` (Strecha's format) and `sparse/` (a COLMAP model). It is the
corner of a courtyard: two walls, the ground and a few boxes, each face with a texture of its own, leaves of every size
(Lee, Mumford and Huang 2001) over multi-scale noise, seen in true perspective by a camera that walks along an arc.
Exposure, colour balance and noise change from picture to picture.

    python -m datasets.scenes.rendered FOLDER --images 10
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from datasets.cameras import Camera, Pose, Reference
from datasets.scenes.strecha import format_camera

_SUPERSAMPLING = 2
_DISTANCE = 7.0  # metres from the camera to the middle of the scene
_TARGET = np.array([-0.6, -0.4, 0.0])
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class Face:
    """A textured rectangle in the world (metres, y down): corner, unit directions of texture columns and rows, texture
    (h, w, 3) uint8 and the side of a texel."""

    corner: np.ndarray
    right: np.ndarray
    down: np.ndarray
    texture: np.ndarray
    texel: float


def render_scene(
    folder: Path,
    n_images: int = 10,
    size: tuple[int, int] = (640, 480),
    seed: int = 0,
    *,
    arc: float = 60.0,
    roll: float = 3.0,
    exposure: float = 0.25,
    noise: float = 2.0,
) -> Reference:
    """Render the scene into `folder`; returns poses and cameras by image name (COLMAP's pixel convention).

    size: (width, height). arc: degrees between the first and the last viewing direction. roll: standard deviation of
    the camera's roll in degrees. exposure: standard deviation of the logarithm of the gain. noise: standard deviation
    in grey levels. Equal arguments give equal files.
    """
    from datasets.scenes.colmap_model import write_model

    generator = np.random.default_rng(seed)
    width, height = size
    focal = 1.05 * max(size)
    camera = Camera.pinhole(np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]), width, height)
    faces = courtyard(generator, texel=_DISTANCE / focal)
    images, cameras = folder / "images", folder / "cameras"
    images.mkdir(parents=True, exist_ok=True)
    cameras.mkdir(exist_ok=True)
    poses: dict[str, Pose] = {}
    for index, angle in enumerate(np.linspace(-arc / 2, arc / 2, n_images)):
        name = f"{index:04d}.jpg"
        poses[name] = _walking_pose(generator, angle, roll)
        picture = _photographed(render_view(faces, camera, poses[name]), generator, exposure, noise)
        data = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
        (images / name).write_bytes(data.tobytes())
        (cameras / f"{name}.camera").write_text(format_camera(poses[name], camera))
    reference = Reference(poses, dict.fromkeys(poses, camera), "rendered")
    write_model(folder / "sparse", reference.poses, reference.cameras)
    return reference


def courtyard(generator: np.random.Generator, texel: float) -> list[Face]:
    """The faces of the scene. texel: metres; a camera whose pixels are as large at the scene's middle sees it sharp."""
    x, y, z = np.eye(3)
    faces = [
        _face(generator, np.array([-4.0, -3.5, 3.0]), x, y, 8.5, 5.0, texel),  # back wall
        _face(generator, np.array([-4.0, -3.5, -3.5]), z, y, 6.5, 5.0, texel),  # left wall
        _face(generator, np.array([-4.0, 1.5, 3.0]), x, -z, 8.5, 6.5, texel),  # ground
    ]
    for cx, cz, turn, wide, tall in ((-1.9, 0.9, 25, 1.4, 1.7), (0.5, 0.3, -35, 1.1, 1.1), (2.2, 1.5, 10, 1.5, 2.2)):
        angle = np.deg2rad(turn + generator.uniform(-10, 10))
        u, w = np.array([np.cos(angle), 0, np.sin(angle)]), np.array([-np.sin(angle), 0, np.cos(angle)])
        middle = np.array([cx, 1.5 - tall, cz])
        corners = [middle + wide / 2 * (a * u + b * w) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        for corner, along in zip(corners, (u, w, -u, -w), strict=True):
            faces.append(_face(generator, corner, along, y, wide, tall, texel))
        faces.append(_face(generator, corners[3], u, -w, wide, wide, texel))
    return faces


def render_view(faces: list[Face], camera: Camera, pose: Pose) -> np.ndarray:
    """(H, W, 3) float32, 0..255: the faces as a pinhole camera sees them, anti-aliased by supersampling."""
    ss = _SUPERSAMPLING
    rows, columns = camera.height * ss, camera.width * ss
    canvas = np.full((rows, columns, 3), 128, np.float32)
    nearest = np.zeros((rows, columns), np.float32)  # inverse depth
    x = (np.arange(columns, dtype=np.float32) + 0.5) / ss  # COLMAP's pixel convention
    y = ((np.arange(rows, dtype=np.float32) + 0.5) / ss)[:, None]
    for face in faces:
        # M (a, b, 1) = depth * pixel for the face's point corner + a right + b down, so M^-1 pixel = (a, b, 1) / depth.
        M = camera.K @ np.column_stack([pose.R @ face.right, pose.R @ face.down, pose.R @ face.corner + pose.t])
        if abs(np.linalg.det(M)) < 1e-9:
            continue  # seen edge on
        (a0, a1, a2), (b0, b1, b2), (w0, w1, w2) = np.linalg.inv(M).astype(np.float32)
        inverse_depth = w0 * x + w1 * y + w2
        ahead = np.flatnonzero(inverse_depth > np.maximum(nearest, 1e-6))
        if not len(ahead):
            continue
        r, c = np.divmod(ahead, columns)
        px, py, w = x[c], y[r, 0], inverse_depth.ravel()[ahead]
        a, b = (a0 * px + a1 * py + a2) / w, (b0 * px + b1 * py + b2) / w
        height, width = face.texture.shape[:2]
        inside = (a >= 0) & (b >= 0) & (a < width * face.texel) & (b < height * face.texel)
        if not inside.any():
            continue
        r, c, a, b = r[inside], c[inside], a[inside], b[inside]
        canvas[r, c] = _sample(face.texture, a / face.texel - 0.5, b / face.texel - 0.5)
        nearest[r, c] = w[inside]
    return cv2.resize(canvas, (camera.width, camera.height), interpolation=cv2.INTER_AREA)


def leaves(generator: np.random.Generator, width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8: opaque discs and rectangles with sizes by a power law, over smooth noise."""
    texture = np.full((height, width, 3), 127, np.float32)
    for octave in (128, 32, 8, 2):
        cells = height // octave + 3, width // octave + 3
        grid = generator.normal(0, 1, (*cells, 1)) + 0.3 * generator.normal(0, 1, (*cells, 3))
        smooth = cv2.resize(grid.astype(np.float32), None, fx=octave, fy=octave, interpolation=cv2.INTER_CUBIC)
        texture += 14 * smooth[octave : octave + height, octave : octave + width]
    tint = generator.uniform(0.75, 1.25, 3)
    for _ in range(width * height // 900):
        radius = min(3.0 * generator.uniform() ** -0.55, 90.0)  # many small ones, few large ones
        colour = (np.clip(generator.uniform(20, 235) * tint + generator.normal(0, 18, 3), 0, 255)).tolist()
        centre = generator.uniform((0, 0), (width, height))
        angle, ratio = generator.uniform(0, 360), generator.uniform(0.4, 1.0)
        if generator.uniform() < 0.5:
            box = cv2.boxPoints((centre.tolist(), (2 * radius, 2 * radius * ratio), angle))
            cv2.fillConvexPoly(texture, np.round(box * 16).astype(np.int32), colour, cv2.LINE_AA, 4)
        else:
            points = cv2.ellipse2Poly((0, 0), (100, int(100 * ratio)), int(angle), 0, 360, 12) * radius / 100 + centre
            cv2.fillConvexPoly(texture, np.round(points * 16).astype(np.int32), colour, cv2.LINE_AA, 4)
    return np.clip(cv2.GaussianBlur(texture, (0, 0), 0.6), 0, 255).astype(np.uint8)


def look_at(centre: np.ndarray, target: np.ndarray, roll: float = 0.0) -> Pose:
    """A camera at `centre` that looks at `target`, level but for `roll` degrees (y down is the world's down)."""
    forward = (target - centre) / np.linalg.norm(target - centre)
    right = np.cross(np.array([0.0, 1.0, 0.0]), forward)
    right /= np.linalg.norm(right)
    level = np.stack([right, np.cross(forward, right), forward])
    c, s = np.cos(np.deg2rad(roll)), np.sin(np.deg2rad(roll))
    R = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ level
    return Pose(R, -R @ centre)


def _walking_pose(generator: np.random.Generator, angle: float, roll: float) -> Pose:
    theta = np.deg2rad(angle + 8 + generator.normal(0, 1))  # the corner lies to the left: stand a little to the right
    distance = _DISTANCE * generator.uniform(0.88, 1.12)
    centre = _TARGET + distance * np.array([np.sin(theta), 0, -np.cos(theta)]) + [0, generator.uniform(-0.5, 0.3), 0]
    target = _TARGET + generator.normal(0, 0.15, 3)
    return look_at(centre, target, generator.normal(0, roll) if roll else 0.0)


def _face(
    generator: np.random.Generator,
    corner: np.ndarray,
    right: np.ndarray,
    down: np.ndarray,
    wide: float,
    tall: float,
    texel: float,
) -> Face:
    return Face(corner, right, down, leaves(generator, round(wide / texel), round(tall / texel)), texel)


def _sample(texture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(N, 3) float32: bilinear samples at N places, counted from the first texel's centre."""
    side = 16384  # remap's images have at most 32767 rows and columns
    padding = -len(x) % side
    maps = [np.pad(v.astype(np.float32), (0, padding)).reshape(-1, side) for v in (x, y)]
    sampled = cv2.remap(texture, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return sampled.reshape(-1, 3)[: len(x)].astype(np.float32)


def _photographed(picture: np.ndarray, generator: np.random.Generator, exposure: float, noise: float) -> np.ndarray:
    """(H, W, 3) uint8: with a gain, a colour balance and noise of its own."""
    gain = np.exp(generator.normal(0, exposure)) * np.exp(generator.normal(0, 0.03, 3))
    noisy = picture * gain.astype(np.float32) + generator.normal(0, noise, picture.shape).astype(np.float32)
    return np.clip(np.round(noisy), 0, 255).astype(np.uint8)


def main() -> None:
    """`python -m datasets.scenes.rendered FOLDER`."""
    parser = argparse.ArgumentParser(
        prog="python -m datasets.scenes.rendered", description="Render a small scene with exact poses."
    )
    parser.add_argument("folder", type=Path, help="where images/, cameras/ and sparse/ go")
    parser.add_argument("--images", type=int, default=10, help="how many (default 10)")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("W", "H"), help="in pixels")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    render_scene(given.folder, given.images, tuple(given.size), given.seed)
    print(f"{given.images} photographs rendered into {given.folder / 'images'}")


if __name__ == "__main__":
    main()
