"""Training's view of a patch set: a folder of numpy files (datasets.patches writes it), memory-mapped.

patches.npy          (N, 64, 64) uint8, each row in its own oriented frame, `margin` wider than what is described; at
                     angle 0 where the manifest's "orientation" is upright
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

FORMAT, VERSION = "desdis-patches", 1  # of manifest.json
SIDES = range(32, 257)  # pixels of a patch; a network sees 32
SAMPLE = 64  # patches that are looked at on opening
UPRIGHT_ROLL = 25.0  # degrees: beyond this, upright patches of one point do not show the same thing
NEEDED = ("patches", "point_ids", "scene_ids", "views", "points", "point_sizes", "pairs")


@dataclass(frozen=True)
class PatchSet:
    """See the module. `starts` (P + 1,) are the first rows of the points; `orientations` what patches there are."""

    folder: Path
    manifest: dict
    patches: dict[str, Any]  # "oriented", "upright" or both: (N, S, S) uint8, an array or desdis.joined_sets.Joined
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
    """Open a patch set without reading its patches (but for a few, to see that they hold grey values). A set built with
    orientation=upright keeps its upright patches in patches.npy, and has no others.

    Raises UserError if a file is absent, broken, or does not fit the others.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    arrays = {}
    for path in sorted(folder.glob("*.npy")):
        try:
            arrays[path.stem] = np.load(path, mmap_mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"{path} cannot be read ({error}); build the patch set again") from error
    absent = [f"{name}.npy" for name in NEEDED if name not in arrays]
    if absent:
        raise UserError(f"{folder} lacks {', '.join(absent)}; build the patch set again")
    first = "upright" if manifest.get("orientation") == "upright" else "oriented"
    patches = {first: arrays["patches"]}
    if "patches_upright" in arrays:
        patches["upright"] = arrays["patches_upright"]
    count = len(arrays["patches"]) if arrays["patches"].ndim else 0
    arrays.setdefault("rolls", np.zeros(count, np.float32))
    _check_patches(folder, arrays)
    starts = _check_rows(folder, arrays, count, len(manifest["scenes"]))
    rest: dict[str, Any] = {name: np.asarray(arrays[name]) for name in (*NEEDED, "rolls") if name != "patches"}
    return PatchSet(folder=folder, manifest=manifest, patches=patches, starts=starts, **rest)


def read_manifest(folder: Path) -> dict[str, Any]:
    """manifest.json of a patch set. Raises UserError if the folder is none, or one that this program does not read."""
    path = Path(folder) / "manifest.json"
    try:
        manifest = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} is no patch set: manifest.json is absent or broken; build it again") from error
    if not isinstance(manifest, dict) or (manifest.get("format"), manifest.get("version")) != (FORMAT, VERSION):
        raise UserError(f"{path} is not of {FORMAT} version {VERSION}; build the set again")
    for key, named, fewest in (("scenes", "name", 1), ("images", "sha256", 0)):
        entries = manifest.get(key, [])
        if not isinstance(entries, list) or len(entries) < fewest or not all(_has(entry, named) for entry in entries):
            raise UserError(f'{path}: "{key}" is no list of entries with a {named} each; build the set again')
    for key, least in (("margin", 1), ("magnification", 0)):
        value = manifest.get(key, 1)
        if not isinstance(value, int | float) or not least <= value < np.inf:
            raise UserError(f'{path}: "{key}" is {value}, not a number from {least} on; build the set again')
    return manifest


def _has(entry: Any, key: str) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get(key), str)


