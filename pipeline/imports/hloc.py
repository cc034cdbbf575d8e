"""hloc's files: a group an image with keypoints (pixels counted from the first one's centre) and descriptors (D, N);
matches0 (N0,) under "a/b" or, in old files, "a_b", every "/" of the names turned into "-". Also our own run's files."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from desdis.errors import UserError
from pipeline.imports import checked_features, checked_indices, frames, numbers, opened
from pipeline.types import Features, Matches, Photo

_HALF = np.float32(0.5)


class HlocFeatures:
    def __init__(self, path: Path, photos: Sequence[Photo], descriptors: bool):
        self._path, self._photos, self._needed = path, photos, descriptors
        with opened(path) as file:
            found: set[str] = set()

            def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
                if isinstance(item, h5py.Dataset) or not len(item):  # an empty group is an image without anything
                    found.add(name.rsplit("/", 1)[0] if isinstance(item, h5py.Dataset) else name)

            file.visititems(visit)
        self.names = {photo.name for photo in photos} & found
        self.strangers = sorted(found - self.names)

    def features(self) -> Iterator[tuple[str, Features]]:
        with opened(self._path) as file:
            for photo in self._photos:
                if photo.name in self.names:
                    yield photo.name, self._read(file[photo.name], photo)

    def _read(self, group: h5py.Group, photo: Photo) -> Features:
        where = f"{self._path}: {photo.name}"

        def array(name: str, *shape: int | None) -> np.ndarray | None:
            return numbers(where, name, group[name], shape) if name in group else None

        keypoints = array("keypoints", None, 2)
        if keypoints is None:
            raise UserError(f"{where}: has no dataset keypoints (holds {', '.join(sorted(group)) or 'nothing'})")
        size = array("image_size", 2)
        if size is not None and tuple(size) != (photo.width, photo.height):
            raise UserError(
                f"{where}: features of an image of {size[0]} x {size[1]} pixels, but the photograph has "
                f"{photo.width} x {photo.height}"
            )
        centres, n = keypoints.astype(np.float32) + _HALF, len(keypoints)
        lafs = array("lafs", n, 2, 3)
        if lafs is None:
            lafs = frames(centres, array("scales", n), array("oris", n))
        else:
            lafs = lafs.astype(np.float32)
            lafs[:, :, 2] = centres
        descriptors = array("descriptors", None, None)
        if descriptors is not None:
            if descriptors.shape[1] != n and descriptors.shape[0] == n:
                raise UserError(f"{where}: descriptors are (N, D) = {descriptors.shape}; hloc stores them as (D, N)")
            descriptors = descriptors.T
        features = checked_features(where, photo, lafs, array("scores", n), descriptors, self._needed)
        upright = array("descriptors_upright", None, n)  # a run's own file
        if upright is not None:
            features.descriptors["upright"] = upright.T.astype(np.float32)
        return features


class HlocMatches:
    def __init__(self, path: Path, photos: Sequence[Photo]):
        self._path = path
        self._name_of: dict[str, str] = {}
        for photo in photos:
            flat = photo.name.replace("/", "-")
            if flat in self._name_of:
                raise UserError(f"{path}: hloc calls both {self._name_of[flat]} and {photo.name} {flat}: ambiguous")
            self._name_of[flat] = photo.name

    def matches(self, counts: dict[str, int]) -> Iterator[tuple[tuple[str, str], Matches]]:
        """Pairs of other images than the photographs are passed over; a pair that is there both ways is read once."""
        seen: set[frozenset[str]] = set()
        with opened(self._path) as file:
            for key, group in self._groups(file):
                pair = self._names(key)
                if pair is None or not all(name in counts for name in pair) or frozenset(pair) in seen:
                    continue
                seen.add(frozenset(pair))
                yield pair, self._read(group, pair, counts)
        if not seen:
            raise UserError(f"{self._path}: no pair of these photographs; matches are found under NAME/NAME")

    def _groups(self, file: h5py.File) -> list[tuple[str, h5py.Group]]:
        found: list[tuple[str, h5py.Group]] = []

        def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Group) and (
                not len(item) or any(isinstance(i, h5py.Dataset) for i in item.values())
            ):
                found.append((name, item))

        file.visititems(visit)
        return found

    def _names(self, key: str) -> tuple[str, str] | None:
        for separator in ("/", "_"):
            cut = key.find(separator)
            while cut >= 0:
                a, b = self._name_of.get(key[:cut]), self._name_of.get(key[cut + 1 :])
                if a is not None and b is not None:
                    return a, b
                cut = key.find(separator, cut + 1)
        return None

    def _read(self, group: h5py.Group, pair: tuple[str, str], counts: dict[str, int]) -> Matches:
        a, b = pair
        where = f"{self._path}: {a} + {b}"
        if "matches0" not in group:
            raise UserError(f"{where}: has no dataset matches0 (holds {', '.join(sorted(group)) or 'nothing'})")
        matches0 = numbers(where, "matches0", group["matches0"], (None,))
        if (matches0 == -1).all():  # hloc writes any length when a side has no descriptors
            matches0 = np.full(counts[a], -1, np.int32)
        if matches0.shape != (counts[a],):
            raise UserError(f"{where}: matches0 has shape {matches0.shape}, but {a} has {counts[a]} keypoints")
        rows = np.flatnonzero(matches0 != -1)
        indices = checked_indices(
            where, np.stack([rows.astype(matches0.dtype), matches0[rows]], axis=1), counts[a], counts[b]
        )
        scores = np.ones(len(rows))
        if "matching_scores0" in group:
            scores = numbers(where, "matching_scores0", group["matching_scores0"], matches0.shape)[rows]
        return Matches(indices, scores.astype(np.float32), str(group.attrs.get("orientation", "oriented")))
