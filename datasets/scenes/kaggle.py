"""Kaggle's Image Matching Challenges 2022 to 2025: their CSV tables.

Matrices are flattened by rows; R and t are cam_from_world. 2022 separates numbers by blanks and gives intrinsics (K of
COLMAP's undistorted models: it counts from the first pixel's corner, nothing is added); later years separate by `;` and
give none. Columns decide which year a table is of. The challenges' scores live elsewhere.
"""

import csv
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.cameras import Camera, Pose, Reference
from datasets.scenes.entries import checked_K, checked_pose, owners, parse_numbers
from desdis.errors import UserError

OUTLIERS = "outliers"
_IMAGE_COLUMNS = ("image", "image_name", "image_path")  # 2025, 2024, 2023


@dataclass(frozen=True)
class Label:
    """One row of `train_labels.csv`. pose is None for an image without one (2025: outliers, NaN)."""

    dataset: str
    scene: str
    image: str
    pose: Pose | None


@dataclass(frozen=True)
class Covisible:
    """A pair of 2022: image 1 has the larger name; x2^T F x1 = 0."""

    image_1: str
    image_2: str
    covisibility: float
    F: np.ndarray


def year_of(path: Path) -> int | None:
    """2022 to 2025 for a table with poses, by its columns; None for another table."""
    columns = set(_columns(path))
    if {"image_id", "camera_intrinsics", "rotation_matrix", "translation_vector"} <= columns:
        return 2022
    if {"rotation_matrix", "translation_vector"} <= columns:
        for column, year in zip(_IMAGE_COLUMNS, (2025, 2024, 2023), strict=True):
            if column in columns:
                return year
    return None


def read_calibration(path: Path) -> dict[str, tuple[Pose, Camera]]:
    """2022's `calibration.csv`: pose and camera (without size) by image name, suffix left off as in the file."""
    read: dict[str, tuple[Pose, Camera]] = {}
    for row, where in _rows(path, ("image_id", "camera_intrinsics", "rotation_matrix", "translation_vector")):
        image = row["image_id"]
        if image in read:
            raise UserError(f"{where}: {image} is there twice")
        K = checked_K(parse_numbers(row["camera_intrinsics"], 9, None, f"{where}, camera_intrinsics"), where)
        R = parse_numbers(row["rotation_matrix"], 9, None, f"{where}, rotation_matrix")
        t = parse_numbers(row["translation_vector"], 3, None, f"{where}, translation_vector")
        read[image] = checked_pose(R, t, f"{where}, {image}"), Camera.pinhole(K, 0, 0)
    return read


def read_covisibility(path: Path) -> list[Covisible]:
    """2022's `pair_covisibility.csv`, in its order. The challenge uses pairs of covisibility >= 0.1."""
    pairs: dict[str, Covisible] = {}
    for row, where in _rows(path, ("pair", "covisibility", "fundamental_matrix")):
        if row["pair"] in pairs:
            raise UserError(f"{where}: {row['pair']} is there twice")
        names = row["pair"].split("-")
        if len(names) != 2:
            raise UserError(f"{where}: {row['pair']}: expected image1-image2")
        covisibility = parse_numbers(row["covisibility"], 1, None, f"{where}, covisibility")[0]
        F = parse_numbers(row["fundamental_matrix"], 9, None, f"{where}, fundamental_matrix").reshape(3, 3)
        pairs[row["pair"]] = Covisible(names[0], names[1], float(covisibility), F)
    return list(pairs.values())


def read_scaling_factors(path: Path) -> dict[str, float]:
    """2022's `scaling_factors.csv`: metres per unit of each scene's translations."""
    factors: dict[str, float] = {}
    for row, where in _rows(path, ("scene", "scaling_factor")):
        if row["scene"] in factors:
            raise UserError(f"{where}: {row['scene']} is there twice")
        factors[row["scene"]] = float(parse_numbers(row["scaling_factor"], 1, None, where)[0])
    return factors


def read_test_pairs(path: Path) -> dict[str, tuple[str, str, str]]:
    """2022's `test.csv`: (batch, image 1, image 2) by sample_id; images lie in `test_images/<batch>/<image>.*`."""
    pairs: dict[str, tuple[str, str, str]] = {}
    for row, where in _rows(path, ("sample_id", "batch_id", "image_1_id", "image_2_id")):
        if row["sample_id"] in pairs:
            raise UserError(f"{where}: {row['sample_id']} is there twice")
        pairs[row["sample_id"]] = row["batch_id"], row["image_1_id"], row["image_2_id"]
    return pairs


