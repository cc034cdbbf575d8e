"""Other people's features and matches, told apart by their layout and read into ours.

A reader takes the photographs that there are and yields what the file says about them. Whatever a file lacks or has
wrong is a UserError that names file and entry; nothing is repaired silently.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np

from desdis.errors import UserError
from pipeline.types import Features, Matches, Photo


class FeatureReader(Protocol):
    """names: the photographs that have features. strangers: entries of the file that belong to no photograph."""

    names: set[str]
    strangers: list[str]

    def features(self) -> Iterator[tuple[str, Features]]: ...


class MatchReader(Protocol):
    """counts: keypoints of each photograph, to check indices against."""

    def matches(self, counts: dict[str, int]) -> Iterator[tuple[tuple[str, str], Matches]]: ...


def read_features(path: Path, photos: Sequence[Photo], descriptors: bool) -> FeatureReader:
    """The features of an hloc file, or of an IMC folder (or its keypoints.h5). `descriptors` says that they are needed.

    Raises UserError where the path is neither, or belongs to other photographs.
    """
    from pipeline.imports.hloc import HlocFeatures
    from pipeline.imports.imc import ImcFeatures

    file = path / "keypoints.h5" if path.is_dir() else path
    with opened(file) as content:
        flat = path.is_dir() or _flat(content)
        if not len(content):
            raise UserError(f"{file}: holds nothing")
    found: FeatureReader = (ImcFeatures if flat else HlocFeatures)(file, photos, descriptors)
    if not found.names:
        theirs = ", ".join(found.strangers[:3])
        raise UserError(f"{file}: features of other photographs (holds {theirs}; the folder holds {photos[0].name})")
    return found


def read_matches(path: Path, photos: Sequence[Photo]) -> MatchReader:
    """The matches of an hloc file or an IMC matches.h5."""
    from pipeline.imports.hloc import HlocMatches
    from pipeline.imports.imc import ImcMatches

    with opened(path) as content:
        flat = _flat(content) or not len(content)
    return (ImcMatches if flat else HlocMatches)(path, photos)


def _flat(content: h5py.File) -> bool:
    """Whether arrays lie at the root, as in IMC's files; hloc's has groups there."""
    return any(isinstance(item, h5py.Dataset) for item in content.values())


def opened(path: Path) -> h5py.File:
    """The HDF5 file for reading. Raises UserError where there is none."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; features and matches are given as HDF5 files of hloc or IMC")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path}: not an HDF5 file that can be read ({str(error).splitlines()[0][:120]})") from None


def numbers(where: str, name: str, item: h5py.Group | h5py.Dataset, shape: tuple[int | None, ...]) -> np.ndarray:
    """The array of numbers that an entry holds; None in `shape` is any size. Raises UserError that begins with `where`
    and names the entry where it is a group, holds no numbers, or has another shape."""
    if not isinstance(item, h5py.Dataset):
        raise UserError(f"{where}: {name} is {'a' if len(item) else 'an empty'} group, a dataset expected")
    if item.dtype.kind not in "iuf":
        raise UserError(f"{where}: {name} holds no numbers but {item.dtype}")
    agrees = (want in (None, got) for want, got in zip(shape, item.shape, strict=False))
    if len(item.shape) != len(shape) or not all(agrees):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise UserError(f"{where}: {name} has shape {item.shape}, expected ({wanted})")
    return item[()]


def checked_features(
    where: str,
    photo: Photo,
    lafs: np.ndarray,
    scores: np.ndarray | None,
    descriptors: np.ndarray | None,
    needed: bool,
) -> Features:
    """Features of a photograph from arrays as another program left them: lafs (N, 2, 3) in COLMAP's pixels, scores
    (N,) or None, descriptors (any, D) or None. Raises UserError that begins with `where`."""
    n = len(lafs)
    if not np.isfinite(lafs).all():
        raise UserError(f"{where}: keypoints hold NaN or infinite numbers")
    if n and ((lafs[:, :, 2] < -1).any() or (lafs[:, :, 2] > (photo.width + 1, photo.height + 1)).any()):
        raise UserError(f"{where}: keypoints lie outside the photograph of {photo.width} x {photo.height} pixels")
    if descriptors is None and needed:
        raise UserError(f"{where}: has no descriptors; give the matches too (--matches)")
    described = np.zeros((n, 0), np.float32) if descriptors is None else descriptors
    if len(described) != n:
        raise UserError(f"{where}: {n} keypoints, but descriptors for {described.shape[0]}")
    if not np.isfinite(described).all():
        raise UserError(f"{where}: descriptors hold NaN or infinite numbers")
    if described.shape[1]:
        # The matcher compares unit vectors; what others leave unnormalised (or as bytes) is meant the same way.
        norms = np.linalg.norm(described.astype(np.float32), axis=1, keepdims=True)
        described = described / np.maximum(norms, 1e-12)
    strengths = np.zeros(n) if scores is None else scores
    return Features(
        lafs.astype(np.float32),
        strengths.astype(np.float32),
        {"oriented": described.astype(np.float32)},
        (photo.width, photo.height),
    )


def checked_indices(where: str, indices: np.ndarray, first: int, second: int) -> np.ndarray:
    """(M, 2) int32 in range of the two photographs' keypoints. Raises UserError that begins with `where`."""
    if not np.issubdtype(indices.dtype, np.integer):
        raise UserError(f"{where}: match indices are {indices.dtype}, expected integers")
    if len(indices) and (indices.min() < 0 or (indices.max(axis=0) >= (first, second)).any()):
        raise UserError(
            f"{where}: matches point beyond the keypoints ({first} and {second}); the files are of different runs, "
            "or 16-bit indices wrapped round"
        )
    return indices.astype(np.int32)


def frames(centres: np.ndarray, sigma: np.ndarray | None, degrees: np.ndarray | None) -> np.ndarray:
    """(N, 2, 3) frames from centres (COLMAP's pixels), scales and angles (clockwise on screen); 1 and 0 by default."""
    n = len(centres)
    scale = np.ones(n) if sigma is None else np.asarray(sigma, np.float64)
    angle = np.zeros(n) if degrees is None else np.radians(np.asarray(degrees, np.float64))
    lafs = np.empty((n, 2, 3), np.float32)
    lafs[:, 0, 0], lafs[:, 0, 1] = scale * np.cos(angle), -scale * np.sin(angle)
    lafs[:, 1, 0], lafs[:, 1, 1] = scale * np.sin(angle), scale * np.cos(angle)
    lafs[:, :, 2] = centres
    return lafs
