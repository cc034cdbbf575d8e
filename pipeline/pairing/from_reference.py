"""Pairs that can share a view by known poses: near cameras that look in similar directions."""

import numpy as np

from datasets.cameras import Reference
from desdis.errors import UserError


def from_reference(
    names: list[str], reference: Reference | None, max_angle: float, max_neighbours: int
) -> list[tuple[str, str]]:
    """For each photograph its nearest cameras (by centre) whose optical axes differ by less than `max_angle` degrees.

    Photographs without a known pose are paired with all others, so that none is lost.
    """
    if reference is None:
        raise UserError("pairs.name=from_reference needs known poses: give --reference PATH")
    posed = [name for name in sorted(names) if name in reference.poses]
    pairs = {tuple(sorted((a, b))) for a in names if a not in reference.poses for b in names if a != b}
    if posed:
        centres = np.array([reference.poses[name].centre for name in posed])
        axes = np.array([reference.poses[name].R[2] for name in posed])
        distance = np.linalg.norm(centres[:, None] - centres[None], axis=2)
        distance[axes @ axes.T < np.cos(np.deg2rad(max_angle))] = np.inf
        np.fill_diagonal(distance, np.inf)
        for i, row in enumerate(distance):
            for j in np.argsort(row, kind="stable")[:max_neighbours]:
                if np.isfinite(row[j]):
                    pairs.add(tuple(sorted((posed[i], posed[j]))))
    return sorted((a, b) for a, b in pairs)
