"""A small patch set of rendered textures in the layout that desdis.patchsets reads."""

import json
from pathlib import Path

import cv2
import numpy as np


def write_patch_set(folder: Path, points: int = 120, scenes: int = 2, seed: int = 0, name: str = "render") -> Path:
    """`points` smooth random textures, three noisy and slightly turned views of each."""
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    patches = []
    for _ in range(points):
        texture = cv2.GaussianBlur(generator.normal(size=(96, 96)), (0, 0), 3.0)
        texture = 128 + 50 * texture / texture.std()
        for _ in range(3):
            turn = cv2.getRotationMatrix2D((48, 48), generator.normal() * 8, float(np.exp(generator.normal() * 0.05)))
            view = cv2.warpAffine(texture, turn, (96, 96), flags=cv2.INTER_LINEAR)[16:80, 16:80]
            patches.append(np.clip(view + generator.normal(size=view.shape) * 4, 0, 255).astype(np.uint8))
    rows = 3 * points
    point_ids = np.repeat(np.arange(points), 3).astype(np.int32)
    point_scenes = np.sort(generator.integers(0, scenes, points))
    views = generator.normal(size=(rows, 3)) + [0, 0, 3]
    matches = np.stack([3 * np.arange(points), 3 * np.arange(points) + 1, np.ones(points)], axis=1)
    others = np.stack([3 * np.arange(points), (3 * np.arange(points) + 4) % rows, np.zeros(points)], axis=1)
    arrays = {
        "patches": np.stack(patches),
        "patches_upright": np.stack(patches)[:, ::-1],
        "point_ids": point_ids,
        "scene_ids": point_scenes[point_ids].astype(np.int16),
        "views": (views / np.linalg.norm(views, axis=1, keepdims=True)).astype(np.float32),
        "rolls": generator.normal(size=rows).astype(np.float32) * 15,
        "points": generator.normal(size=(points, 3)).astype(np.float32) * 100,
        "point_sizes": np.ones(points, np.float32),
        "pairs": np.concatenate([matches, others]).astype(np.int32),
    }
    for key, array in arrays.items():
        np.save(folder / f"{key}.npy", array)
    manifest = {
        "format": "desdis-patches", "version": 1, "count": rows, "points": points, "patch_size": 64,
        "magnification": 9.0, "margin": 1.25, "orientation": "both", "source_sha256": str(seed),
        "scenes": [{"name": f"{name}{scene}"} for scene in range(scenes)],
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
