"""Image sequences of a plane, or of changing light: homographies are the truth.

In: HPatches sequences (`1.ppm ... 6.ppm`, `H_1_2 ... H_1_6`), Oxford's (`img1 ...`, `H1to2p ...`), and pairs with
points made by hand (`A.jpg`, `B.jpg`, `points.txt`). Files count pixels from the first one's centre; homographies leave
here in COLMAP's convention.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.scenes.entries import read_numbers, read_text
from desdis.errors import UserError

_SUFFIXES = (".ppm", ".png", ".jpg", ".jpeg", ".pgm", ".tif")


@dataclass(frozen=True)
class PlaneSequence:
    """images[0] is the reference; homographies[k - 1] (3, 3) maps its pixels to those of images[k]."""

    name: str
    images: tuple[Path, ...]
    homographies: tuple[np.ndarray, ...]


def read_sequence(folder: Path) -> PlaneSequence:
    """One sequence. UserError where an image or a homography is missing, or a matrix is singular."""
    numbers = sorted(int(path.name[4:]) for path in folder.glob("H_1_*") if path.name[4:].isdecimal())
    image, matrix = "{}", "H_1_{}"
    if not numbers:
        numbers = sorted(int(p.name[4:-1]) for p in folder.glob("H1to*p") if p.name[4:-1].isdecimal())
        image, matrix = "img{}", "H1to{}p"
    if not numbers:
        raise UserError(f"{folder}: no homographies (H_1_2 ... or H1to2p ...)")
    numbers = [k for k in numbers if k != 1]
    images = [_image(folder, image.format(k)) for k in (1, *numbers)]
    homographies = [read_homography(folder / matrix.format(k)) for k in numbers]
    return PlaneSequence(folder.name, tuple(images), tuple(homographies))


def read_sequences(folder: Path) -> list[PlaneSequence]:
    """Every sub-folder that is a sequence, in order of name. UserError where the folder is absent or holds none."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; it should hold one sub-folder a sequence")
    found = [
        read_sequence(sub)
        for sub in sorted(folder.iterdir())
        if sub.is_dir() and (any(sub.glob("H_1_*")) or any(sub.glob("H1to*p")))
    ]
    if not found:
        raise UserError(f"{folder}: holds no sequence")
    return found


def read_homography(path: Path) -> np.ndarray:
    """(3, 3) float64, bottom right 1 where it is not 0, in COLMAP's pixel convention."""
    H = read_numbers(path, 9, "a homography, 3 rows of 3").reshape(3, 3)
    if not np.isfinite(H).all() or abs(np.linalg.det(H)) < 1e-12 * np.abs(H).max():
        raise UserError(f"{path}: not a homography (singular or not finite)")
    return _half_centre(H)


@dataclass(frozen=True)
class PointPair:
    """Two images of a plane and points (N, 4) xA yA xB yB in COLMAP's pixel convention."""

    name: str
    images: tuple[Path, Path]
    points: np.ndarray

    @property
    def homography(self) -> np.ndarray:
        """(3, 3): least squares through the points (algebraic error on normalised points), A to B."""
        return fit_homography(self.points[:, :2], self.points[:, 2:])


def read_point_pair(folder: Path) -> PointPair:
    """`A`, `B` and `points.txt` with lines xA yA xB yB."""
    path = folder / "points.txt"
    rows = [line.split() for line in _lines(path)]
    try:
        points = np.array([[float(word) for word in row] for row in rows])
    except ValueError:
        raise UserError(f"{path}: lines xA yA xB yB expected") from None
    if points.ndim != 2 or points.shape[1] != 4 or len(points) < 4 or not np.isfinite(points).all():
        raise UserError(f"{path}: at least four lines xA yA xB yB expected")
    return PointPair(folder.name, (_image(folder, "A"), _image(folder, "B")), points + 0.5)


def fit_homography(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(3, 3) with b ~ H a for (N, 2) points, N >= 4 (Hartley and Zisserman, normalised DLT)."""
    Ta, Tb = _normaliser(a), _normaliser(b)
    x, y = _homogeneous(a) @ Ta.T, _homogeneous(b) @ Tb.T
    zero = np.zeros_like(x)
    rows = [np.hstack([zero, -x, y[:, 1:2] * x]), np.hstack([x, zero, -y[:, :1] * x])]
    H = np.linalg.svd(np.vstack(rows))[2][-1].reshape(3, 3)
    H = np.linalg.inv(Tb) @ H @ Ta
    return H / H[2, 2]


def project(H: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(N, 2) points through a homography."""
    mapped = _homogeneous(points) @ H.T
    return mapped[:, :2] / mapped[:, 2:]


def _half_centre(H: np.ndarray) -> np.ndarray:
    shift = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    H = shift @ H @ np.linalg.inv(shift)
    return H / H[2, 2] if H[2, 2] else H


def _homogeneous(points: np.ndarray) -> np.ndarray:
    return np.column_stack([points, np.ones(len(points))])


def _normaliser(points: np.ndarray) -> np.ndarray:
    centre = points.mean(axis=0)
    scale = np.sqrt(2) / np.linalg.norm(points - centre, axis=1).mean()
    return np.array([[scale, 0, -scale * centre[0]], [0, scale, -scale * centre[1]], [0, 0, 1]])


def _image(folder: Path, stem: str) -> Path:
    for suffix in _SUFFIXES:
        if (folder / f"{stem}{suffix}").is_file():
            return folder / f"{stem}{suffix}"
    raise UserError(f"{folder}: the image {stem} ({', '.join(_SUFFIXES)}) is missing")


def _lines(path: Path) -> list[str]:
    return [line for line in read_text(path).splitlines() if line.strip() and not line.lstrip().startswith("#")]
