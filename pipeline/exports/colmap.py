"""COLMAP: the database and the models as they are, and the text files of its feature and match importers.

`features/<image>.txt`: "N 128", then x y scale orientation and 128 numbers 0..255 (zeros where the descriptor is not
SIFT: the importer knows no other). `matches.txt` (type raw) and `inliers.txt` (type inliers): "name1 name2", then rows
of both, zero-based, closed by an empty line. Pixels and angles (radians, clockwise on screen) are COLMAP's.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import yaml

from desdis.errors import UserError
from pipeline.exports import ExportOptions
from pipeline.finished import FinishedRun

_SIFT = ("sift", "rootsift")


def write(run: FinishedRun, folder: Path, options: ExportOptions) -> str:
    blank = next((name for name in run.names if any(character.isspace() for character in name)), None)
    if blank is not None:
        raise UserError(f"COLMAP's match lists separate names by blanks and cannot hold {blank!r}: rename it")
    shutil.copyfile(run.database, folder / "database.db")
    if run.model.parent.is_dir():
        shutil.copytree(run.model.parent, folder / "sparse")
    path = run.output / "recipe.yaml"
    recipe = (yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None) or {}
    is_sift = recipe.get("descriptor", {}).get("name") in _SIFT
    for name, features in run.features():
        target = folder / "features" / f"{name}.txt"
        target.parent.mkdir(parents=True, exist_ok=True)
        A = features.lafs[:, :, :2].astype(np.float64)
        scale, angle = np.sqrt(np.abs(np.linalg.det(A))), np.arctan2(A[:, 1, 0], A[:, 0, 0])
        described = np.zeros((len(A), 128), np.uint8)
        if is_sift:
            described = np.rint(512 * next(iter(features.descriptors.values()))).clip(0, 255).astype(np.uint8)
        places = np.column_stack([features.keypoints, scale, angle])
        with open(target, "w", encoding="utf-8") as file:
            file.write(f"{len(A)} 128\n")
            for place, row in zip(places, described, strict=True):
                file.write(" ".join([*(f"{value:.6f}" for value in place), *map(str, row)]) + "\n")
    _write_matches(folder / "matches.txt", ((pair, matches.indices) for pair, matches in run.matches()))
    _write_matches(folder / "inliers.txt", run.inliers())
    return f"{len(run.names)} images: database.db, sparse/, features/, matches.txt, inliers.txt"


def _write_matches(path: Path, pairs: Iterable[tuple[tuple[str, str], np.ndarray]]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        for (a, b), indices in pairs:
            rows = "".join(f"{i} {j}\n" for i, j in indices)
            file.write(f"{a} {b}\n{rows}\n")
