"""One scene x method of a benchmark: its seeds one after another, each leaving one JSON file whatever happens.

All seeds share one run folder: extraction and matching do not depend on the seed and are done once.
"""

import hashlib
import json
import shutil
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.metrics import eth
from pipeline.protocols.recipe import Benchmark, Method, Scene, weights_files
from pipeline.workspace import Workspace, write_atomically

_PHOTOGRAPHS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm")


@dataclass(frozen=True)
class Cell:
    """A scene x method and where its files lie under the benchmark's output."""

    benchmark: Benchmark
    scene: Scene
    method: Method
    output: Path

    @property
    def run(self) -> Path:
        return self.output / "runs" / self.scene.name / self.method.name

    @property
    def log(self) -> Path:
        return self.output / "cells" / self.scene.name / self.method.name / "log.txt"

    def file(self, seed: int) -> Path:
        return self.log.with_name(f"seed-{seed}.json")

    def hash(self, seed: int) -> str:
        """Of everything that decides the cell's result: another hash means that it must run again."""
        options = self.options(seed)
        weights = [_sha256(path) for path in weights_files(options)]
        asked = [self.scene.model_dump(exclude={"methods"}), self.method.model_dump(), options, weights]
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

    def options(self, seed: int) -> dict[str, Any]:
        return self.benchmark.options(self.scene, self.method, seed)

    def read(self, seed: int) -> dict[str, Any] | None:
        """The finished result, or None where the cell must run."""
        try:
            result = json.loads(self.file(seed).read_text())
        except (OSError, json.JSONDecodeError):
            return None
        return result if result.get("hash") == self.hash(seed) else None

    def write(self, seed: int, result: dict[str, Any]) -> None:
        head = {"scene": self.scene.name, "method": self.method.name, "seed": seed, "hash": self.hash(seed)}
        self.file(seed).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.file(seed), json.dumps(head | result, indent=1, allow_nan=False))

    def fail(self, seed: int, error: str) -> None:
        """Note a failure: the tables count it with the worst score."""
        self.write(seed, {"status": "failed", "error": error, "scores": {}})


def run_cell(cell: Cell, seeds: list[int]) -> None:
    """Run the seeds, from nothing; an exception of one is written down as its failure and the next one goes on."""
    shutil.rmtree(cell.run, ignore_errors=True)  # an older one may be of other weights or defaults
    matched = False  # a scene of pairs is matched once; only the robust estimation depends on the seed
    for seed in seeds:
        try:
            result = _score(cell, seed, matched)
        except Exception as error:  # whatever a method does must not end the benchmark, nor vanish from it
            traceback.print_exc()
            cell.fail(seed, f"{type(error).__name__}: {' '.join(str(error).split())}"[:500])
        else:
            matched = True
            cell.write(seed, {"status": "done"} | result)


def _score(cell: Cell, seed: int, matched: bool) -> dict[str, Any]:
    if cell.method.pipeline == "colmap":
        if cell.scene.kind != "multiview":
            raise ValueError("pycolmap's own pipeline reconstructs: it has no scores in scenes of this kind")
        return _colmap(cell, seed)
    match cell.scene.kind:
        case "multiview":
            return _multiview(cell, seed)
        case "pairs":
            return _pairs(cell, seed, matched)
        case "homographies" | "homogr_pairs":
            return _planes(cell, seed, matched)
        case "imc":
            return _imc(cell, seed)


def _multiview(cell: Cell, seed: int) -> dict[str, Any]:
    from pipeline.protocols.stereo import pairs_of, score_pairs
    from pipeline.recipe import Recipe
    from pipeline.run import run

    files = _files(cell)
    recipe = Recipe.model_validate(cell.options(seed))
    detect, found = _detect(cell, recipe, files)
    report = run(recipe, output=cell.run, overwrite=True, html=False, detect=detect, **files)
    work = Workspace(cell.run)
    result: dict[str, Any] = {"scores": _model_scores(report["models"], report["images"]["used"])}
    if report["accuracy"]:
        result = _with_accuracy(result, report["accuracy"])
    inliers = [edge["inliers"] for edge in report["view_graph"]["edges"] if edge["inliers"]]
    used, models, accuracy = report["images"]["used"], report["models"], report["accuracy"]
    result["eth"] = _eth(cell, used, models, len(inliers), sum(inliers), accuracy)
    if cell.scene.stereo:
        reference = _reference(files["reference"], files["images"])
        stereo, cost = work.measure(lambda: score_pairs(work.features, work.matches, pairs_of(reference), seed))
        result["scores"] |= stereo["scores"]
        result["stereo_curve"], result["stereo_pairs"] = stereo["curve"], stereo["pairs"]
        found = found | {"stereo": cost}
    result["orientation"] = report["orientation"]
    return _finished(result | {"stages": found}, work, report["weights_sha256"])


