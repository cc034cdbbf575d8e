"""A patch set on disk: plain .npy files and a manifest, memory-mappable, written so that a kill loses one scene.

    manifest.json         what it holds: scenes, photographs (with hashes), counts, options, and the hash of all sources
    patches.npy           (N, 64, 64) uint8, oriented frames; patches_upright.npy: the same rows at angle 0
    point_ids, scene_ids, image_ids, frames, views, rolls, scale_errors, angle_errors, errors: one entry a row
    points.npy (P, 3), point_sizes.npy (P,): one entry a point; thumbnails.npy (I, 32, 32): one a photograph
    pairs.npy (M, 3) int32: row, row, label; fixed pairs for FPR95, half of them matches

Rows are grouped by scene and by point; the rows of a point are consecutive. A patch's half width is margin x
magnification x sigma: the described window is its middle, the rest is room for augmentation. All but the patches is
about 80 bytes a row; `cut` makes the patches again from it and the photographs, with numpy and OpenCV alone.
"""

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datasets.patches.observations import BY_ROW, Observations, from_arrays, patches_by_image, to_arrays
from desdis.errors import UserError
from desdis.patchsets import FORMAT, VERSION, read_manifest

ORIENTATIONS = {"oriented": ("oriented",), "upright": ("upright",), "both": ("oriented", "upright")}
FILES = {"oriented": "patches.npy", "upright": "patches_upright.npy"}
ALIKE = 0.985  # correlation of two photographs' thumbnails from which on they are the same picture


def read_grey(path: Path) -> np.ndarray:
    """(H, W) uint8 on the stored pixel grid (EXIF orientation not applied, as in COLMAP)."""
    import cv2

    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
    if grey is None:
        raise UserError(f"cannot read the photograph {path}; the patch set was made from it")
    return grey


def thumbnail(grey: np.ndarray) -> np.ndarray:
    """(32, 32) uint8: enough to tell a photograph again after recompression or scaling."""
    import cv2

    return cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA)


def scene_file(folder: Path, name: str) -> Path:
    """Where a scene's observations lie until the set is assembled (and after: `assemble` reads them again)."""
    return folder / "scenes" / f"{name.replace('/', '__')}.npz"


