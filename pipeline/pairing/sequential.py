"""Photographs taken one after another (a video, a flight): neighbours in name order, and loops closed by a step."""

import re
from itertools import combinations


def sequential(names: list[str], overlap: int, quadratic: bool = True, loop_step: int = 0) -> list[tuple[str, str]]:
    """Each name with its next `overlap`, with those 2^k further on (COLMAP's quadratic overlap), and every
    `loop_step`-th with all other such, which closes loops: half the overlap, so that of two passes by one place two
    such photographs are no further apart than neighbours that match. Numbers in names count as numbers: 2 before 10."""
    ordered = sorted(names, key=_natural)
    steps = set(range(1, overlap + 1))
    if quadratic:
        steps |= {2**k for k in range(overlap)}
    pairs = {(i, i + step) for i in range(len(ordered)) for step in steps if i + step < len(ordered)}
    if loop_step:
        pairs |= set(combinations(range(0, len(ordered), loop_step), 2))
    return [(ordered[i], ordered[j]) for i, j in sorted(pairs)]


def _natural(name: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)]
