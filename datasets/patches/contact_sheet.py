"""A picture of positive pairs, so that a person sees whether the patches of one point show the same thing."""

from pathlib import Path

import numpy as np

from datasets.patches.patch_set import patch_file, read_manifest
from desdis.errors import UserError


def contact_sheet(folder: Path, target: Path, pairs: int = 160, seed: int = 0, orientation: str = "oriented") -> None:
    """Write a PNG: pairs of rows of one point side by side, half of them the pair of their point with the largest angle
    of view, scenes equally often; a white frame marks the described window (the rest of a patch is margin)."""
    import cv2

    manifest, generator = read_manifest(folder), np.random.default_rng(seed)
    patches = np.load(patch_file(folder, manifest, orientation), mmap_mode="r")
    point_ids, views, rolls = (np.load(Path(folder) / f"{n}.npy") for n in ("point_ids", "views", "rolls"))
    starts = np.append(np.flatnonzero(np.diff(point_ids, prepend=-1)), len(point_ids))
    size, columns = patches.shape[1], 8
    tiles = []
    for k in range(pairs):
        scene = manifest["scenes"][k % len(manifest["scenes"])]
        own = np.searchsorted(starts, [scene["first_row"], scene["last_row"]])
        for _ in range(20):
            point = generator.integers(own[0], own[1])
            rows = np.arange(int(starts[point]), int(starts[point + 1]))
            a, b = generator.choice(rows, 2, replace=False)
            if k % 2:
                a, b = rows[np.array(np.unravel_index((views[rows] @ views[rows].T).argmin(), (len(rows),) * 2))]
            if orientation == "oriented" or abs((rolls[a] - rolls[b] + 180) % 360 - 180) < 25:
                break
        tile = np.full((size + 4, 2 * size + 6), 40, np.uint8)
        tile[2:-2, 2 : size + 2], tile[2:-2, size + 4 : -2] = patches[a], patches[b]
        edge = round(size * (1 - 1 / manifest["margin"]) / 2)
        for left in (2, size + 4):
            cv2.rectangle(tile, (left + edge, 2 + edge), (left + size - 1 - edge, size + 1 - edge), 255, 1)
        tiles.append(tile)
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    lines = [np.hstack(tiles[k : k + columns]) for k in range(0, len(tiles), columns)]
    if not cv2.imwrite(str(target), np.vstack(lines)):
        raise UserError(f"cannot write {target}; is the disk full?")