def save_scene(folder: Path, name: str, root: Path, observations: Observations) -> None:
    """Leave one scene's observations in folder/scenes/name.npz, with its photographs' hashes; atomic."""
    used = np.unique(observations.image_ids)
    sha256, sizes, thumbnails = [], [], []
    for k in used:
        path = root / observations.images[k]
        grey = read_grey(path)
        sha256.append(hashlib.sha256(path.read_bytes()).hexdigest())
        sizes.append(grey.shape[::-1])
        thumbnails.append(thumbnail(grey))
    arrays = to_arrays(observations)
    arrays["images"] = np.array([observations.images[k] for k in used], dtype=np.str_)
    arrays["image_ids"] = np.searchsorted(used, observations.image_ids).astype(np.int32)
    target = scene_file(folder, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    with part.open("wb") as file:
        np.savez_compressed(
            file,
            sha256=np.array(sha256, dtype=np.str_),
            image_sizes=np.array(sizes, np.int32).reshape(-1, 2),
            thumbnails=np.array(thumbnails, np.uint8).reshape(-1, 32, 32),
            **arrays,  # pyright: ignore[reportArgumentType]
        )
    os.replace(part, target)


def assemble(
    folder: Path,
    names: Sequence[str],
    *,
    magnification: float,
    margin: float,
    orientation: str = "both",
    patch_size: int = 64,
    options: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Join the saved scenes `names` into one set, all but its patches (see `cut`). Returns the manifest."""
    if not names:
        raise UserError(f"no scene gave patches for {folder}; use photographs that overlap more")
    parts: dict[str, list[np.ndarray]] = {k: [] for k in (*BY_ROW, "scene_ids", "points", "point_sizes", "thumbnails")}
    scenes, images, rows, points = [], [], 0, 0
    for number, name in enumerate(names):
        with np.load(scene_file(folder, name), allow_pickle=False) as saved:
            arrays = dict(saved)
        count, new = len(arrays["point_ids"]), len(arrays["points"])
        arrays["image_ids"] = arrays["image_ids"] + np.int32(len(images))
        arrays["point_ids"] = arrays["point_ids"] + np.int32(points)
        arrays["scene_ids"] = np.full(count, number, np.int16)
        for key, list_ in parts.items():
            list_.append(arrays[key])
        scenes.append(
            {"name": name, "patches": count, "points": new, "images": len(arrays["images"]),
             "first_row": rows, "last_row": rows + count}
        )  # fmt: skip
        images += [
            {"scene": number, "name": str(image), "sha256": str(sha), "width": int(size[0]), "height": int(size[1])}
            for image, sha, size in zip(arrays["images"], arrays["sha256"], arrays["image_sizes"], strict=True)
        ]
        rows, points = rows + count, points + new
    joined = {key: np.concatenate(list_) for key, list_ in parts.items()}
    for key, array in joined.items():
        save_array(folder / f"{key}.npy", array)
    save_array(folder / "pairs.npy", evaluation_pairs(joined, magnification))
    source = hashlib.sha256("\n".join(sorted(image["sha256"] for image in images)).encode())
    source.update(np.ascontiguousarray(joined["frames"]).tobytes())
    source.update(f"{patch_size} {margin} {magnification} {orientation}".encode())  # all that decides what is cut
    manifest = {
        "format": FORMAT, "version": VERSION, "count": rows, "points": points, "patch_size": patch_size,
        "magnification": magnification, "margin": margin, "orientation": orientation, "scenes": scenes,
        "images": images, "options": options or {}, "source_sha256": source.hexdigest(),
    }  # fmt: skip
    write_json(folder / "manifest.json", manifest)
    return manifest


def cut(folder: Path, roots: dict[str, Path]) -> None:
    """Cut the patches of an assembled set. roots: the photographs' folder of each scene. Scene after scene: what was
    cut before a kill stays cut."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    size, half_width = manifest["patch_size"], manifest["margin"] * manifest["magnification"]
    shape = (manifest["count"], size, size)
    done_file = folder / "cut.json"
    done = json.loads(done_file.read_text()) if done_file.exists() else {}
    if done.get("source_sha256") != manifest["source_sha256"] or done.get("shape") != list(shape):
        done = {"source_sha256": manifest["source_sha256"], "shape": list(shape), "scenes": []}
    pages = {}
    for kind in ORIENTATIONS[manifest["orientation"]]:
        path = patch_file(folder, manifest, kind)
        fresh = not done["scenes"] or not path.exists()
        if fresh:
            done["scenes"] = []
        pages[kind] = np.lib.format.open_memmap(path, "w+" if fresh else "r+", np.uint8, shape)
    rows = {key: np.load(folder / f"{key}.npy", mmap_mode="r") for key in (*BY_ROW, "points", "point_sizes")}
    offset = 0
    for number, scene in enumerate(manifest["scenes"]):
        part = slice(scene["first_row"], scene["last_row"])
        if scene["name"] not in done["scenes"]:
            if scene["name"] not in roots:
                raise UserError(f"the photographs' folder of scene {scene['name']} is not given")
            images = tuple(image["name"] for image in manifest["images"] if image["scene"] == number)
            arrays = {key: rows[key][part] for key in BY_ROW}
            arrays["image_ids"] = arrays["image_ids"] - offset
            arrays |= {"images": np.array(images), "points": rows["points"], "point_sizes": rows["point_sizes"]}
            observations = from_arrays(arrays)
            root = Path(roots[scene["name"]])
            for kind, page in pages.items():
                page[part] = patches_by_image(
                    observations, lambda name, root=root: read_grey(root / name), half_width, size, kind == "upright"
                )
                page.flush()
            done["scenes"].append(scene["name"])
            write_json(done_file, done)
        offset += scene["images"]


def patch_file(folder: Path, manifest: dict[str, Any], orientation: str) -> Path:
    """Where a set's patches of an orientation are; of one orientation only, patches.npy."""
    return Path(folder) / FILES[orientation if manifest["orientation"] == "both" else "oriented"]


def evaluation_pairs(
    rows: dict[str, np.ndarray], magnification: float, wanted: int = 100_000, seed: int = 0
) -> np.ndarray:
    """(M, 3) int32 row, row, label. As PhotoTour's m50 lists, half matches; but both halves are drawn scene by scene,
    evenly, and a non-match lies in the same scene, half the half width of a described window away in space or more."""
    generator = np.random.default_rng(seed)
    point_ids, scene_ids = rows["point_ids"], rows["scene_ids"]
    starts = np.flatnonzero(np.diff(point_ids, prepend=-1))
    counts = np.diff(np.append(starts, len(point_ids)))
    scenes = np.unique(scene_ids)
    share = wanted // 2 // len(scenes)
    pairs = []
    for scene in scenes:
        own = np.flatnonzero(scene_ids[starts] == scene)
        chosen = generator.permutation(own)[:share]
        a = generator.integers(0, counts[chosen])
        b = (a + generator.integers(1, counts[chosen])) % counts[chosen]
        first, second = generator.choice(own, 4 * len(chosen)), generator.choice(own, 4 * len(chosen))
        apart = np.linalg.norm(rows["points"][first] - rows["points"][second], axis=1)
        size = np.maximum(rows["point_sizes"][first], rows["point_sizes"][second])
        different = np.flatnonzero((first != second) & (apart > 0.5 * magnification * size))[: len(chosen)]
        first, second = first[different], second[different]
        c = starts[first] + generator.integers(0, counts[first])
        d = starts[second] + generator.integers(0, counts[second])
        matches = np.column_stack([starts[chosen] + a, starts[chosen] + b, np.ones(len(chosen))])[: len(c)]
        pairs += [matches, np.column_stack([c, d, np.zeros(len(c))])]
    return np.concatenate(pairs).astype(np.int32)


def check_split(training: Path, validation: Path) -> None:
    """Raise UserError if a photograph of one set is in the other, by content or by a thumbnail that looks the same.
    Scenes are split, never patches. A set without thumbnails cannot be compared by look; stderr says so."""
    ours, theirs = (read_manifest(folder).get("images", []) for folder in (training, validation))
    check_apart(training, {image["sha256"]: f"{image['name']} of {validation}" for image in theirs})
    flat = []
    for folder in (Path(training), Path(validation)):
        path = folder / "thumbnails.npy"
        t = np.load(path).reshape(-1, 32 * 32).astype(np.float32) if path.is_file() else np.zeros((0, 32 * 32))
        if not len(t):
            print(f"{training} and {validation} are not compared by look: {folder} has no thumbnails", file=sys.stderr)
            return
        t -= t.mean(axis=1, keepdims=True)
        flat.append(t / np.maximum(np.linalg.norm(t, axis=1, keepdims=True), 1e-6))
    alike = flat[1] @ flat[0].T
    v, t = np.unravel_index(alike.argmax(), alike.shape)
    if alike[v, t] > ALIKE:
        raise UserError(
            f"{theirs[v]['name']} of {validation} looks like {ours[t]['name']} of {training} "
            f"(correlation {alike[v, t]:.3f}): leave that place out of one"
        )


def check_apart(folder: Path, photographs: Mapping[str, str]) -> None:
    """Raise UserError if one of the photographs (what to call it, by the sha256 of its file) is in the set `folder`."""
    for image in read_manifest(folder).get("images", []):
        if image["sha256"] in photographs:
            raise UserError(
                f"{photographs[image['sha256']]} is {image['name']} of {folder}: leave that place out of one"
            )


def save_array(path: Path, array: np.ndarray) -> None:
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.save(file, array)
    os.replace(part, path)


def write_json(path: Path, content: Any) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1))
    os.replace(part, path)
