"""Training's view of a patch set: a folder of numpy files (written by datasets.patches.sfm_tracks), memory-mapped.

patches.npy          (N, 64, 64) uint8, each row in its own oriented frame, `margin` wider than what is described
patches_upright.npy  (N, 64, 64) uint8, the same rows at angle 0 (may be absent)
point_ids.npy        (N,) the 3D point; rows of a point are consecutive and come from different images of one scene
scene_ids.npy        (N,) index into manifest.json's "scenes"
views.npy            (N, 3) unit vector from the point to the camera
rolls.npy            (N,) degrees; the difference of two rows is how far their upright patches are turned apart
points.npy           (P, 3), point_sizes.npy (P,): where the points lie and sigma, in their scene's unit
pairs.npy            (M, 3) row, row, label: fixed matching and non-matching pairs for FPR95
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from desdis.errors import UserError

UPRIGHT_ROLL = 25.0  # degrees: beyond this, upright patches of one point do not show the same thing
NEEDED = ("patches", "point_ids", "scene_ids", "views", "points", "point_sizes", "pairs")


@dataclass(frozen=True)
class PatchSet:
    """See the module. `starts` (P + 1,) are the first rows of the points; `orientations` what patches there are."""

    folder: Path
    manifest: dict
    patches: dict[str, Any]  # "oriented" and maybe "upright": (N, 64, 64) uint8, an array or desdis.joined_sets.Joined
    point_ids: np.ndarray
    scene_ids: np.ndarray
    views: np.ndarray
    rolls: np.ndarray
    points: np.ndarray
    point_sizes: np.ndarray
    pairs: np.ndarray
    starts: np.ndarray
    parts: "tuple[PatchSet, ...]" = ()  # of a joined set, see desdis.joined_sets

    @property
    def margin(self) -> float:
        """Half width of a stored patch over half width of what is described."""
        return float(self.manifest.get("margin", 1.0))

    @property
    def point_scenes(self) -> np.ndarray:
        """(P,) the scene of every point."""
        return np.asarray(self.scene_ids)[self.starts[:-1]]


def read_patch_set(folder: Path) -> PatchSet:
    """Open a patch set without reading its patches. Raises UserError if a file is absent or does not fit the others."""
    folder = Path(folder)
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"{folder} is no patch set: manifest.json is absent or broken; build it again") from error
    arrays = {}
    for path in sorted(folder.glob("*.npy")):
        try:
            arrays[path.stem] = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}); build the patch set again") from error
    absent = [f"{name}.npy" for name in NEEDED if name not in arrays]
    if absent:
        raise UserError(f"{folder} lacks {', '.join(absent)}; build the patch set again")
    patches = arrays["patches"]
    if patches.dtype != np.uint8 or patches.ndim != 3 or patches.shape[1] != patches.shape[2] or len(patches) < 4:
        raise UserError(f"{folder}/patches.npy is {patches.dtype} {patches.shape}; it must be uint8 (N, S, S), N > 3")
    count = len(patches)
    for name in ("patches_upright", "point_ids", "scene_ids", "views", "rolls"):
        if name in arrays and len(arrays[name]) != count:
            raise UserError(f"{folder}/{name}.npy has {len(arrays[name])} rows, patches.npy {count}; build it again")
    point_ids = np.asarray(arrays["point_ids"])
    starts = np.append(np.flatnonzero(np.diff(point_ids, prepend=-1)), count)
    if len(starts) - 1 != len(arrays["points"]) or (np.diff(point_ids) < 0).any() or np.diff(starts).min() < 2:
        raise UserError(f"{folder}: rows must be grouped by point, two or more each, one entry a point in points.npy")
    by_orientation = {"oriented": patches}
    if "patches_upright" in arrays:
        by_orientation["upright"] = arrays["patches_upright"]
    rolls = arrays.get("rolls", np.zeros(count, np.float32))
    return PatchSet(
        folder, manifest, by_orientation, point_ids, np.asarray(arrays["scene_ids"]), np.asarray(arrays["views"]),
        np.asarray(rolls), np.asarray(arrays["points"]), np.asarray(arrays["point_sizes"]),
        np.asarray(arrays["pairs"]), starts,
    )  # fmt: skip


def point_order(data: PatchSet, chunk: int, generator: np.random.Generator) -> np.ndarray:
    """(P,) an epoch's order of the points: chunks of `chunk` points of one scene, shuffled. 1 mixes everything; large
    chunks give each pair more negatives from its own scene, which is what it meets in use."""
    order = generator.permutation(len(data.starts) - 1)
    if chunk <= 1:
        return order
    order = order[np.argsort(data.point_scenes[order], kind="stable")]
    pieces = np.array_split(order, max(1, len(order) // chunk))
    return np.concatenate([pieces[i] for i in generator.permutation(len(pieces))])


def batches(
    data: PatchSet, batch: int, chunk: int, seed: int, first_step: int, steps: int
) -> Iterator[tuple[int, np.ndarray]]:
    """(step, (batch,) points) from `first_step` to `steps`. Every point comes once an epoch; its rest is dropped."""
    per_epoch = (len(data.starts) - 1) // batch
    if per_epoch == 0:
        raise UserError(f"{data.folder} has {len(data.starts) - 1} points, fewer than batch={batch}; lower batch")
    epoch, order = -1, np.empty(0, np.int64)
    for step in range(first_step, steps):
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            order = point_order(data, chunk, np.random.default_rng([seed, epoch]))
        place = step % per_epoch * batch
        yield step, order[place : place + batch]


def draw_pairs(data: PatchSet, points: np.ndarray, tries: int, generator: np.random.Generator) -> np.ndarray:
    """(B, 2) two rows of each of the points (B,): of `tries` random draws that with the largest view angle."""
    first, count = data.starts[points], np.diff(data.starts)[points]
    best, best_cosine = np.zeros((len(points), 2), np.int64), np.full(len(points), np.inf)
    for _ in range(max(1, tries)):
        a = generator.integers(0, count)
        b = (a + generator.integers(1, count)) % count
        rows = np.stack([first + a, first + b], axis=1)
        cosine = (data.views[rows[:, 0]] * data.views[rows[:, 1]]).sum(axis=1)
        better = cosine < best_cosine
        best[better], best_cosine[better] = rows[better], cosine[better]
    return best


def turned_apart(data: PatchSet, pairs: np.ndarray) -> np.ndarray:
    """(B,) degrees between the upright patches of each pair of rows (B, 2), 0..180."""
    difference = data.rolls[pairs[:, 0]] - data.rolls[pairs[:, 1]]
    return np.abs((difference + 180) % 360 - 180)


def draw_upright(data: PatchSet, pairs: np.ndarray, upright_share: float, generator: np.random.Generator) -> np.ndarray:
    """(B,) bool: which of the pairs of rows (B, 2) are taken from the upright patches, where both show the same."""
    upright = generator.random(len(pairs)) < upright_share
    if "upright" not in data.patches:
        return np.zeros(len(pairs), bool)
    return upright & (turned_apart(data, pairs) < UPRIGHT_ROLL)


def cut_pairs(patches: Mapping[str, Any], pairs: np.ndarray, upright: np.ndarray) -> Any:
    """(2B, S, S) uint8, the first rows of the pairs (B, 2), then the second. patches: numpy arrays or torch tensors
    (N, S, S) by orientation; what comes back is of their kind."""
    rows, twice = pairs.T.reshape(-1), np.tile(upright, 2)
    cut = patches["oriented"][rows]
    if twice.any():
        cut[twice] = patches["upright"][rows[twice]]
    return cut
