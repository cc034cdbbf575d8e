"""hloc's files: a group an image with keypoints (pixels counted from the first one's centre) and descriptors (D, N);
matches0 (N0,) under "a/b" or, in old files, "a_b", every "/" of the names turned into "-". Also our own run's files."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from desdis.errors import UserError
from pipeline.imports import checked_features, checked_indices, frames, opened
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
        arrays = {key: item[()] for key, item in group.items() if isinstance(item, h5py.Dataset)}
        keypoints = arrays.get("keypoints")
        if keypoints is None:
            raise UserError(f"{where}: has no dataset keypoints (holds {', '.join(sorted(arrays)) or 'nothing'})")
        if keypoints.ndim != 2 or keypoints.shape[1] != 2:
            raise UserError(f"{where}: keypoints have shape {keypoints.shape}, expected (N, 2)")
        size = arrays.get("image_size")
        if size is not None and tuple(int(v) for v in size) != (photo.width, photo.height):
            raise UserError(
                f"{where}: features of an image of {int(size[0])} x {int(size[1])} pixels, but the photograph has "
                f"{photo.width} x {photo.height}"
            )
        centres = keypoints.astype(np.float32) + _HALF
        if "lafs" in arrays:
            lafs = arrays["lafs"].astype(np.float32)
            lafs[:, :, 2] = centres
        else:
            lafs = frames(centres, arrays.get("scales"), arrays.get("oris"))
        descriptors = arrays.get("descriptors")
        if descriptors is not None and descriptors.ndim == 2:
            if descriptors.shape[1] != len(centres) and descriptors.shape[0] == len(centres):
                raise UserError(f"{where}: descriptors are (N, D) = {descriptors.shape}; hloc stores them as (D, N)")
            descriptors = descriptors.T
        features = checked_features(where, photo, lafs, arrays.get("scores"), descriptors, self._needed)
        if "descriptors_upright" in arrays:
            features.descriptors["upright"] = arrays["descriptors_upright"].T.astype(np.float32)
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
        matches0 = group["matches0"][()]
        if (matches0 == -1).all():  # hloc writes any length when a side has no descriptors
            matches0 = np.full(counts[a], -1, np.int32)
        if matches0.shape != (counts[a],):
            raise UserError(f"{where}: matches0 has shape {matches0.shape}, but {a} has {counts[a]} keypoints")
        rows = np.flatnonzero(matches0 != -1)
        indices = checked_indices(
            where, np.stack([rows.astype(matches0.dtype), matches0[rows]], axis=1), counts[a], counts[b]
        )
        scores = group["matching_scores0"][()][rows] if "matching_scores0" in group else np.ones(len(rows))
        return Matches(indices, scores.astype(np.float32), str(group.attrs.get("orientation", "oriented")))
