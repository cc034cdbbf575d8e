"""Several patch sets read as one: tracks with homography pairs mixed in, say."""

from collections.abc import Sequence

import numpy as np

from desdis.errors import UserError
from desdis.patchsets import PatchSet


class Joined:
    """Arrays (N_k, ...) one after another, read by row numbers 0 .. N - 1 as one (N, ...); on disk they stay apart.
    Raises IndexError for other rows."""

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts, self.ends = parts, np.cumsum([len(part) for part in parts])
        self.shape, self.dtype = (int(self.ends[-1]), *parts[0].shape[1:]), parts[0].dtype
        self.nbytes = sum(part.nbytes for part in parts)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        rows = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()} .. {rows.max()} of an array that has {len(self)}")
        found, whose = np.empty((len(rows), *self.shape[1:]), self.dtype), np.searchsorted(self.ends, rows, "right")
        for number, part in enumerate(self.parts):
            mine = whose == number
            found[mine] = part[rows[mine] - (self.ends[number] - len(part))]
        return found


def join(sets: Sequence[PatchSet]) -> PatchSet:
    """One set to draw from; each comes as often as it has points. Where a set has no upright patches, its oriented ones
    stand in. Raises UserError where the patches are of different kinds."""
    first = sets[0]
    if len(sets) == 1:
        return first
    for data in sets:
        if "oriented" not in data.patches:
            raise UserError(f"{data.folder} holds upright patches alone and cannot be joined; train on it by itself")
    kinds = [(s.margin, s.manifest.get("magnification"), s.patches["oriented"].shape[1]) for s in sets]
    for other, kind in zip(sets, kinds, strict=True):
        if kind != kinds[0]:
            raise UserError(
                f"{first.folder} and {other.folder} cannot be joined: margin, magnification and patch size are "
                f"{kinds[0]} and {kind}; build one of them again"
            )
    rows, points, scenes = (
        np.cumsum([0, *counts])
        for counts in (
            [len(s.point_ids) for s in sets],
            [len(s.points) for s in sets],
            [len(s.manifest["scenes"]) for s in sets],
        )
    )
    manifest = {
        **first.manifest, "count": int(rows[-1]), "points": int(points[-1]),
        "scenes": [scene for s in sets for scene in s.manifest["scenes"]],
        "images": [image for s in sets for image in s.manifest.get("images", [])],
        "source_sha256": " + ".join(str(s.manifest.get("source_sha256")) for s in sets),
    }  # fmt: skip
    orientations = dict.fromkeys(name for s in sets for name in s.patches)
    return PatchSet(
        folder=first.folder,
        manifest=manifest,
        patches={name: Joined([s.patches.get(name, s.patches["oriented"]) for s in sets]) for name in orientations},
        point_ids=np.concatenate([s.point_ids + points[k] for k, s in enumerate(sets)]),
        scene_ids=np.concatenate([s.scene_ids + scenes[k] for k, s in enumerate(sets)]),
        views=np.concatenate([s.views for s in sets]),
        rolls=np.concatenate([s.rolls for s in sets]),
        points=np.concatenate([s.points for s in sets]),
        point_sizes=np.concatenate([s.point_sizes for s in sets]),
        pairs=np.concatenate([np.column_stack([s.pairs[:, :2] + rows[k], s.pairs[:, 2]]) for k, s in enumerate(sets)]),
        starts=np.append(np.concatenate([s.starts[:-1] + rows[k] for k, s in enumerate(sets)]), rows[-1]),
        parts=tuple(sets),
    )
