"""A network's score on patch sets it was not trained on: FPR95, and matching and retrieval within each scene."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from desdis import augment, metrics
from desdis.errors import UserError
from desdis.patchsets import UPRIGHT_ROLL, PatchSet, draw_pairs, turned_apart

POINTS_A_SCENE = 1000
PAIRS = 6000
FEWEST = 10  # points of a scene that gets a score
SAME_PLACE = 0.25  # of a patch's half width: points nearer than this are one place to an upright patch


@torch.no_grad()
def describe(
    network: nn.Module, patches: Any, margin: float, device: torch.device, rows: np.ndarray | None = None
) -> np.ndarray:
    """(N, D) float32 descriptors of (N, S, S) uint8 patches, or of the named rows, 2048 at a time, in eval mode."""
    was_training = network.training
    network.eval()
    rows = np.arange(len(patches)) if rows is None else rows
    parts = []
    for start in range(0, len(rows), 2048):
        raw = torch.from_numpy(patches[rows[start : start + 2048]]).to(device)
        parts.append(network(augment.plain(raw, margin)).float().cpu().numpy())
    network.train(was_training)
    return np.concatenate(parts)


def validate(network: nn.Module, sets: Sequence[PatchSet], device: torch.device) -> dict[str, float]:
    """The scores of `validate_set`; of several sets all of them as NAME.score (NAME: see `set_names`), and the mean as
    `score`. A set cut from tracks favours the network that matched them, planes favour none: two sets keep a balance.
    """
    names = set_names([data.folder for data in sets])
    scores = [validate_set(network, data, device) for data in sets]
    if len(sets) == 1:
        return scores[0]
    named = {f"{name}.{key}": value for name, found in zip(names, scores, strict=True) for key, value in found.items()}
    return {**named, "score": float(np.mean([found["score"] for found in scores]))}


def require_scorable(sets: Sequence[PatchSet]) -> None:
    """Raise the UserError that `validate` would raise for these sets, before a training begins; reads no patch."""
    set_names([data.folder for data in sets])
    for data in sets:
        pairs_to_score(data)


def set_names(folders: Sequence[Path]) -> list[str]:
    """What the sets in these folders go by: the folders' names, with those above where names alone do not tell them
    apart (a/set, b/set). Raises UserError if a folder comes twice."""
    parts = [Path(os.path.abspath(folder)).parts for folder in folders]  # as it was named: links are not followed
    if len(set(parts)) < len(parts):
        raise UserError(f"one of {', '.join(map(str, folders))} is given twice; give each patch set once")
    depth = 1
    while len({own[-depth:] for own in parts}) < len(parts):
        depth += 1
    return ["/".join(own[-depth:]) for own in parts]


def validate_set(network: nn.Module, data: PatchSet, device: torch.device) -> dict[str, float]:
    """Scores by orientation: `fpr95` over the set's fixed pairs; over scenes the mean of `matching` (average precision
    of nearest neighbours ordered by distance), `ratio` (by the ratio of distances) and `retrieval` (mean 1 / rank); and
    `dimensions`, how many of the descriptor's dimensions are in use.

    Each point gives the pair of its rows with the largest view angle; the pool is the scene's other points. `score`,
    by which the best weights are chosen, is the mean of ratio and retrieval over the orientations. Raises UserError for
    a set that is too small, see `pairs_to_score`.
    """
    scores: dict[str, float] = {}
    for orientation, (chosen, tested) in pairs_to_score(data).items():
        rows, places = np.unique(np.concatenate([chosen.ravel(), tested[:, :2].ravel()]), return_inverse=True)
        described = describe(network, data.patches[orientation], data.margin, device, rows)[places.reshape(-1)]
        scores[f"dimensions_{orientation}"] = metrics.dimensions_used(described)
        of_chosen, of_tested = np.split(described, [chosen.size])
        of_tested = of_tested.reshape(len(tested), 2, -1)
        distances = np.linalg.norm(of_tested[:, 0] - of_tested[:, 1], axis=1)
        scores[f"fpr95_{orientation}"] = metrics.fpr95(distances, tested[:, 2] == 1)
        of_chosen = of_chosen.reshape(len(chosen), 2, -1)
        by_scene = [
            scene_scores(of_chosen[inside], same_place(data, chosen[inside, 0]))
            for inside in (data.scene_ids[chosen[:, 0]] == scene for scene in np.unique(data.scene_ids))
        ]
        by_scene = [found for found in by_scene if found]
        for key in by_scene[0]:
            scores[f"{key}_{orientation}"] = float(np.mean([found[key] for found in by_scene]))
    kept = [value for key, value in scores.items() if key.startswith(("ratio", "retrieval"))]
    return {**scores, "score": float(np.mean(kept))}


def pairs_to_score(data: PatchSet) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By orientation: (M, 2) the pair of rows of each point, and (F, 3) the fixed pairs, as `validate_set` scores them.

    Raises UserError where no scene has FEWEST points, or the fixed pairs are all matches, or none is.
    """
    points = np.concatenate([scene_points(data, scene) for scene in range(len(data.manifest["scenes"]))])
    pairs = draw_pairs(data, points, tries=16, generator=np.random.default_rng(0))
    fixed = data.pairs[np.linspace(0, len(data.pairs) - 1, min(PAIRS, len(data.pairs))).astype(int)]
    found = {}
    for orientation in data.patches:
        chosen, tested = pairs, fixed
        if orientation == "upright":
            chosen = pairs[turned_apart(data, pairs) < UPRIGHT_ROLL]
            tested = fixed[(turned_apart(data, fixed[:, :2]) < UPRIGHT_ROLL) | (fixed[:, 2] == 0)]
        most = int(np.bincount(data.scene_ids[chosen[:, 0]], minlength=1).max())
        if most < FEWEST or len(np.unique(tested[:, 2])) < 2:
            what = f"its largest scene has {most} points of {FEWEST}" if most < FEWEST else "pairs.npy lacks a label"
            raise UserError(
                f"{data.folder} is too small to validate on: {what} ({orientation} patches); give more or larger places"
            )
        found[orientation] = chosen, tested
    return found


def scene_points(data: PatchSet, scene: int) -> np.ndarray:
    """At most POINTS_A_SCENE points of a scene, evenly through its order."""
    points = np.flatnonzero(data.point_scenes == scene)
    return points[np.linspace(0, len(points) - 1, min(POINTS_A_SCENE, len(points))).astype(int)]


def same_place(data: PatchSet, rows: np.ndarray) -> np.ndarray:
    """(N, N) bool: rows of different points of one scene at one place (a corner detected twice, or turned twice)."""
    points = data.point_ids[rows]
    reach = SAME_PLACE * float(data.manifest.get("magnification", 1)) * data.point_sizes[points]
    apart = np.linalg.norm(data.points[points][:, None] - data.points[points][None], axis=2)
    return (apart < np.maximum(reach[:, None], reach[None])) & ~np.eye(len(rows), dtype=bool)


def scene_scores(pairs: np.ndarray, same: np.ndarray) -> dict[str, float]:
    """(N, 2, D) descriptors of a scene's matching pairs, (N, N) what is no wrong answer; no scores below FEWEST."""
    if len(pairs) < FEWEST:
        return {}
    distances = np.sqrt(np.maximum(2 - 2 * pairs[:, 0] @ pairs[:, 1].T, 0))
    distances[same] = 2.0
    return {
        "matching": metrics.matching(distances)[0],
        "ratio": metrics.matching_by_ratio(distances),
        "retrieval": metrics.retrieval_one(distances),
    }
