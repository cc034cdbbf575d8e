"""Image Matching Challenge 2020 / 2021: a submission folder with own matches (config.json and the scene's HDF5 files).

Every key is a dataset at the root of its file: image names without suffix, pairs `A-B` with the larger name first and
all of them present. Pixels are COLMAP's: the benchmark uses keypoints as given, with calibrations made by COLMAP.
"""

import json
import re
from itertools import combinations
from pathlib import Path

import h5py
import numpy as np
import yaml

from datasets.scenes.imc import pair_key, pair_names
from desdis.errors import UserError
from pipeline.exports import ExportOptions
from pipeline.finished import FinishedRun, flat_names

_BUDGETS = (2048, 8000)  # keypoints an image: the challenge's two categories
_DIMENSIONS = (64, 2048)  # what its validator lets pass


def write(run: FinishedRun, folder: Path, options: ExportOptions) -> str:
    dataset, scene = _scene(run, options)
    target = folder / dataset / scene
    target.mkdir(parents=True)
    short = {name: Path(base).stem for name, base in flat_names(run.names, "IMC").items()}
    if len(set(short.values())) != len(short):
        raise UserError("IMC names images without suffix, and two of these differ in nothing else: rename one")
    files = ("keypoints", "descriptors", "scores", "scales", "angles", "orientations", "affine")
    opened = {name: h5py.File(target / f"{name}.h5", "w") for name in files}
    most = 0
    try:
        for name, features in run.features():
            A = features.lafs[:, :, :2]
            angles = np.degrees(np.arctan2(A[:, 1, 0], A[:, 0, 0])).astype(np.float32)
            values = {
                "keypoints": features.keypoints,
                "descriptors": _checked(next(iter(features.descriptors.values())), name),
                "scores": features.scores,
                "scales": 2 * np.sqrt(np.abs(np.linalg.det(A.astype(np.float64)))).astype(np.float32),  # OpenCV's size
                "angles": angles,
                "orientations": angles,  # the importer asks for this name, the evaluator for the other
                "affine": A,
            }
            for kind, array in values.items():
                opened[kind][short[name]] = array
            most = max(most, len(features.lafs))
    finally:
        for file in opened.values():
            file.close()
    budget = next((limit for limit in _BUDGETS if most <= limit), None)
    if budget is None:
        raise UserError(f"{most} keypoints in an image; IMC allows {_BUDGETS[-1]}: set detector.max_keypoints")
    _write_matches(run, target, short)
    (folder / "config.json").write_text(json.dumps([_config(run, dataset, budget)], indent=2) + "\n")
    return f"{len(short)} images in {dataset}/{scene}, {budget} keypoints category: config.json and the scene's files"


def _scene(run: FinishedRun, options: ExportOptions) -> tuple[str, str]:
    parts = options.scene.split("/") if options.scene else ["phototourism", run.output.resolve().name]
    if len(parts) != 2 or not all(re.fullmatch(r"[\w.-]+", part) for part in parts):
        raise UserError(
            f"--scene {options.scene or '/'.join(parts)}: expected DATASET/SCENE, such as phototourism/reichstag"
        )
    return parts[0], parts[1]


def _checked(descriptors: np.ndarray, name: str) -> np.ndarray:
    if not _DIMENSIONS[0] <= descriptors.shape[1] <= _DIMENSIONS[1]:
        raise UserError(
            f"{name}: descriptors of {descriptors.shape[1]} numbers; IMC takes {_DIMENSIONS[0]} to {_DIMENSIONS[1]}"
        )
    return descriptors


def _write_matches(run: FinishedRun, target: Path, short: dict[str, str]) -> None:
    """Row 0 of a (2, M) dataset indexes the image that the key names first."""
    with h5py.File(target / "matches.h5", "w") as file:
        for (a, b), matches in run.matches():
            columns = matches.indices if pair_names(short[a], short[b])[0] == short[a] else matches.indices[:, ::-1]
            file[pair_key(short[a], short[b])] = np.ascontiguousarray(columns.T)
        for a, b in combinations(short.values(), 2):
            if pair_key(a, b) not in file:
                file[pair_key(a, b)] = np.zeros((2, 0), np.int32)


def _config(run: FinishedRun, dataset: str, budget: int) -> dict:
    """config.json's one method. `metadata` is what the challenge wants to know and the user must fill in."""
    path = run.output / "recipe.yaml"
    recipe = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    keypoint = (recipe or {}).get("detector", {}).get("name", "dog")
    described = (recipe or {}).get("descriptor", {})
    descriptor = Path(str(described.get("weights") or described.get("name", "desdis"))).stem.lower()
    keypoint, descriptor = (re.sub(r"[^a-z0-9.-]", "-", word) for word in (keypoint, descriptor))
    label = f"{keypoint}-{descriptor}-{budget}"
    return {
        "metadata": {
            "publish_anonymously": False,
            "authors": "",
            "contact_email": "",
            "method_name": label,
            "method_description": "",
            "link_to_website": "",
            "link_to_pdf": "",
        },
        "config_common": {
            "json_label": label,
            "keypoint": keypoint,
            "descriptor": descriptor,
            "num_keypoints": budget,
        },
        f"config_{dataset}_stereo": {
            "use_custom_matches": True,
            "custom_matches_name": "own",
            "geom": {"method": "cv2-8pt"},
        },
        f"config_{dataset}_multiview": {"use_custom_matches": True, "custom_matches_name": "own", "colmap": {}},
    }
