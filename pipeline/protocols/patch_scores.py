"""Descriptors scored on patches: on a patch set cut from reconstructions, and on planes, where a homography is exact.

Every score goes by scene, so that methods can be compared scene by scene. Sources: FPR95 on labelled pairs, Brown, Hua
& Winder (PAMI 2011); matching and retrieval, HPatches (CVPR 2017). Metrics: desdis/metrics.py.
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

POINTS, PAIRS = 500, 1000  # points, and labelled pairs, of a scene
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
        return hashlib.sha256(np.ascontiguousarray(self.patches)).hexdigest()


def set_tasks(data: PatchSet, name: str) -> Iterator[PatchTask]:
    """One task a scene and orientation of a patch set."""
    for scene, entry in enumerate(data.manifest["scenes"]):
        points = scene_points(data, scene)
        points = points[:: max(1, len(points) // POINTS)]
        if len(points) < 10:
            continue
        pairs = draw_pairs(data, points, tries=16, generator=np.random.default_rng(0))
        labelled = data.pairs[data.scene_ids[data.pairs[:, 0]] == scene]
        labelled = labelled[np.linspace(0, len(labelled) - 1, min(PAIRS, len(labelled))).astype(int)]
        for orientation, patches in data.patches.items():
            chosen, tested = pairs, labelled
            if orientation == "upright":
                chosen = pairs[turned_apart(data, pairs) < UPRIGHT_ROLL]
                tested = labelled[(turned_apart(data, labelled[:, :2]) < UPRIGHT_ROLL) | (labelled[:, 2] == 0)]
            others, whose = _other_views(data, chosen, orientation)
            if len(chosen) < 10 or not tested[:, 2].any() or tested[:, 2].all():
                continue
            rows, at = np.unique(np.concatenate([chosen.ravel(), tested[:, :2].ravel(), others]), return_inverse=True)
            parts = np.split(at.ravel(), [chosen.size, chosen.size + 2 * len(tested)])
            same = same_place(data, chosen[:, 0])
            yield PatchTask(
                f"{name} {orientation}", entry["name"], window(patches[rows], data.margin),
                _set_score(parts[0].reshape(-1, 2), parts[1].reshape(-1, 2), tested[:, 2] == 1, parts[2], whose, same),
            )  # fmt: skip


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


def _set_score(
    pairs: np.ndarray, tested: np.ndarray, match: np.ndarray, others: np.ndarray, whose: np.ndarray, same: np.ndarray
) -> Callable[[np.ndarray], Scores]:
    def score(descriptors: np.ndarray) -> Scores:
        labelled = np.linalg.norm(descriptors[tested[:, 0]] - descriptors[tested[:, 1]], axis=1)
        first, second = descriptors[pairs[:, 0]], descriptors[pairs[:, 1]]
        across = distances(first, second)
        across[same] = np.inf
        pool = np.concatenate([across, distances(first, descriptors[others])], axis=1)
        numbers = np.arange(len(pairs))
        belongs = np.concatenate([numbers, whose])
        pool[:, len(pairs) :][same[:, whose]] = np.inf
        finite = np.where(np.isfinite(across), across, 9.0)
        return {
            "fpr95": metrics.fpr95(labelled, match),
            "fpr95_hynet": metrics.fpr95_hynet(labelled, match),
            "top1": float((across.argmin(axis=1) == numbers).mean()),
            "matching": metrics.matching(finite)[0],
            "ratio": metrics.matching_by_ratio(finite),
            "retrieval": metrics.retrieval(pool, belongs[None] == numbers[:, None]),
        }

    return score


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
            across = distances(first, second)
            own = np.eye(size, dtype=bool)
            used = own | far
            finite = np.where(used, across, 9.0)
            rows.append(
                {
                    "fpr95": metrics.fpr95(across[used], own[used]),
                    "fpr95_hynet": metrics.fpr95_hynet(across[used], own[used]),
                    "top1": float((finite.argmin(axis=1) == np.arange(size)).mean()),
                    "matching": metrics.matching(finite)[0],
                    "ratio": metrics.matching_by_ratio(finite),
                    "retrieval": metrics.retrieval_one(finite),
                }
            )
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