def _check_patches(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Both files: uint8 squares of one size, and grey values in a sample of them."""
    shape = arrays["patches"].shape
    for name in ("patches", "patches_upright"):
        if name not in arrays:
            continue
        path, patches = f"{folder}/{name}.npy", arrays[name]
        square = patches.ndim == 3 and patches.shape[1] == patches.shape[2] and patches.shape[1] in SIDES
        if patches.dtype != np.uint8 or not square or len(patches) < 4:
            raise UserError(
                f"{path} is {patches.dtype} {patches.shape}; it must be uint8 (N, S, S), N > 3, "
                f"S from {SIDES[0]} to {SIDES[-1]}: build it again"
            )
        if patches.shape != shape:
            raise UserError(f"{path} is {patches.shape}, patches.npy {shape}; build the set again")
        if patches[np.linspace(0, len(patches) - 1, SAMPLE).astype(int)].max() < 2:
            raise UserError(f"{path} holds no grey values but 0 and 1; they go from 0 to 255: build it again")


def _check_rows(folder: Path, arrays: Mapping[str, np.ndarray], count: int, scenes: int) -> np.ndarray:
    """Everything but the patches: shapes, numbers, and indices that point to what is there. Returns `starts`."""
    points = len(arrays["points"]) if arrays["points"].ndim else 0
    shapes = {
        "point_ids": (count,), "scene_ids": (count,), "pairs": (arrays["pairs"].size // 3, 3),
        "views": (count, 3), "rolls": (count,), "points": (points, 3), "point_sizes": (points,),
    }  # fmt: skip
    for name, shape in shapes.items():
        array, whole = arrays[name], name in ("point_ids", "scene_ids", "pairs")
        if array.shape != shape:
            raise UserError(f"{folder}/{name}.npy is {array.shape}, the other files want {shape}; build the set again")
        if array.dtype.kind not in ("iu" if whole else "iuf") or not np.isfinite(array).all():
            what = "integers" if whole else "finite numbers"
            raise UserError(f"{folder}/{name}.npy ({array.dtype}) must hold {what} only; build the set again")
    ids, pairs, scene_ids = arrays["point_ids"], arrays["pairs"], arrays["scene_ids"]
    starts = np.flatnonzero(np.diff(ids.astype(np.int64), prepend=-1))
    if len(starts) != points or not np.array_equal(ids[starts], np.arange(points)):
        raise UserError(f"{folder}/point_ids.npy must count from 0 to {points - 1} (points.npy); build the set again")
    if np.diff(starts, append=count).min() < 2:
        raise UserError(f"{folder}/point_ids.npy: rows must be grouped by point, two or more each; build the set again")
    if scene_ids.min() < 0 or scene_ids.max() >= scenes:
        raise UserError(f"{folder}/scene_ids.npy names a scene that manifest.json lacks; build the set again")
    rows, labels = pairs[:, :2], pairs[:, 2]
    if not len(pairs):
        raise UserError(f"{folder}/pairs.npy is empty; build the set again, of more or larger places")
    if rows.min() < 0 or rows.max() >= count or not np.isin(labels, (0, 1)).all():
        raise UserError(f"{folder}/pairs.npy must hold rows below {count} and labels 0 or 1; build the set again")
    return np.append(starts, count)


def place_of(scene: str) -> str:
    """The place of a scene, which is called PLACE, or PLACE/PHOTOGRAPH where a photograph is a scene."""
    return scene.split("/")[0]


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
        if "oriented" not in data.patches:  # patches that are turned apart do not show the same: the last choice
            cosine = np.where(turned_apart(data, rows) < UPRIGHT_ROLL, cosine, 2)
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
    if len(data.patches) == 1:
        return np.full(len(pairs), "upright" in data.patches)
    return upright & (turned_apart(data, pairs) < UPRIGHT_ROLL)


def cut_pairs(patches: Mapping[str, Any], pairs: np.ndarray, upright: np.ndarray) -> Any:
    """(2B, S, S) uint8, the first rows of the pairs (B, 2), then the second. patches: numpy arrays or torch tensors
    (N, S, S) by orientation; what comes back is of their kind."""
    rows, twice = pairs.T.reshape(-1), np.tile(upright, 2)
    if "oriented" not in patches:
        return patches["upright"][rows]
    cut = patches["oriented"][rows]
    if twice.any():
        cut[twice] = patches["upright"][rows[twice]]
    return cut
