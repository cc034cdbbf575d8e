"""Poses of new photographs against a finished model: `python -m pipeline.localize OUTPUT --queries DIR`.

The queries are described with the run's own recipe and matched against every registered photograph; what these see of
the model's points gives 2D-3D matches. Left in OUTPUT/localized/<queries>: poses.csv, poses.txt (hloc's result file),
sparse/0 (the model with the queries in it), features.h5 and, with --reference, accuracy.json.
"""

import argparse
import csv
import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from datasets.cameras import Pose, Reference
from desdis.errors import UserError, command
from pipeline.metrics.alignment import Similarity
from pipeline.types import Features

MIN_INLIERS = 15  # fewer are no pose
_POSE = ("qw", "qx", "qy", "qz", "tx", "ty", "tz")


@dataclass(frozen=True)
class Localised:
    """A query: its pose (None: not found), inliers of `matches` 2D-3D matches, and the photograph it matched best."""

    name: str
    pose: Pose | None
    inliers: int
    matches: int
    nearest: str


def localize(
    output: Path,
    queries: Path,
    folder: Path,
    *,
    cameras: Path | None = None,
    max_error: float = 12.0,
    device: str = "auto",
    console: Any = None,
) -> list[Localised]:
    """Localise every photograph of `queries`; writes into `folder`. Queries are never dropped: one without a pose is
    listed as failed. Raises UserError for what the user can mend."""
    import h5py
    from rich.console import Console

    from pipeline.colmap_log import colmap_log_to
    from pipeline.files import features as feature_files
    from pipeline.finished import FinishedRun
    from pipeline.mappers.absolute_pose import SparseMap
    from pipeline.matchers import match_pairs
    from pipeline.recipe import load_recipe
    from pipeline.run import chosen_methods, compute_device, orientations
    from pipeline.screen import bar
    from pipeline.stages.extract import extract
    from pipeline.stages.survey import survey as survey_photos
    from pipeline.workspace import Workspace

    console = console or Console(quiet=True)
    run = FinishedRun(output)
    sparse = SparseMap(run.require_model())  # its names stay those of the run: queries are added and not matched
    recipe = load_recipe(output / "recipe.yaml", [f"device={device}"])
    work = Workspace(folder)
    colmap_log_to(folder / "logs")
    survey = survey_photos(queries, recipe.images, cameras=cameras, workspace_dir=work.frames)
    detect, describe, weights, max_ratio = chosen_methods(recipe, compute_device(recipe.device))
    _same_weights(output, weights)
    work.plan({"survey": {"photographs": survey.fingerprint}, "extract": {"recipe": recipe.flat()}}, overwrite=True)
    with work.stage("extract"), bar(console, "extract", len(survey.photos)) as progress:
        extract(
            survey, detect, describe, orientations(recipe), max_size=recipe.images.max_size, work=work, threads=1,
            progress=progress,
        )  # fmt: skip

    options = recipe.matcher.model_copy(update={"max_ratio": recipe.matcher.max_ratio or max_ratio})
    match = partial(match_pairs, options=options, device=compute_device(recipe.device))
    found: list[Localised] = []
    with (
        h5py.File(work.features, "r") as ours,
        h5py.File(output / "features.h5", "r") as theirs,
        bar(console, "localise", len(survey.photos)) as progress,
    ):
        for done, photo in enumerate(survey.photos, 1):
            query = feature_files.read(ours, photo.name)
            rows, point_ids, nearest = _matches_to_points(query, sparse, theirs, match)
            camera = survey.cameras[photo.camera_id]
            located = sparse.locate(camera, query.keypoints, rows, point_ids, max_error, recipe.seed)
            inliers = 0 if located is None else len(located.rows)
            pose = None
            if located is not None and inliers >= MIN_INLIERS:
                pose = located.pose
                name = f"queries/{photo.name}" if photo.name in sparse.names else photo.name
                sparse.add(name, query.keypoints, located)
            found.append(Localised(photo.name, pose, inliers, len(rows), nearest))
            progress(done)
    _write_csv(folder / "poses.csv", found)
    _write_hloc(folder / "poses.txt", found, sparse)
    sparse.write(folder / "sparse" / "0")
    return found


def _matches_to_points(query: Features, sparse: Any, file: Any, match: Any) -> tuple[np.ndarray, np.ndarray, str]:
    """(M,) rows of the query's keypoints and (M,) ids of points that they match in any registered photograph, each
    combination once; and the photograph with the most of them."""
    from pipeline.files import features as feature_files
    from pipeline.stages.match import best_orientations

    together: list[np.ndarray] = [np.zeros((0, 2), np.int64)]
    most, nearest = -1, ""
    for name in sparse.names:
        known = feature_files.read(file, name)
        indices = best_orientations([(query, known)], match)[0].indices
        seen = sparse.point_ids(name, len(known.lafs))[indices[:, 1]]
        pairs = np.stack([indices[:, 0], seen], axis=1)[seen >= 0]
        together.append(pairs.astype(np.int64))
        if len(pairs) > most:
            most, nearest = len(pairs), name
    rows, point_ids = np.unique(np.concatenate(together), axis=0).T
    return rows, point_ids, nearest


def _same_weights(output: Path, weights: str | None) -> None:
    """Descriptors of two networks do not compare. Raises UserError where the run was made with other weights."""
    report = output / "report.json"
    if not report.is_file():
        return
    then = json.loads(report.read_text(encoding="utf-8")).get("weights_sha256", weights)
    if then != weights:
        raise UserError(f"{output}: made with other descriptor weights than there are now; put the same file in place")


