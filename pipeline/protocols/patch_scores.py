"""Descriptors scored on patches: on a patch set cut from reconstructions, and on planes, where a homography is exact.

Every score goes by scene, so that methods can be compared scene by scene. FPR95 (Brown, Hua & Winder, PAMI 2011) is
taken over all pairs of a scene's points and not over a list of random ones, of which good descriptors mistake too few
to tell them apart; a point's match is its pair with the largest angle of view. Matching and retrieval: HPatches (CVPR
2017). Metrics: desdis/metrics.py.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from desdis import metrics
from desdis.patchsets import UPRIGHT_ROLL, PatchSet, draw_pairs, turned_apart
from desdis.validation import same_place, scene_points

Describe = Callable[[np.ndarray], np.ndarray]
Scores = dict[str, float]

POINTS = 500  # of a scene
FARTHEST = 9.0  # beyond any distance of unit vectors: never a neighbour
FAR = 10.0  # pixels: on a plane, frames farther apart are different places
# Disturbance of the second frame: shift (share of the described half width), turn (degrees), scale (share); standard
# deviations. `exact` has what remains of a real change of view: the homography is carried over by its similarity.
LEVELS = {"exact": (0.0, 0.0, 0.0), "mild": (0.08, 6.0, 0.08), "hard": (0.15, 15.0, 0.15), "tough": (0.25, 25.0, 0.25)}


@dataclass(frozen=True)
class PatchTask:
    """Patches (N, 32, 32) uint8 once for all methods, and what their descriptors (N, D) are worth."""

    group: str  # a row of scores in the tables: "validation oriented", "planes hard"
    scene: str
    patches: np.ndarray
    score: Callable[[np.ndarray], Scores]

    @property
    def sha256(self) -> str:
        """Of the patches: the same patches need not be described again."""
        return hashlib.sha256(np.ascontiguousarray(self.patches).data).hexdigest()


def set_tasks(data: PatchSet, name: str) -> Iterator[PatchTask]:
    """One task a scene and orientation of a patch set."""
    for scene, entry in enumerate(data.manifest["scenes"]):
        points = scene_points(data, scene)
        points = points[:: max(1, len(points) // POINTS)]
        if len(points) < 10:
            continue
        pairs = draw_pairs(data, points, tries=16, generator=np.random.default_rng(0))
        for orientation, patches in data.patches.items():
            chosen = pairs
            if orientation == "upright":
                chosen = pairs[turned_apart(data, pairs) < UPRIGHT_ROLL]
            if len(chosen) < 10:
                continue
            others, whose = _other_views(data, chosen, orientation)
            rows = np.concatenate([chosen[:, 0], chosen[:, 1], others])
            score = _set_score(len(chosen), whose, same_place(data, chosen[:, 0]))
            yield PatchTask(f"{name} {orientation}", entry["name"], window(patches[rows], data.margin), score)


def _other_views(data: PatchSet, chosen: np.ndarray, orientation: str, most: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Further rows of the chosen points, and which of the pairs (M, 2) each belongs to: more positives to retrieve."""
    rows, whose = [], []
    for number, (a, b) in enumerate(chosen):
        point = data.point_ids[a]
        own = np.arange(int(data.starts[point]), int(data.starts[point + 1]))
        own = own[(own != a) & (own != b)][:most]
        if orientation == "upright" and len(own):
            own = own[turned_apart(data, np.column_stack([np.full(len(own), a), own])) < UPRIGHT_ROLL]
        rows += own.tolist()
        whose += [number] * len(own)
    return np.array(rows, np.int64), np.array(whose, np.int64)


def _set_score(count: int, whose: np.ndarray, same: np.ndarray) -> Callable[[np.ndarray], Scores]:
    """Scores of descriptors in the order: first patches of `count` pairs, their second ones, further views `whose`.
    same (count, count): pairs whose confusion is no mistake."""

    def score(descriptors: np.ndarray) -> Scores:
        first, second, others = np.split(descriptors, [count, 2 * count])
        across = distances(first, second)
        scores = matrix_scores(across, ~same)
        pool = np.concatenate([np.where(same, FARTHEST, across), distances(first, others)], axis=1)
        pool[:, count:][same[:, whose]] = FARTHEST
        belongs = np.concatenate([np.arange(count), whose])
        return scores | {"retrieval": metrics.retrieval(pool, belongs[None] == np.arange(count)[:, None])}

    return score


