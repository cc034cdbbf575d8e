"""Patch sets of patches that came without a reconstruction: written so that training reads them like any other."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.patches.observations import BY_ROW
from datasets.patches.patch_set import (
    FILES,
    FORMAT,
    VERSION,
    evaluation_pairs,
    read_grey,
    save_array,
    thumbnail,
    write_json,
)
from desdis.errors import UserError


@dataclass(frozen=True)
class PlainScene:
    """patches (n, S, S) uint8 grouped by point; point_ids (n,) 0..P-1 never decreasing, two rows or more each; points
    (P, 3) and point_sizes (P,): where they lie and sigma, in any unit."""

    name: str
    patches: np.ndarray
    point_ids: np.ndarray
    points: np.ndarray
    point_sizes: np.ndarray


def group_rows(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows in order of their key, keys that come once left out: (rows (n,), point_ids (n,), each point's key)."""
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    order = np.argsort(keys, kind="stable")
    rows = order[counts[inverse[order]] > 1]
    used, point_ids = np.unique(keys[rows], return_inverse=True)
    return rows, point_ids, used


def write_plain_set(
    folder: Path,
    scenes: Sequence[PlainScene],
    *,
    margin: float,
    magnification: float,
    options: dict[str, Any],
    pairs: np.ndarray | None = None,
    photographs: Mapping[str, Path] | None = None,
) -> None:
    """Write the set. Views and rolls are equal everywhere (there is no geometry). pairs (M, 3) row, row, label: drawn
    anew if None. photographs: of which one a scene was made, by its name; so that sets can be kept apart."""
    scenes = [scene for scene in scenes if len(scene.patches)]
    if not scenes:
        raise UserError(f"no point with two patches for {folder}; give more photographs or a weaker change")
    folder.mkdir(parents=True, exist_ok=True)
    count = sum(len(scene.patches) for scene in scenes)
    size = scenes[0].patches.shape[1]
    target = np.lib.format.open_memmap(folder / FILES["oriented"], "w+", np.uint8, (count, size, size))
    rows: dict[str, np.ndarray] = {key: np.zeros(count, np.float32) for key in BY_ROW}
    rows["views"] = np.tile(np.array([0, 0, -1], np.float32), (count, 1))
    rows["frames"] = np.tile(np.array([[1, 0, 0], [0, 1, 0]], np.float32), (count, 1, 1))
    rows["image_ids"] = np.arange(count, dtype=np.int32)
    rows["point_ids"], rows["scene_ids"] = np.zeros(count, np.int32), np.zeros(count, np.int16)
    entries, first, points = [], 0, 0
    for number, scene in enumerate(scenes):
        part = slice(first, first + len(scene.patches))
        target[part] = scene.patches
        rows["point_ids"][part], rows["scene_ids"][part] = scene.point_ids + points, number
        entries.append(
            {"name": scene.name, "patches": len(scene.patches), "points": len(scene.points),
             "images": int(scene.name in (photographs or {})),
             "first_row": part.start, "last_row": part.stop}
        )  # fmt: skip
        first, points = part.stop, points + len(scene.points)
    target.flush()
    rows["points"] = np.concatenate([scene.points for scene in scenes]).astype(np.float32)
    rows["point_sizes"] = np.concatenate([scene.point_sizes for scene in scenes]).astype(np.float32)
    images, thumbnails = [], [np.zeros((0, 32, 32), np.uint8)]
    for number, scene in enumerate(scenes):
        path = (photographs or {}).get(scene.name)
        if path is not None:
            grey = read_grey(path)
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            height, width = grey.shape
            images.append({"scene": number, "name": path.name, "sha256": sha256, "width": width, "height": height})
            thumbnails.append(thumbnail(grey)[None])
    rows["thumbnails"] = np.concatenate(thumbnails)
    rows["pairs"] = evaluation_pairs(rows, magnification) if pairs is None else pairs.astype(np.int32)
    for key, array in rows.items():
        save_array(folder / f"{key}.npy", array)
    manifest = {
        "format": FORMAT, "version": VERSION, "count": count, "points": points, "patch_size": size,
        "magnification": magnification, "margin": margin, "orientation": "oriented", "scenes": entries,
        "images": images, "options": options, "source_sha256": hashlib.sha256(target.data).hexdigest(),
    }  # fmt: skip
    write_json(folder / "manifest.json", manifest)