def _pairs(cell: Cell, seed: int, matched: bool) -> dict[str, Any]:
    from pipeline.protocols.scenes import pose_pairs, under_kept_names
    from pipeline.protocols.stereo import score_pairs

    pairs = under_kept_names(pose_pairs(Path(str(cell.scene.pairs))), Path(cell.scene.images))
    work, found = _match_only(cell, [pair.names for pair in pairs], matched)
    stereo, cost = work.measure(lambda: score_pairs(work.features, work.matches, pairs, seed))
    result = {"scores": stereo["scores"], "stereo_curve": stereo["curve"], "stereo_pairs": stereo["pairs"]}
    return _finished(result | {"stages": found | {"stereo": cost}}, work, None)


def _planes(cell: Cell, seed: int, matched: bool) -> dict[str, Any]:
    from pipeline.protocols.planes import score_planes
    from pipeline.protocols.scenes import plane_pairs, under_kept_names

    images = Path(cell.scene.images)
    pairs = under_kept_names(plane_pairs(images, cell.scene.kind), images)
    work, found = _match_only(cell, [pair.names for pair in pairs], matched)
    planes, cost = work.measure(lambda: score_planes(work.features, work.matches, pairs, seed))
    result = {"scores": planes["scores"], "mma_curve": planes["curve"], "plane_pairs": planes["pairs"]}
    return _finished(result | {"stages": found | {"homography": cost}}, work, None)


def _imc(cell: Cell, seed: int) -> dict[str, Any]:
    from pipeline.protocols.imc import score_scene
    from pipeline.recipe import Recipe

    recipe = Recipe.model_validate(cell.options(0))
    result = score_scene(Path(cell.scene.images), recipe, cell.scene.imc, cell.run, seed)
    return _finished(result, Workspace(cell.run), None)


def _match_only(
    cell: Cell, pairs: list[tuple[str, str]], matched: bool
) -> tuple[Workspace, dict[str, dict[str, float]]]:
    """Features and matches of a list of pairs, unless an earlier seed has them already; and the cost of keypoints."""
    from pipeline.protocols.recipe import merged
    from pipeline.recipe import Recipe
    from pipeline.run import run

    listed = cell.output / "scenes" / f"{cell.scene.name}-pairs.txt"
    recipe = Recipe.model_validate(merged(cell.options(0), {"pairs": {"name": "from_file", "file": str(listed)}}))
    detect, found = _detect(cell, recipe, {"images": Path(cell.scene.images)})
    if not matched:
        listed.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(listed, "\n".join(f"{a} {b}" for a, b in pairs))
        run(recipe, Path(cell.scene.images), cell.run, overwrite=True, last="match", detect=detect)
    return Workspace(cell.run), found


def _detect(cell: Cell, recipe: Any, files: dict[str, Any]) -> tuple[Any, dict[str, dict[str, float]]]:
    """The keypoints that methods with this detector share, and their cost as a stage; none where it describes too."""
    from pipeline.protocols.keypoints import shared_detector
    from pipeline.recipe import WHOLE_IMAGE

    if recipe.detector.name in WHOLE_IMAGE:
        return None, {}
    given = {key: files[key] for key in ("images", "cameras", "masks") if key in files}
    detect, cost = shared_detector(recipe, cell.output / "keypoints" / cell.scene.name, **given)
    return detect, {"detect": cost}


def _colmap(cell: Cell, seed: int) -> dict[str, Any]:
    from dataclasses import asdict

    from datasets.scenes.reference import read_cameras
    from pipeline.mappers.models import read_models, read_poses
    from pipeline.protocols import colmap_sift
    from pipeline.recipe import Recipe
    from pipeline.stages.evaluate import evaluate

    recipe = Recipe.model_validate(cell.options(seed))
    files = _files(cell)
    shutil.rmtree(cell.run, ignore_errors=True)
    work = Workspace(cell.run)
    names = _names(files["images"])
    cameras = read_cameras(files["cameras"], names) if files["cameras"] else {}
    stages: dict[str, dict[str, float]] = {}

    def timed(name: str, function: Callable[[], Any]) -> Any:
        result, stages[name] = work.measure(function)
        return result

    budget, threads = recipe.detector.max_keypoints, recipe.threads
    keypoints = timed("extract", lambda: colmap_sift.extract(files["images"], work.database, cameras, budget, threads))
    timed("match", lambda: colmap_sift.match(work.database, seed, threads))
    timed("reconstruct", lambda: colmap_sift.reconstruct(files["images"], work, bool(cameras), seed, threads))
    models = read_models(work.sparse)
    described = [vars(model) | {"registered_images": len(model.registered)} for model in models]
    accuracy = None
    result: dict[str, Any] = {"scores": _model_scores(described, len(names)) | {"keypoints": float(keypoints)}}
    if files["reference"]:
        poses = read_poses(models[0].path) if models else {}
        reference = _reference(files["reference"], files["images"])
        accuracy = asdict(evaluate(poses, reference, names))
        result = _with_accuracy(result, accuracy)
    result["eth"] = _eth(cell, len(names), described, *colmap_sift.inliers(work.database), accuracy)
    return result | {"stages": stages, "weights_sha256": None}