def matrix_scores(across: np.ndarray, used: np.ndarray) -> Scores:
    """All scores of an (N, N) matrix of distances whose diagonal holds the matches; used (N, N): pairs that count."""
    own = np.eye(len(across), dtype=bool)
    finite = np.where(used | own, across, FARTHEST)
    return {
        "fpr95": metrics.fpr95(across[used | own], own[used | own]),
        "fpr95_hynet": metrics.fpr95_hynet(across[used | own], own[used | own]),
        "top1": float((finite.argmin(axis=1) == np.arange(len(across))).mean()),
        "matching": metrics.matching(finite)[0],
        "ratio": metrics.matching_by_ratio(finite),
        "retrieval": metrics.retrieval_one(finite),
    }


def plane_tasks(folder: Path, magnification: float = 9.0, keypoints: int = 300) -> Iterator[PatchTask]:
    """One task a sequence of planes and level: keypoints of the first picture, and their frames carried by the
    homography to each of the others and disturbed there. The same frames for all methods."""
    from datasets.patches.homography_pairs import carry_frames
    from datasets.patches.patch_set import read_grey
    from datasets.scenes.homographies import read_sequences
    from desdis.patches import extract_patches

    for number, sequence in enumerate(read_sequences(folder)):
        grey = [read_grey(path) for path in sequence.images]
        frames = _keypoints(grey[0], keypoints)
        for level, amount in LEVELS.items():
            generator = np.random.default_rng([number, list(LEVELS).index(level)])
            patches, sizes, apart = [], [], []
            for k, H in enumerate(sequence.homographies):
                second = _disturbed(carry_frames(frames, H), magnification, amount, generator)
                both = _inside(frames, grey[0], magnification) & _inside(second, grey[k + 1], magnification)
                if both.sum() < 10:
                    continue
                centres = frames[both, :, 2]
                apart.append(np.linalg.norm(centres[:, None] - centres[None], axis=2) > FAR)
                patches.append(extract_patches(grey[0], frames[both], magnification))
                patches.append(extract_patches(grey[k + 1], second[both], magnification))
                sizes.append(int(both.sum()))
            if sizes:
                yield PatchTask(f"planes {level}", sequence.name, np.concatenate(patches), _plane_score(sizes, apart))


def _plane_score(sizes: list[int], apart: list[np.ndarray]) -> Callable[[np.ndarray], Scores]:
    def score(descriptors: np.ndarray) -> Scores:
        rows, begin = [], 0
        for size, far in zip(sizes, apart, strict=True):
            first, second = descriptors[begin : begin + size], descriptors[begin + size : begin + 2 * size]
            begin += 2 * size
            rows.append(matrix_scores(distances(first, second), far))
        return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}

    return score


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, M) Euclidean distances of unit vectors."""
    return np.sqrt(np.maximum(2 - 2 * a @ b.T, 0))


def window(patches: np.ndarray, margin: float) -> np.ndarray:
    """(N, S, S) uint8 stored patches to the (N, 32, 32) uint8 window that is described."""
    import torch

    from desdis import augment

    cut = [np.zeros((0, 32, 32), np.uint8)]
    for begin in range(0, len(patches), 2048):
        part = augment.plain(torch.from_numpy(np.ascontiguousarray(patches[begin : begin + 2048])), margin)
        cut.append(part[:, 0].round().clamp(0, 255).to(torch.uint8).numpy())
    return np.concatenate(cut)


def _keypoints(grey: np.ndarray, count: int) -> np.ndarray:
    """(N, 2, 3) the strongest frames, one at a place."""
    from pipeline.detectors.dog import Dog
    from pipeline.types import Image

    lafs = Dog(Dog.Options(max_orientations=1), 2 * count).detect(Image(grey, np.stack([grey] * 3, axis=2))).lafs
    _, first = np.unique(np.rint(lafs[:, :, 2]), axis=0, return_index=True)
    return lafs[np.sort(first)][:count]


def _disturbed(
    frames: np.ndarray, magnification: float, amount: tuple[float, float, float], generator: np.random.Generator
) -> np.ndarray:
    shift, turn, scale = amount
    n = len(frames)
    angle, factor = np.radians(generator.normal(0, 1, n) * turn), 1 + generator.normal(0, 1, n).clip(-2, 2) * scale
    c, s = factor * np.cos(angle), factor * np.sin(angle)
    A = frames[:, :, :2] @ np.stack([c, -s, s, c], axis=1).reshape(-1, 2, 2)
    offset = generator.normal(0, 1, (n, 2)) * shift * magnification
    centres = frames[:, :, 2] + np.einsum("nij,nj->ni", frames[:, :, :2], offset)
    return np.concatenate([A, centres[:, :, None]], axis=2).astype(np.float32)


def _inside(frames: np.ndarray, grey: np.ndarray, magnification: float) -> np.ndarray:
    corners = magnification * np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])
    at = np.einsum("kij,cj->kci", frames[:, :, :2], corners) + frames[:, None, :, 2]
    return ((at >= 0) & (at <= grey.shape[::-1])).all(axis=(1, 2))
