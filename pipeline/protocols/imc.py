"""Image Matching Challenge 2020/2021 (Jin et al., IJCV 2021): stereo and multiview scores of one scene.

In: a scene's `set_100` folder (datasets/scenes/imc.py). Out: mAA of pairs (robust fundamental matrix, co-visibility
from 0.1 on) and of bags of images (our mapper instead of the prescribed COLMAP 3.5; intrinsics unknown, models of three
images and more), and their mean, the final score. The categories of 2,048 and 8,000 keypoints are enforced on every
image.
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from datasets.cameras import Pose, Reference
from datasets.scenes.imc import Scene
from desdis.errors import UserError
from pipeline.epipolar import fundamental_matrix
from pipeline.metrics import imc as metrics
from pipeline.metrics.poses import FAILED, accuracy_curve, maa, rotation_error_deg, translation_error_deg
from pipeline.protocols.recipe import ImcOptions
from pipeline.protocols.stereo import normalised
from pipeline.recipe import Recipe
from pipeline.stages.evaluate import evaluate
from pipeline.types import Survey
from pipeline.workspace import Workspace, write_atomically

CATEGORIES = (2048, 8000)
VALIDATION = (
    "reichstag", "sacre_coeur", "st_peters_square", "wooden_lady", "edinburgh", "mexico_df", "vancouver",
)  # fmt: skip
MIN_INLIERS = 5  # fewer count as no pose


@dataclass(frozen=True)
class Matched:
    """A scene with its features and matches: names are photographs', `names` maps the scene's to them."""

    scene: Scene
    work: Workspace
    images: Path
    names: dict[str, str]


def match_scene(root: Path, recipe: Recipe, options: ImcOptions, run_folder: Path) -> Matched:
    """Features and matches of every pair that a task asks for. Raises UserError where an image has more keypoints than
    its category allows, or where the budget is no category."""
    from pipeline.run import run

    if recipe.detector.max_keypoints not in CATEGORIES:
        raise UserError(f"detector.max_keypoints={recipe.detector.max_keypoints}: IMC has categories of 2048 and 8000")
    scene = Scene(root)
    folders = {path.parent for path in scene.images}
    if len(folders) != 1:
        raise UserError(f"{root / 'images.txt'}: the images lie in {len(folders)} folders, one expected")
    images = folders.pop()
    names = {name: path.name for name, path in zip(scene.names, scene.images, strict=True)}
    wanted: dict[tuple[str, str], None] = {}
    if "stereo" in options.tasks:
        wanted |= dict.fromkeys(scene.pairs(0.0))
    if "multiview" in options.tasks:
        wanted |= dict.fromkeys(scene.visible_pairs(options.visible))
    listed = run_folder.with_name(run_folder.name + "-pairs.txt")
    listed.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(listed, "\n".join(f"{names[a]} {names[b]}" for a, b in wanted))
    pairs = recipe.pairs.model_copy(update={"name": "from_file", "file": listed})
    run(recipe.model_copy(update={"pairs": pairs}), images, run_folder, overwrite=True, last="match")
    work = Workspace(run_folder)
    _check_category(work.features, recipe.detector.max_keypoints)
    return Matched(scene, work, images, names)


def _check_category(features: Path, category: int) -> None:
    import h5py

    from pipeline.files import features as files

    with h5py.File(features, "r") as file:
        for name in files.names(features):
            if len(file[name]["keypoints"]) > category:
                raise UserError(
                    f"{name}: {len(file[name]['keypoints'])} keypoints, the category allows {category}; several "
                    "orientations of one place count each: set orientation=upright or detector.dog.max_orientations=1"
                )


def stereo(matched: Matched, options: ImcOptions, seed: int) -> dict[str, Any]:
    """Scores of the pairs of the co-visibility threshold; pairs that give no pose count as failed."""
    import h5py

    from pipeline.files import features as feature_files
    from pipeline.files import matches as match_files

    truth = matched.scene.calibration
    rows = []
    with h5py.File(matched.work.features, "r") as features, h5py.File(matched.work.matches, "r") as matches:
        for a, b in matched.scene.pairs(options.covisibility):
            first, second = matched.names[a], matched.names[b]
            x0, x1 = (feature_files.read(features, n, descriptors=False).keypoints for n in (first, second))
            indices = match_files.read(matches, first, second).indices
            K = truth.cameras[a].K, truth.cameras[b].K
            rotation = truth.poses[b].R @ truth.poses[a].R.T
            true = Pose(rotation, truth.poses[b].t - rotation @ truth.poses[a].t)
            found = pose_from_matches(x0[indices[:, 0]], x1[indices[:, 1]], *K, options, seed)
            turn, direction = FAILED, FAILED
            if found is not None:
                turn = float(rotation_error_deg(found.R, true.R))
                direction = float(translation_error_deg(found.t, true.t))
            rows.append({"names": [a, b], "error_deg": max(turn, direction), "matches": len(indices)})
    if not rows:
        raise UserError(f"{matched.scene.root}: no pair has a co-visibility of {options.covisibility} or more")
    errors = np.array([row["error_deg"] for row in rows])
    scores = {
        "stereo_maa_10": maa(errors, 10),
        "stereo_maa_5": maa(errors, 5),
        "stereo_matches": float(np.mean([row["matches"] for row in rows])),
    }
    return {"scores": scores, "stereo_curve": accuracy_curve(errors).tolist(), "stereo_pairs": rows}


def pose_from_matches(
    x0: np.ndarray, x1: np.ndarray, K0: np.ndarray, K1: np.ndarray, options: ImcOptions, seed: int
) -> Pose | None:
    """x1 = R x0 + t from a robust fundamental matrix of matched pixels (M, 2) and true intrinsics; None = failed."""
    import cv2

    if len(x0) < 8:
        return None
    order = np.random.default_rng(seed).permutation(len(x0))
    x0, x1 = (np.ascontiguousarray(x[order], np.float64) for x in (x0, x1))
    F, mask = fundamental_matrix(
        x0, x1, options.threshold, options.confidence, options.max_iterations, magsac=options.geometry == "magsac"
    )
    if F is None or F.shape != (3, 3) or mask is None or mask.sum() < MIN_INLIERS:
        return None
    inliers = mask.ravel() > 0
    E = K1.T @ F @ K0
    _, R, t, _ = cv2.recoverPose(E, normalised(x0[inliers], K0), normalised(x1[inliers], K1), np.eye(3), 1e9)[:4]
    return Pose(R, t.ravel())


def multiview(matched: Matched, recipe: Recipe, options: ImcOptions, seed: int) -> dict[str, Any]:
    """Scores of the bags by size and their plain mean."""
    from pipeline.stages.survey import survey

    visible = set(matched.scene.visible_pairs(options.visible))
    folder = matched.work.output / "bags"
    whole = survey(matched.images, recipe.images, workspace_dir=folder)
    by_size: dict[int, dict[str, float]] = {}
    for size in options.bags:
        bags = matched.scene.bags(size)[: options.max_bags]
        done = [_bag(matched, whole, bag, visible, recipe, seed, folder) for bag in bags]
        by_size[size] = metrics.multiview(done)
    average = metrics.bag_average(by_size)
    scores = {f"bags_{name}": value for name, value in average.items() if np.isfinite(value)}
    for size, values in by_size.items():
        scores |= {f"bag{size}_{name}": value for name, value in values.items() if np.isfinite(value)}
    return {"scores": scores}


def _bag(
    matched: Matched,
    whole: Survey,
    bag: list[str],
    visible: set[tuple[str, str]],
    recipe: Recipe,
    seed: int,
    folder: Path,
) -> metrics.Bag:
    """Reconstruct one bag from the scene's matches."""
    from pipeline.mappers.models import read_poses
    from pipeline.stages.reconstruct import reconstruct
    from pipeline.stages.verify import verify

    shutil.rmtree(folder, ignore_errors=True)
    work = Workspace(folder)
    photographs = {matched.names[name] for name in bag}
    photos = tuple(photo for photo in whole.photos if photo.name in photographs)
    cameras = {photo.camera_id: whole.cameras[photo.camera_id] for photo in photos}
    survey = replace(whole, photos=photos, cameras=cameras)
    pairs = [
        (matched.names[a], matched.names[b])
        for a, b in visible
        if matched.names[a] in photographs and matched.names[b] in photographs
    ]
    work.features, work.matches = matched.work.features, matched.work.matches
    models = []
    if pairs:
        verify(survey, sorted(pairs), recipe.verify, seed, work, recipe.threads or 1, _silent)
        models, _ = reconstruct(survey, recipe.mapper, seed, recipe.threads or -1, work, _silent)
    poses = read_poses(models[0].path) if models else {}
    truth = Reference({matched.names[name]: matched.scene.calibration.poses[name] for name in bag})
    accuracy = evaluate(poses, truth)
    errors = np.array([pair.error_deg for pair in accuracy.pair_errors])
    found = [name for name in truth.poses if name in poses]
    centres = [np.array([p[name].centre for name in found]).reshape(-1, 3) for p in (poses, truth.poses)]
    best = models[0] if models else None
    return metrics.Bag(
        size=len(bag),
        errors_deg=errors,
        registered=len(found),
        points3D=best.points3D if best else 0,
        track_length=best.mean_track_length if best else 0.0,
        ate=metrics.benchmark_ate(*centres, seed=seed),
    )


def _silent(done: int) -> None:
    """No progress bar for a bag."""


def score_scene(root: Path, recipe: Recipe, options: ImcOptions, run_folder: Path, seed: int) -> dict[str, Any]:
    """Both tasks, and the final score: the mean of their mAA(10 degrees)."""
    matched = match_scene(root, recipe, options, run_folder)
    result: dict[str, Any] = {"scores": {}}
    finals = []
    stages: dict[str, dict[str, float]] = {}
    if "stereo" in options.tasks:
        part, stages["stereo"] = matched.work.measure(lambda: stereo(matched, options, seed))
        result |= part | {"scores": result["scores"] | part["scores"]}
        finals.append(part["scores"]["stereo_maa_10"])
    if "multiview" in options.tasks:
        part, stages["bags"] = matched.work.measure(lambda: multiview(matched, recipe, options, seed))
        result["scores"] = result["scores"] | part["scores"]
        finals.append(part["scores"]["bags_maa_10"])
    result["scores"]["imc_score"] = float(np.mean(finals))
    return result | {"stages": stages}
