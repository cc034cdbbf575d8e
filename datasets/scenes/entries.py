"""What the readers of poses and cameras share: numbers from text, checks of a pose, and whose entry it is."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from datasets.cameras import Pose
from desdis.errors import UserError

_ORTHONORMAL = 1e-3  # text files with four digits pass


def read_text(path: Path) -> str:
    """A text file, or UserError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be opened: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file") from None


def read_numbers(path: Path, count: int, layout: str) -> np.ndarray:
    """(count,) float64, all numbers of a text file without its comment lines (#). layout says what they should be."""
    words = [
        word for line in read_text(path).splitlines() if not line.lstrip().startswith("#") for word in line.split()
    ]
    try:
        numbers = np.array([float(word) for word in words], dtype=np.float64)
    except ValueError:
        raise UserError(f"{path}: holds words where numbers should be; expected {layout}") from None
    if len(numbers) != count:
        raise UserError(f"{path}: holds {len(numbers)} numbers, {count} expected: {layout}")
    return numbers


def parse_numbers(text: str, count: int, separator: str | None, where: str) -> np.ndarray:
    """(count,) float64 from a field of a table; `where` names it in the error. NaN passes."""
    try:
        numbers = np.array([float(word) for word in text.split(separator)], dtype=np.float64)
    except ValueError:
        raise UserError(f"{where}: not numbers: {text[:60]!r}") from None
    if len(numbers) != count:
        raise UserError(f"{where}: {len(numbers)} numbers, {count} expected")
    return numbers


def checked_pose(R: np.ndarray, t: np.ndarray, where: str) -> Pose:
    """A cam_from_world pose; UserError naming `where` when it is not finite or R is no rotation."""
    R, t = np.asarray(R, np.float64).reshape(3, 3), np.asarray(t, np.float64).reshape(3)
    if not (np.isfinite(R).all() and np.isfinite(t).all()):
        raise UserError(f"{where}: the pose holds NaN or infinite numbers")
    error = float(np.abs(R @ R.T - np.eye(3)).max())
    if error > _ORTHONORMAL or np.linalg.det(R) < 0:
        kind = "is a mirroring" if error <= _ORTHONORMAL else f"is not orthonormal (off by {error:.2g})"
        raise UserError(f"{where}: the rotation {kind}")
    return Pose(R, t)


def checked_K(K: np.ndarray, where: str) -> np.ndarray:
    """(3, 3) calibration matrix with positive focal lengths and last row 0 0 1; UserError otherwise."""
    K = np.asarray(K, np.float64).reshape(3, 3)
    if not np.isfinite(K).all():
        raise UserError(f"{where}: K holds NaN or infinite numbers")
    if K[0, 0] <= 0 or K[1, 1] <= 0 or not np.allclose(K[2], [0, 0, 1]):
        raise UserError(f"{where}: not a calibration matrix (fx and fy positive, last row 0 0 1)")
    return K


def half_centre(K: np.ndarray) -> np.ndarray:
    """K that counts from the first pixel's centre, in COLMAP's convention: half a pixel is added to cx and cy."""
    return K + _HALF


def whole_centre(K: np.ndarray) -> np.ndarray:
    """The inverse of `half_centre`: K as counted from the first pixel's centre."""
    return K - _HALF


_HALF = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])


def owners(entries: Iterable[str], names: Sequence[str], where: str) -> dict[str, str]:
    """Entry of each photograph: {photograph's name: entry}, for the photographs that have one.

    An entry is a path or a name, with or without suffix. It belongs to the photograph that agrees with it in most of
    the path, read from the end (`a/1.jpg` before `b/1.jpg` for `set/a/1.jpg`). UserError where two photographs agree
    with one entry, or two entries with one photograph, equally well, and where nothing agrees at all.
    """
    by_stem: dict[str, list[str]] = {}
    for entry in entries:
        for stem in {PurePosixPath(entry).name, _stem(entry)}:
            by_stem.setdefault(stem, []).append(entry)
    found: dict[str, str] = {}
    claimed: dict[str, tuple[int, str]] = {}
    for name in names:
        base = PurePosixPath(name).name
        candidates = by_stem.get(base) or by_stem.get(_stem(name)) or []
        if not candidates:
            continue
        scores = [_agreement(name, entry) for entry in candidates]
        best = max(scores)
        if scores.count(best) > 1:
            a, b = [entry for entry, score in zip(candidates, scores, strict=True) if score == best][:2]
            raise UserError(f"{where}: {a} and {b} both fit the photograph {name}; give those of one scene")
        entry = candidates[scores.index(best)]
        if entry in claimed:
            if claimed[entry][0] == best:
                raise UserError(f"{where}: {entry} fits two photographs, {claimed[entry][1]} and {name}")
            if claimed[entry][0] > best:
                continue
            del found[claimed[entry][1]]
        claimed[entry] = best, name
        found[name] = entry
    if not found:
        theirs = ", ".join(sorted({entry for group in by_stem.values() for entry in group})[:3])
        mine = ", ".join(list(names)[:3])
        raise UserError(f"{where}: belongs to other photographs (holds {theirs or 'nothing'}; the folder holds {mine})")
    return found


def pick(values: Mapping[str, object], names: Sequence[str], where: str) -> dict:
    """`values` by photograph's name instead of by entry."""
    return {name: values[entry] for name, entry in owners(values, names, where).items()}


def _stem(name: str) -> str:
    base = PurePosixPath(name)
    return base.stem if base.suffix.lower() in _IMAGE_SUFFIXES else base.name


_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".ppm", ".pgm", ".pnm"}


def _agreement(name: str, entry: str) -> int:
    """Twice the number of path parts that agree from the end, one more if the suffix agrees as well."""
    a, b = PurePosixPath(name), PurePosixPath(entry)
    score = 3 if a.name == b.name else 2
    for x, y in zip(reversed(a.parts[:-1]), reversed(b.parts[:-1]), strict=False):
        if x != y:
            break
        score += 2
    return score
