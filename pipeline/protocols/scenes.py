"""Scenes of pairs as the protocols take them: names relative to the image folder, truth for every pair."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from datasets.photos.read import read_image
from datasets.scenes.homographies import read_point_pair, read_sequences
from datasets.scenes.pairs_with_poses import read_pairs_with_poses
from desdis.errors import UserError
from pipeline.protocols.planes import PlanePair
from pipeline.protocols.stereo import PosePair

Pair = TypeVar("Pair", PosePair, PlanePair)


def pose_pairs(path: Path) -> list[PosePair]:
    """The pairs of a list with poses, as the images are stored (its turns are of no use to methods that turn
    themselves). Raises UserError where a pair has no pose."""
    pairs = []
    for pair in read_pairs_with_poses(path):
        if pair.K0 is None or pair.K1 is None or pair.pose is None:
            raise UserError(f"{path}: {pair.names[0]} {pair.names[1]}: no pose; 38 fields expected")
        pairs.append(PosePair(pair.names, (pair.K0, pair.K1), pair.pose))
    if not pairs:
        raise UserError(f"{path}: holds no pair")
    return pairs


def plane_pairs(folder: Path, kind: str) -> list[PlanePair]:
    """Pairs (first, k) of every sequence below the folder, or its hand-made pairs (`homogr_pairs`)."""
    if kind == "homogr_pairs":
        found = [read_point_pair(path.parent) for path in sorted(folder.glob("*/points.txt"))]
        if not found:
            raise UserError(f"{folder}: holds no points.txt")
        return [PlanePair((_name(p.images[0], folder), _name(p.images[1], folder)), p.homography) for p in found]
    return [
        PlanePair((_name(sequence.images[0], folder), _name(image, folder)), H)
        for sequence in read_sequences(folder)
        for image, H in zip(sequence.images[1:], sequence.homographies, strict=True)
    ]


def under_kept_names(pairs: Sequence[Pair], images: Path) -> list[Pair]:
    """The pairs by the names under which a run knows their photographs: of several with equal pixels, as two pairs of a
    list may share one, it keeps the first."""
    first: dict[str, str] = {}
    kept: dict[str, str] = {}
    for name in sorted({name for pair in pairs for name in pair.names}):
        rgb = read_image(images / name)[0]
        pixels = hashlib.sha256(repr(rgb.shape).encode() + rgb.tobytes()).hexdigest()
        kept[name] = first.setdefault(pixels, name)
    return [replace(pair, names=(kept[pair.names[0]], kept[pair.names[1]])) for pair in pairs]


def _name(image: Path, folder: Path) -> str:
    return image.relative_to(folder).as_posix()
