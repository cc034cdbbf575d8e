"""IMC 2020 / 2021 files: flat HDF5, image names without suffix, pairs `A-B` with the larger name first, (2, M) indices.

Pixels are taken as COLMAP's, as the benchmark itself takes them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from datasets.scenes.imc import split_key
from desdis.errors import UserError
from pipeline.imports import checked_features, checked_indices, frames, numbers, opened
from pipeline.types import Features, Matches, Photo


def _stems(path: Path, photos: Sequence[Photo]) -> dict[str, Photo]:
    found: dict[str, Photo] = {}
    for photo in photos:
        stem = PurePosixPath(photo.name).stem
        if stem in found:
            raise UserError(f"{path}: IMC calls both {found[stem].name} and {photo.name} {stem}: ambiguous")
        found[stem] = photo
    return found


class ImcFeatures:
    """keypoints.h5 and, beside it, descriptors.h5, scores.h5, scales.h5 (OpenCV's size) and angles.h5 (degrees)."""

    def __init__(self, path: Path, photos: Sequence[Photo], descriptors: bool):
        self._path, self._needed = path, descriptors
        self._photos = _stems(path, photos)
        with opened(path) as file:
            stems = set(file)
        self.names = {photo.name for stem, photo in self._photos.items() if stem in stems}
        self.strangers = sorted(stems - set(self._photos))

    def features(self) -> Iterator[tuple[str, Features]]:
        for stem, photo in self._photos.items():
            if photo.name not in self.names:
                continue
            keypoints = self._array("keypoints", stem, None, 2)
            assert keypoints is not None
            n = len(keypoints)
            sizes, angles = self._array("scales", stem, n), self._array("angles", stem, n)
            lafs = frames(keypoints.astype(np.float32), None if sizes is None else sizes / 2, angles)
            affine = self._array("affine", stem, n, 2, 2)
            if affine is not None:
                lafs[:, :, :2] = affine
            scores, descriptors = self._array("scores", stem, n), self._array("descriptors", stem, None, None)
            where = f"{self._path}: {stem}"
            yield photo.name, checked_features(where, photo, lafs, scores, descriptors, self._needed)

    def _array(self, kind: str, stem: str, *shape: int | None) -> np.ndarray | None:
        """The entry of that image in `kind`.h5; None where there is no such file."""
        path = self._path.with_name(f"{kind}.h5") if kind != "keypoints" else self._path
        if not path.is_file():
            return None
        with opened(path) as file:
            if stem not in file:
                raise UserError(f"{path}: has no entry {stem}, but {self._path.name} has")
            return numbers(str(path), stem, file[stem], shape)


class ImcMatches:
    def __init__(self, path: Path, photos: Sequence[Photo]):
        self._path, self._photos = path, _stems(path, photos)

    def matches(self, counts: dict[str, int]) -> Iterator[tuple[tuple[str, str], Matches]]:
        """Each pair in the order of the photographs' names."""
        known = set(self._photos)
        with opened(self._path) as file:
            if not len(file):
                raise UserError(f"{self._path}: holds nothing")
            for key in file:
                a, b = split_key(key, known, str(self._path))
                where = f"{self._path}: {key}"
                columns = numbers(str(self._path), key, file[key], (2, None))
                first, second = self._photos[a].name, self._photos[b].name
                if first not in counts or second not in counts:
                    continue
                indices = checked_indices(where, columns.T, counts[first], counts[second])
                if first > second:
                    first, second, indices = second, first, indices[:, ::-1].copy()
                indices = indices[np.unique(indices[:, 0], return_index=True)[1]]  # one match a keypoint
                yield (first, second), Matches(indices, np.ones(len(indices), np.float32))
