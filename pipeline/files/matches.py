"""matches.h5: hloc's layout. The only code that knows it.

A pair (a, b) lies under "a/b" with every "/" of the names turned into "-": `matches0` (N0,) int32, the row of b's
match or -1, and `matching_scores0` (N0,) float16. int32 where
hloc writes int16: more than 32,767 keypoints must not wrap. Attributes of a pair: `orientation`, `names` (the true
names: the key alone is ambiguous) and, last, `complete`.
"""

from pathlib import Path

import h5py
import numpy as np

from pipeline.files import appending as appending
from pipeline.types import Matches


def key(a: str, b: str) -> str:
    return f"{a.replace('/', '-')}/{b.replace('/', '-')}"


def has(file: h5py.File, a: str, b: str) -> bool:
    return key(a, b) in file and bool(file[key(a, b)].attrs.get("complete", False))


def write(file: h5py.File, a: str, b: str, matches: Matches, num_keypoints: int) -> None:
    """Write the matches of a pair whose first image has `num_keypoints` keypoints. The caller flushes."""
    if key(a, b) in file:
        del file[key(a, b)]
    group = file.create_group(key(a, b))
    matches0 = np.full(num_keypoints, -1, np.int32)
    scores0 = np.zeros(num_keypoints, np.float16)
    matches0[matches.indices[:, 0]] = matches.indices[:, 1]
    scores0[matches.indices[:, 0]] = matches.scores
    # Mostly -1 and 0: packing saves nine tenths, and hloc reads it as it is.
    group.create_dataset("matches0", data=matches0, compression="gzip", compression_opts=1)
    group.create_dataset("matching_scores0", data=scores0, compression="gzip", compression_opts=1)
    group.attrs["orientation"] = matches.orientation
    group.attrs["names"] = [a, b]
    group.attrs["complete"] = True


def read(file: h5py.File, a: str, b: str) -> Matches:
    """Matches of a pair, ordered by the first image's row; a pair stored as (b, a) is turned round."""
    if key(a, b) not in file and key(b, a) in file:
        turned = read(file, b, a)
        return Matches(turned.indices[:, ::-1].copy(), turned.scores, turned.orientation)
    group = file[key(a, b)]
    matches0 = group["matches0"][()]
    rows = np.flatnonzero(matches0 >= 0)
    indices = np.stack([rows, matches0[rows]], axis=1).astype(np.int32)
    orientation = str(group.attrs.get("orientation", "oriented"))
    return Matches(indices, group["matching_scores0"][()][rows].astype(np.float32), orientation)


def pairs(path: Path) -> list[tuple[str, str]]:
    """Names of the complete pairs, in the file's order."""
    found: list[tuple[str, str]] = []

    def visit(_: str, item: h5py.Group | h5py.Dataset) -> None:
        if item.attrs.get("complete", False):
            a, b = item.attrs["names"]
            found.append((str(a), str(b)))

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return found


def orientation(file: h5py.File, a: str, b: str) -> str:
    """The descriptors that were matched for a pair: "oriented" or "upright"."""
    return str(file[key(a, b)].attrs["orientation"])
