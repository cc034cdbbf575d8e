"""A small run folder without photographs worth the name: exact cameras, noisy projections, matches with outliers."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from datasets.cameras import Camera, Pose
from pipeline.files import features as feature_files
from pipeline.files import matches as match_files
from pipeline.types import Features, Matches, Photo, Survey
from pipeline.workspace import Workspace

WIDTH, HEIGHT, FOCAL = 320, 240, 300.0
NAMES = ("0001.png", "a/0001.png", "a/wide angle.png", "b-c.png", "z.png")
NESTED = ("0001.png", "a/0002.png", "a/b/wide.png", "b-c.png", "z.png")  # in folders, one of another size


@dataclass
class Run:
    """What was made: `seen[name]` are the world points of the image's keypoints, row by row."""

    work: Workspace
    survey: Survey
    poses: dict[str, Pose]
    points: np.ndarray
    seen: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        names = [photo.name for photo in self.survey.photos]
        return [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]


def write_run(folder: Path, names: tuple[str, ...] = NAMES, points: int = 250, seed: int = 0) -> Run:
    """Images, features.h5, pairs.txt and matches.h5 of cameras on an arc round a wavy wall."""
    generator = np.random.default_rng(seed)
    world = generator.uniform((-2, -1.5, 0), (2, 1.5, 1), (points, 3))
    camera = Camera("PINHOLE", WIDTH, HEIGHT, (FOCAL, FOCAL, WIDTH / 2 + 3.0, HEIGHT / 2 - 2.0), True, True)
    photos, poses = [], {}
    for index, name in enumerate(names):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), generator.integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8))
        photos.append(Photo(name, path, WIDTH, HEIGHT, camera_id=1))
        poses[name] = _pose_on_arc(index, len(names))
    survey = Survey(folder / "images", tuple(photos), {1: camera})
    run = Run(Workspace(folder / "run"), survey, poses, world)
    run.work.plan({}, overwrite=False)
    _write_features(run, camera, generator)
    _write_matches(run, generator)
    run.work.pairs.write_text("\n".join(f"{a} {b}" for a, b in run.pairs))
    run.work.recipe.write_text("seed: 0\n")
    run.work.report.write_text(json.dumps({"format": 1, "images": {"root": str(survey.root)}}))
    return run


def verified(run: Run) -> Run:
    """The run with its database."""
    from pipeline.stages.verify import VerifyOptions, verify

    verify(run.survey, run.pairs, VerifyOptions.model_validate({}), 0, run.work, 1, lambda n: None)
    return run


def reconstruct(run: Run) -> Run:
    """database.db and sparse/0, by the program's own stages."""
    from pipeline.mappers import MapperOptions
    from pipeline.stages.reconstruct import reconstruct as stage

    verified(run)
    models, _ = stage(run.survey, MapperOptions.model_validate({}), 0, 1, run.work, lambda n: None)
    assert len(models) == 1 and len(models[0].registered) == len(run.survey.photos)
    return run


def _pose_on_arc(index: int, count: int) -> Pose:
    """Camera 4 units away, turned towards the wall's middle."""
    angle = np.radians(-30 + 60 * index / max(1, count - 1))
    centre = np.array([4 * np.sin(angle), 0.3 * np.sin(3 * angle), 0.5 - 4 * np.cos(angle)])
    forward = np.array([0, 0, 0.5]) - centre
    forward /= np.linalg.norm(forward)
    right = np.cross([0, 1, 0], forward)
    right /= np.linalg.norm(right)
    R = np.stack([right, np.cross(forward, right), forward])
    return Pose(R, -R @ centre)


def _write_features(run: Run, camera: Camera, generator: np.random.Generator) -> None:
    with feature_files.appending(run.work.features, {"seed": 0}) as file:
        for photo in run.survey.photos:
            pose = run.poses[photo.name]
            in_camera = run.points @ pose.R.T + pose.t
            xy = (in_camera @ camera.K.T)[:, :2] / in_camera[:, 2:] + generator.normal(size=(len(run.points), 2)) * 0.2
            visible = np.flatnonzero(((xy > 2) & (xy < (WIDTH - 2, HEIGHT - 2))).all(axis=1))
            visible = generator.permutation(visible)
            lafs = np.zeros((len(visible), 2, 3), np.float32)
            lafs[:, 0, 0] = lafs[:, 1, 1] = generator.uniform(1, 4, len(visible))
            lafs[:, :, 2] = xy[visible]
            descriptors = generator.normal(size=(len(visible), 64)).astype(np.float32)
            descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
            scores = np.sort(generator.random(len(visible)).astype(np.float32))[::-1]
            feature_files.write(
                file, photo.name, Features(lafs, scores, {"oriented": descriptors}, (photo.width, photo.height))
            )
            run.seen[photo.name] = visible


def _write_matches(run: Run, generator: np.random.Generator) -> None:
    with match_files.appending(run.work.matches, {"seed": 0}) as file:
        for a, b in run.pairs:
            _, i, j = np.intersect1d(run.seen[a], run.seen[b], return_indices=True)
            wrong = generator.random(len(i)) < 0.05
            j = j.copy()
            j[wrong] = generator.permutation(j[wrong])
            order = np.argsort(i)
            indices = np.stack([i, j], axis=1)[order].astype(np.int32)
            scores = generator.uniform(0.5, 1, len(i)).astype(np.float32)
            match_files.write(file, a, b, Matches(indices, scores), len(run.seen[a]))
