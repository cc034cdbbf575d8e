"""A submission.csv for Kaggle's Image Matching Challenges: `python -m pipeline.submission --year 2025 DATASET=OUTPUT`.

In: finished reconstructions (their report.json and sparse/). Out: a CSV with one row for every photograph, as the year
wants it (2023, 2024: a reconstruction a scene; 2025: a reconstruction a dataset, sorted into clusters and outliers by
its models and its view graph's components). 2022 asks for fundamental matrices of pairs: `write_2022`.
"""

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from datasets.cameras import Pose
from desdis.errors import UserError, command
from pipeline.workspace import write_atomically

OUTLIERS = "outliers"
_PHOTOGRAPHS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm")


@dataclass(frozen=True)
class Row:
    """One photograph: `scene` is a scene's name or a cluster's; pose cam_from_world or None."""

    dataset: str
    scene: str
    image: str
    pose: Pose | None


def clusters(
    names: Iterable[str], models: Sequence[Mapping[str, Pose]], components: Sequence[Sequence[str]]
) -> dict[str, tuple[str, Pose | None]]:
    """Cluster and pose by photograph (2025).

    A model is a cluster. A photograph in no model belongs to the model that most of its component of the view graph is
    in, without a pose; a component without a model is a cluster without poses; a photograph in no component is an
    outlier.
    """
    placed: dict[str, tuple[str, Pose | None]] = {}
    for index, model in enumerate(models):
        for name, pose in model.items():
            placed.setdefault(name, (f"cluster{index}", pose))
    known = dict(placed)
    for index, component in enumerate(components):
        votes = [known[name][0] for name in component if name in known]
        cluster = max(sorted(set(votes)), key=votes.count) if votes else f"cluster{len(models) + index}"
        for name in component:
            placed.setdefault(name, (cluster, None))
    return {name: placed.get(name, (OUTLIERS, None)) for name in names}


def write_2023(path: Path, rows: Sequence[Row]) -> None:
    """2023 and 2024: every photograph has a pose; one that was not registered gets the identity and zero, as NaN breaks
    the scorer. `image` is the path that the challenge lists, such as haiper/bike/images/1.png."""
    blank = Pose(np.eye(3), np.zeros(3))
    table = [(row.image, row.dataset, row.scene, *_matrices(row.pose or blank)) for row in _once(rows)]
    _write(path, ("image_path", "dataset", "scene", "rotation_matrix", "translation_vector"), table)


def write_2025(path: Path, rows: Sequence[Row], ids: Mapping[tuple[str, str], str] | None = None) -> None:
    """2025: photographs without a pose get nan. ids: image_id by (dataset, image), the hidden test's first column."""
    header = ("dataset", "scene", "image", "rotation_matrix", "translation_vector")
    table = [(row.dataset, row.scene, row.image, *_matrices(row.pose)) for row in _once(rows)]
    if ids is not None:
        header = ("image_id", *header)
        table = [(ids[row.dataset, row.image], *line) for row, line in zip(rows, table, strict=True)]
    _write(path, header, table)


def write_2022(path: Path, fundamental: Mapping[str, np.ndarray | None]) -> None:
    """2022: F (3, 3), x2^T F x1 = 0, by sample_id; a pair without one gets zeros."""
    numbers = {key: np.zeros((3, 3)) if F is None else np.asarray(F, float) for key, F in fundamental.items()}
    for key, F in numbers.items():
        if F.shape != (3, 3) or not np.isfinite(F).all():
            raise ValueError(f"{key}: not a finite 3x3 matrix")
    table = [(key, " ".join(f"{v:.9e}" for v in F.ravel())) for key, F in numbers.items()]
    _write(path, ("sample_id", "fundamental_matrix"), table)


def rows_of_scene(output: Path, dataset: str, scene: str) -> list[Row]:
    """2023 and 2024: a finished run of one scene; its largest model counts."""
    names, models, _ = _read(output)
    poses = models[0] if models else {}
    return [Row(dataset, scene, f"{dataset}/{scene}/images/{name}", poses.get(name)) for name in names]


def rows_of_dataset(output: Path, dataset: str) -> list[Row]:
    """2025: a finished run over all photographs of a dataset. Their names there have no folder."""
    names, models, components = _read(output)
    placed = clusters(names, models, components)
    return [Row(dataset, cluster, PurePosixPath(name).name, pose) for name, (cluster, pose) in placed.items()]


def _read(output: Path) -> tuple[list[str], list[dict[str, Pose]], list[list[str]]]:
    """Photographs (used or skipped), the models' poses (largest first) and the view graph's components."""
    from datasets.scenes.colmap_model import read_model

    path = output / "report.json"
    if not path.is_file():
        raise UserError(f"{output}: holds no report.json; give the output folder of a finished reconstruction")
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    skipped = [item["name"] for item in report["images"]["skipped"]]
    photographs = [name for name in skipped if PurePosixPath(name).suffix.lower() in _PHOTOGRAPHS]
    names = sorted({*report["images"]["keypoints"], *photographs})
    models = [read_model(output / model["path"]).poses for model in report["models"]]
    return names, models, report["view_graph"]["components"]


def _once(rows: Sequence[Row]) -> Sequence[Row]:
    seen: set[tuple[str, str]] = set()
    for row in rows:
        key = (row.dataset, row.image)
        if key in seen:
            raise UserError(f"{row.dataset}: {row.image} is there twice; a submission has each photograph once")
        seen.add(key)
    return rows


def _matrices(pose: Pose | None) -> tuple[str, str]:
    R, t = (np.full((3, 3), np.nan), np.full(3, np.nan)) if pose is None else (pose.R, pose.t)
    return ";".join(f"{v:.9g}" for v in np.ravel(R)), ";".join(f"{v:.9g}" for v in np.ravel(t))


def _write(path: Path, header: Sequence[str], table: Iterable[Sequence[str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(table)
    write_atomically(path, text.getvalue())


@command
def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.submission", description="A submission.csv from finished reconstructions."
    )
    parser.add_argument("--year", type=int, choices=(2023, 2024, 2025), required=True, help="of the challenge")
    parser.add_argument("--output", type=Path, default=Path("submission.csv"), help="the file to write")
    parser.add_argument(
        "runs", nargs="+", metavar="NAME=OUTPUT", help="2025: DATASET=OUTPUT; before: DATASET/SCENE=OUTPUT"
    )
    args = parser.parse_args(arguments)
    rows: list[Row] = []
    for word in args.runs:
        name, equals, folder = word.partition("=")
        dataset, slash, scene = name.partition("/")
        if not equals or not dataset or bool(slash) == (args.year == 2025):
            wanted = "DATASET=OUTPUT" if args.year == 2025 else "DATASET/SCENE=OUTPUT"
            raise UserError(f"{word!r}: {args.year} takes {wanted}")
        output = Path(folder)
        rows += rows_of_dataset(output, dataset) if args.year == 2025 else rows_of_scene(output, dataset, scene)
    (write_2025 if args.year == 2025 else write_2023)(args.output, rows)
    print(f"{args.output}: {len(rows)} photographs, {sum(row.pose is not None for row in rows)} with a pose")
    return 0


if __name__ == "__main__":
    sys.exit(main())
