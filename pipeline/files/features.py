"""features.h5: hloc's layout, plus what it lacks. The only code that knows it.

One group an image (its posix path, "/" nests): `keypoints` (N, 2) float32 in hloc's convention (pixel centres at
integers), `descriptors` (D, N) float32, `scores` (N,) float32, `image_size` (2,) int64 (width, height); ours on top:
`lafs` (N, 2, 3) float32, same convention as the keypoints, and `descriptors_upright` (D, N) where both orientations
were described, or `descriptors_oriented` (D, P), P <= N, where of the oriented ones there are only the first P
(the others are zero rows in memory). The group's attribute `complete` is written last: a group without it is a torn
one and is redone. File attributes: `format`, `pixel_convention`, `manifest` (JSON).

A kill leaves a readable file because every item is flushed before the next begins (and never libver="latest").
"""

from pathlib import Path

import h5py
import numpy as np

from pipeline.files import appending as appending
from pipeline.types import Features

_HALF = np.float32(0.5)
PROBE = 512  # strongest keypoints described both ways where the orientation is still open: enough to tell
_CONVENTION = "integer centres (hloc): add 0.5 for COLMAP"


def has(file: h5py.File, name: str, orientations: tuple[str, ...] = ()) -> bool:
    """Whether the image is there, completely, and described in these orientations. "probe" is fulfilled by any
    oriented descriptors, "oriented" only by all of them."""
    if name not in file or not file[name].attrs.get("complete", False):
        return False
    group = file[name]
    held = {_first(group)} | {other for other in ("upright", "oriented") if f"descriptors_{other}" in group}
    if "descriptors_oriented" in group:
        held.remove("oriented")
        held.add("probe")
    return all(wanted in held or (wanted == "probe" and "oriented" in held) for wanted in orientations)


def _first(group: h5py.Group) -> str:
    return str(group["descriptors"].attrs.get("orientation", "oriented"))


def names(path: Path) -> list[str]:
    """Names of the images whose features are complete, sorted."""
    found: list[str] = []
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, item: found.append(name) if item.attrs.get("complete", False) else None)
    return sorted(found)


def write(file: h5py.File, name: str, features: Features) -> None:
    """Write one image's features and flush; an unfinished item of that name is replaced."""
    if name in file:
        del file[name]
    if "pixel_convention" not in file.attrs:
        file.attrs["pixel_convention"] = _CONVENTION
    group = file.create_group(name)
    group["keypoints"] = features.keypoints - _HALF
    lafs = features.lafs.astype(np.float32).copy()
    lafs[:, :, 2] -= _HALF
    group["lafs"] = lafs
    group["scores"] = features.scores.astype(np.float32)
    group["image_size"] = np.array(features.image_size, np.int64)
    first, *second = features.descriptors
    group["descriptors"] = np.ascontiguousarray(features.descriptors[first].T, dtype=np.float32)
    group["descriptors"].attrs["orientation"] = first
    for other in second:
        described = features.descriptors[other]
        if other == "oriented":  # the probe: zero rows at the end are not kept
            described = described[: 1 + np.flatnonzero(described.any(axis=1)).max(initial=-1)]
        group[f"descriptors_{other}"] = np.ascontiguousarray(described.T, dtype=np.float32)
    group.attrs["complete"] = True
    file.flush()


def read(file: h5py.File, name: str, *, descriptors: bool = True, only: tuple[str, ...] | None = None) -> Features:
    """Read one image's features back into COLMAP's convention. hloc files without `lafs` get unit frames. `only`: the
    orientations wanted, where not all that are there."""
    group = file[name]
    if "lafs" in group:
        lafs = group["lafs"][()].astype(np.float32)
    else:
        lafs = np.zeros((len(group["keypoints"]), 2, 3), np.float32)
        lafs[:, 0, 0] = lafs[:, 1, 1] = 1
    lafs[:, :, 2] = group["keypoints"][()].astype(np.float32) + _HALF
    scores = group["scores"][()] if "scores" in group else np.zeros(len(lafs), np.float32)
    sets = {}
    if descriptors:
        where = {_first(group): "descriptors"}
        where |= {o: f"descriptors_{o}" for o in ("upright", "oriented") if f"descriptors_{o}" in group}
        for orientation, dataset in where.items():
            if only is None or orientation in only:
                columns = group[dataset][()]
                rows = sets[orientation] = np.zeros((len(lafs), len(columns)), columns.dtype)
                rows[: columns.shape[1]] = columns.T
    width, height = (int(v) for v in group["image_size"][()])
    return Features(lafs, scores, sets, (width, height))


def read_probe(file: h5py.File, name: str) -> dict[str, np.ndarray]:
    """By orientation, (P, D) descriptors of the same keypoints: the first PROBE that have both."""
    group = file[name]
    if "descriptors_oriented" in group:
        oriented = group["descriptors_oriented"][:, :PROBE].T
        return {"upright": group["descriptors"][:, : len(oriented)].T, "oriented": oriented}
    upright = group["descriptors_upright"][()].T
    rows = np.flatnonzero(upright.any(axis=1))[:PROBE]
    return {"upright": upright[rows], "oriented": group["descriptors"][()].T[rows]}