def _eth(
    cell: Cell, images: int, models: list[dict[str, Any]], pairs: int, matches: int, accuracy: dict[str, Any] | None
) -> dict[str, Any]:
    """The cell's row of the local-feature-evaluation table."""
    best = models[0] if models else {}
    return eth.row(
        dataset=cell.scene.name,
        method=cell.method.name,
        images=images,
        registered=best.get("registered_images", 0),
        points=best.get("points3D", 0),
        observations=best.get("observations", 0),
        reprojection_error_px=best.get("mean_reprojection_error_px"),
        inlier_pairs=pairs,
        inlier_matches=matches,
        mean_pose_error=accuracy["centre_mean"] if accuracy else None,
        median_pose_error=accuracy["centre_median"] if accuracy else None,
    )


def _model_scores(models: list[dict[str, Any]], photographs: int) -> dict[str, float]:
    best = models[0] if models else {}
    return {
        "models": float(len(models)),
        "registered": best.get("registered_images", 0) / photographs,
        "points3D": float(best.get("points3D", 0)),
        "mean_track_length": float(best.get("mean_track_length", 0.0)),
    }


def _with_accuracy(result: dict[str, Any], accuracy: dict[str, Any]) -> dict[str, Any]:
    from pipeline.metrics.poses import accuracy_curve

    keys = ("maa_10", "maa_5", "auc_1", "auc_3", "auc_5", "auc_10", "auc_20", "median_pose_error_deg")
    errors = [{k: pair[k] for k in ("names", "error_deg")} for pair in accuracy["pair_errors"]]
    curve = accuracy_curve(np.array([pair["error_deg"] for pair in errors])).tolist()
    return result | {
        "scores": result["scores"] | {key: accuracy[key] for key in keys},
        "pose_curve": curve,
        "pose_pairs": errors,
    }


def _finished(result: dict[str, Any], work: Workspace, weights_sha256: str | None) -> dict[str, Any]:
    """The result with costs by stage, the number of keypoints and the mark of where they lie."""
    count, places = _keypoints(work.features)
    timings = {name: cost for name, cost in work.timings().items() if name not in ("evaluate", "report")}
    given = result.get("stages", {})
    return result | {
        "scores": result["scores"] | {"keypoints": count},
        "stages": {name: cost for name, cost in given.items() if name == "detect"} | timings | given,
        "places_sha256": places,
        "weights_sha256": weights_sha256,
    }


def _keypoints(features: Path) -> tuple[float, str]:
    """Mean number of keypoints of a photograph, and a hash of all places without repeats."""
    import h5py

    from pipeline.files import features as files

    digest, counts = hashlib.sha256(), []
    names = files.names(features)
    with h5py.File(features, "r") as file:
        for name in names:
            keypoints = files.read(file, name, descriptors=False).keypoints
            counts.append(len(keypoints))
            digest.update(name.encode() + np.unique(keypoints, axis=0).tobytes())
    return float(np.mean(counts)) if counts else 0.0, digest.hexdigest()


def _files(cell: Cell) -> dict[str, Any]:
    """What run() takes: images, reference, cameras and masks of the scene, turned where that is asked."""
    from pipeline.protocols.turned import write_turned

    scene = cell.scene
    images = Path(scene.images)
    reference = Path(scene.reference) if scene.reference else None
    cameras = Path(scene.cameras) if scene.cameras else None
    if scene.turn == "none":
        return {"images": images, "reference": reference, "cameras": cameras, "masks": None}
    assert reference is not None
    folder = cell.output / "scenes" / scene.name
    write_turned(images, _reference(reference, images), scene.turn, folder)
    masks = folder / "masks"
    return {
        "images": folder / "images",
        "reference": folder / "cameras",
        "cameras": folder / "cameras" if cameras else None,
        "masks": masks if masks.is_dir() else None,
    }


def _reference(path: Path, images: Path) -> Any:
    from datasets.scenes.reference import read_reference

    return read_reference(path, _names(images))


@cache
def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _names(images: Path) -> list[str]:
    """Photographs of a folder, by their names in the program."""
    found = (path for path in images.rglob("*") if path.suffix.lower() in _PHOTOGRAPHS)
    return sorted(path.relative_to(images).as_posix() for path in found)
