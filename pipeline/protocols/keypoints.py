"""Keypoints of a scene, found once for all methods that find them the same way.

In: a recipe and the scene's files. Out: one .npz a photograph in a folder of the benchmark, and the cost of finding
them, which counts for every method that takes them.
"""

import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.recipe import Recipe
from pipeline.types import Detected, Image
from pipeline.workspace import Workspace, write_atomically

Detect = Callable[[Image], Detected]


def shared_detector(
    recipe: Recipe, folder: Path, images: Path, cameras: Path | None = None, masks: Path | None = None
) -> tuple[Detect, dict[str, float]]:
    """The recipe's detector with its answers kept below `folder`, all photographs' by now; and what finding them cost.

    For detectors that leave the description to others.
    """
    from pipeline.run import compute_device, detector
    from pipeline.stages.extract import load_image
    from pipeline.stages.survey import survey

    asked = recipe.detector.model_dump(mode="json")
    own = {key: asked[key] for key in ("name", "max_keypoints", recipe.detector.name) if key in asked}
    kept = folder / hashlib.sha256(json.dumps([own, recipe.images.max_size], sort_keys=True).encode()).hexdigest()[:16]
    kept.mkdir(parents=True, exist_ok=True)
    detect = remembered(detector(recipe, compute_device(recipe.device)).detect, kept)
    cost = kept / "cost.json"
    if not cost.is_file():
        photos = survey(images, recipe.images, cameras=cameras, masks=masks, workspace_dir=kept / "frames").photos

        def find_all() -> None:
            with ThreadPoolExecutor(recipe.threads or os.cpu_count()) as pool:
                for _ in pool.map(lambda photo: detect(load_image(photo, recipe.images.max_size)), photos):
                    pass

        measured: dict[str, Any] = Workspace.measure(find_all)[1]
        write_atomically(cost, json.dumps(measured))
    return detect, json.loads(cost.read_text())


def remembered(detect: Detect, folder: Path) -> Detect:
    """`detect`, asked once for equal pixels and masks: the answers lie in the folder."""

    def found(image: Image) -> Detected:
        mask = b"" if image.mask is None else np.packbits(image.mask).tobytes()
        pixels = hashlib.sha256(repr(image.rgb.shape).encode() + image.rgb.tobytes() + mask)
        path = folder / f"{pixels.hexdigest()}.npz"
        if not path.is_file():
            new = detect(image)
            scratch = path.with_suffix(".tmp")
            with open(scratch, "wb") as file:
                np.savez(file, lafs=new.lafs, scores=new.scores)
            scratch.replace(path)
        with np.load(path) as file:
            return Detected(file["lafs"], file["scores"])

    return found