def _write_csv(path: Path, found: list[Localised]) -> None:
    """A row a query; cam_from_world, quaternion w x y z. A failed query has empty pose columns."""
    from pipeline.mappers.absolute_pose import quaternion

    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "status", "inliers", "matches", "nearest", *_POSE])
        for query in found:
            pose = query.pose
            numbers = [""] * 7 if pose is None else [repr(float(v)) for v in (*quaternion(pose.R), *pose.t)]
            status = "failed" if pose is None else "localised"
            writer.writerow([query.name, status, query.inliers, query.matches, query.nearest, *numbers])


def _write_hloc(path: Path, found: list[Localised], sparse: Any) -> None:
    """hloc's result file: "name qw qx qy qz tx ty tz", the last part of the name alone unless two would agree. As in
    hloc, a failed query gets the pose of the photograph that it matched best."""
    from pipeline.mappers.absolute_pose import quaternion

    short = [query.name.rsplit("/", 1)[-1] for query in found]
    names = short if len(set(short)) == len(short) else [query.name for query in found]
    with open(path, "w", encoding="utf-8") as file:
        for name, query in zip(names, found, strict=True):
            pose = query.pose or sparse.pose(query.nearest)
            file.write(" ".join([name, *(str(float(v)) for v in (*quaternion(pose.R), *pose.t))]) + "\n")


def errors(found: list[Localised], model: dict[str, Pose], reference: Reference) -> dict[str, dict[str, float]]:
    """Rotation error (degrees) and centre error (reference's unit, and percent of the camera spread) by query, after
    the model's own photographs are laid on the reference. A failed query has infinite errors.

    The camera spread is the root mean square distance of all the reference's centres to their mean. Raises UserError
    where fewer than two registered photographs have a reference pose, or stand in one place.
    """
    from pipeline.metrics.poses import rotation_error_deg

    aligned = _alignment(model, reference)
    every = np.array([pose.centre for pose in reference.poses.values()])
    spread = float(np.sqrt(((every - every.mean(axis=0)) ** 2).sum(axis=1).mean()))
    result: dict[str, dict[str, float]] = {}
    for query in found:
        if query.name not in reference.poses:
            continue
        rotation = centre = float("inf")
        if query.pose is not None:
            truth = reference.poses[query.name]
            rotation = float(rotation_error_deg(aligned.rotations(query.pose.R), truth.R))
            centre = float(np.linalg.norm(aligned.points(query.pose.centre[None])[0] - truth.centre))
        result[query.name] = {"rotation_deg": rotation, "centre": centre, "centre_percent": 100 * centre / spread}
    return result


def _alignment(model: dict[str, Pose], reference: Reference) -> Similarity:
    """The similarity from the model's world to the reference's: the rotation that the photographs' own rotations agree
    on (their chordal mean), scale and shift by least squares on the centres. Centres alone leave the rotation about
    the line on which most of them stand badly known (0.1 degrees on Herz-Jesus-P8)."""
    common = sorted(set(model) & set(reference.poses))
    if len(common) < 2:
        raise UserError(f"{len(common)} registered photographs have a reference pose: too few to compare")
    U, _, Vt = np.linalg.svd(sum(reference.poses[name].R.T @ model[name].R for name in common))
    R = U @ np.diag([1, 1, np.sign(np.linalg.det(U @ Vt))]) @ Vt
    ours = np.array([model[name].centre for name in common]) @ R.T
    true = np.array([reference.poses[name].centre for name in common])
    x, y = ours - ours.mean(axis=0), true - true.mean(axis=0)
    together = np.abs(x).max() <= 1e-9 * np.abs(ours).max()
    scale = 0.0 if together else float((x * y).sum() / (x * x).sum())
    if scale <= 0:
        raise UserError("the registered photographs stand in one place: there is no scale to compare by")
    return Similarity(scale, R, true.mean(axis=0) - scale * ours.mean(axis=0))


@command
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.localize", description=__doc__)
    parser.add_argument("run", type=Path, metavar="OUTPUT", help="output folder of a finished reconstruction")
    parser.add_argument("--queries", type=Path, required=True, metavar="DIR", help="the photographs to localise")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where to write (OUTPUT/localized/<queries>)")
    parser.add_argument("--cameras", type=Path, metavar="PATH", help="known intrinsics of the queries")
    parser.add_argument("--reference", type=Path, metavar="PATH", help="known poses of photographs and queries")
    parser.add_argument("--max-error", type=float, default=12.0, help="largest reprojection error, pixels (12)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    given = parser.parse_args(arguments)
    folder = given.output or given.run / "localized" / (given.queries.resolve().name or "queries")
    from rich.console import Console

    found = localize(
        given.run, given.queries, folder, cameras=given.cameras, max_error=given.max_error, device=given.device,
        console=Console(highlight=False),
    )  # fmt: skip
    for query in found:
        state = "failed" if query.pose is None else "localised"
        print(f"{query.name}: {state}, {query.inliers} inliers of {query.matches} matches to points")
    if given.reference:
        _report_accuracy(given.run, given.reference, folder, found)
    print(f"{folder}: {sum(query.pose is not None for query in found)} of {len(found)} localised")
    return 0 if any(query.pose is not None for query in found) else 3


def _report_accuracy(run: Path, reference: Path, folder: Path, found: list[Localised]) -> None:
    from datasets.scenes.reference import read_reference
    from pipeline.mappers.models import read_poses

    model = read_poses(run / "sparse" / "0")
    known = read_reference(reference, sorted({*model, *(query.name for query in found)}))
    measured = errors(found, model, known)
    (folder / "accuracy.json").write_text(json.dumps(measured, indent=2) + "\n")
    for name, error in measured.items():
        print(
            f"{name}: {error['rotation_deg']:.3f} degrees, centre {error['centre_percent']:.3f} % of the camera spread"
        )


if __name__ == "__main__":
    sys.exit(main())