def read_labels(path: Path, allow_missing: bool = False) -> list[Label]:
    """`train_labels.csv` of 2023, 2024 or 2025 (or a submission), in its order.

    A pose of NaN stands for no pose: in the scene `outliers`, elsewhere only with allow_missing.
    """
    column = next((c for c in _IMAGE_COLUMNS if c in _columns(path)), None)
    if column is None:
        raise UserError(f"{path}: no column {', '.join(_IMAGE_COLUMNS)}")
    labels: dict[tuple[str, str], Label] = {}
    for row, where in _rows(path, ("dataset", "scene", column, "rotation_matrix", "translation_vector")):
        key = row["dataset"], row[column] if column != "image_name" else f"{row['scene']}/{row[column]}"
        if key in labels:
            raise UserError(f"{where}: {row[column]} of {row['dataset']} is there twice")
        R = parse_numbers(row["rotation_matrix"], 9, ";", f"{where}, rotation_matrix")
        t = parse_numbers(row["translation_vector"], 3, ";", f"{where}, translation_vector")
        missing = bool(np.isnan(R).all() and np.isnan(t).all()) and (allow_missing or row["scene"] == OUTLIERS)
        pose = None if missing else checked_pose(R, t, f"{where}, {row[column]}")
        labels[key] = Label(row["dataset"], row["scene"], row[column], pose)
    return list(labels.values())


def read_thresholds(path: Path) -> dict[tuple[str, str], np.ndarray]:
    """2025's `train_thresholds.csv`: metres, by (dataset, scene)."""
    thresholds: dict[tuple[str, str], np.ndarray] = {}
    for row, where in _rows(path, ("dataset", "scene", "thresholds")):
        key = row["dataset"], row["scene"]
        if key in thresholds:
            raise UserError(f"{where}: {'/'.join(key)} is there twice")
        values = row["thresholds"]
        thresholds[key] = parse_numbers(values, values.count(";") + 1, ";", where)
    return thresholds


def read_categories(path: Path) -> dict[str, tuple[str, ...]]:
    """2024's `categories.csv`: what is difficult about each scene."""
    return {row["scene"]: tuple(row["categories"].split(";")) for row, _ in _rows(path, ("scene", "categories"))}


def read_reference(path: Path, names: list[str]) -> Reference:
    """Poses (2022: and cameras) of the photographs, from a table of any year.

    A table of many scenes serves as well: the scene is the one that holds most of the photographs by name.
    """
    year = year_of(path)
    if year is None:
        raise UserError(f"{path}: no table with poses (columns: {', '.join(_columns(path)) or 'none'})")
    if year == 2022:
        table = read_calibration(path)
        read = {name: table[entry] for name, entry in owners(table, names, str(path)).items()}
        return Reference({n: pose for n, (pose, _) in read.items()}, {n: cam for n, (_, cam) in read.items()}, "kaggle")
    scenes: dict[tuple[str, str], dict[str, Pose]] = defaultdict(dict)
    for label in read_labels(path):
        if label.pose is not None:
            # 2025 mixes the scenes of a dataset in one folder of photographs
            scenes[label.dataset, "" if year == 2025 else label.scene][label.image] = label.pose
    held: dict[tuple[str, str], dict[str, str]] = {}
    errors: list[UserError] = []
    for key, poses in scenes.items():
        try:
            held[key] = owners(poses, names, str(path))
        except UserError as error:
            errors.append(error)
    if not held:
        raise errors[0] if errors else UserError(f"{path}: holds no pose")
    most = max(len(found) for found in held.values())
    best = [key for key, found in held.items() if len(found) == most]
    if len(best) > 1:
        raise UserError(f"{path}: the photographs fit {' and '.join('/'.join(k) for k in best[:2])} equally well")
    return Reference({name: scenes[best[0]][entry] for name, entry in held[best[0]].items()}, {}, "kaggle")


def _columns(path: Path) -> list[str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a readable CSV file: {error}") from None


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[dict[str, str], str]]:
    """Rows as dictionaries, each with a name for errors; UserError for missing columns and short rows."""
    missing = [column for column in columns if column not in _columns(path)]
    if missing:
        raise UserError(f"{path}: the column {missing[0]} is missing")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if any(row[column] is None for column in columns):
                raise UserError(f"{where}: the row is too short")
            yield row, where
