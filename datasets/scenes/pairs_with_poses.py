"""Lists of image pairs with intrinsics and relative pose, as published with SuperGlue (Sarlin et al. 2020).

A line: `name0 name1 rot0 rot1 K0(9) K1(9) T_0to1(16)`, by rows, 38 fields; 2 or 4 fields where there is no truth.
T_0to1 maps camera 0 to camera 1. K belongs to the image as stored and counts from the first pixel's centre. rot k says
that the image is to be turned by k quarter turns counter-clockwise; `turned_K` and `turned_pose` turn the others.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.cameras import Pose
from datasets.scenes.entries import checked_K, checked_pose, half_centre, parse_numbers, read_text
from desdis.errors import UserError


@dataclass(frozen=True)
class PosedPair:
    """names; quarter turns of each; K0 and K1 (3, 3) in COLMAP's pixel convention and pose cam1_from_cam0, or None."""

    names: tuple[str, str]
    turns: tuple[int, int] = (0, 0)
    K0: np.ndarray | None = None
    K1: np.ndarray | None = None
    pose: Pose | None = None


def read_pairs_with_poses(path: Path) -> list[PosedPair]:
    """All lines, in order. Raises UserError naming the line."""
    pairs = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split()
        where = f"{path}, line {number}"
        if not words:
            continue
        if len(words) not in (2, 4, 38):
            raise UserError(f"{where}: {len(words)} fields; 2, 4 or 38 expected")
        names = words[0], words[1]
        if len(words) == 2:
            pairs.append(PosedPair(names))
            continue
        turns = tuple(int(word) if word in ("0", "1", "2", "3") else -1 for word in words[2:4])
        if -1 in turns:
            raise UserError(f"{where}: rotations are 0, 1, 2 or 3 quarter turns")
        if len(words) == 4:
            pairs.append(PosedPair(names, (turns[0], turns[1])))
            continue
        numbers = parse_numbers(" ".join(words[4:]), 34, None, where)
        T = numbers[18:].reshape(4, 4)
        if not np.allclose(T[3], [0, 0, 0, 1]):
            raise UserError(f"{where}: the pose's last row must be 0 0 0 1")
        K0, K1 = (half_centre(checked_K(numbers[i : i + 9], f"{where}, K{i // 9}")) for i in (0, 9))
        pairs.append(PosedPair(names, (turns[0], turns[1]), K0, K1, checked_pose(T[:3, :3], T[:3, 3], where)))
    return pairs


def turned_K(K: np.ndarray, turns: int, width: int, height: int) -> np.ndarray:
    """K (COLMAP's pixel convention) of a width x height image after `turns` quarter turns counter-clockwise."""
    for _ in range(turns % 4):
        # (x, y) goes to (y, width - x): the right edge becomes the top.
        fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
        K = np.array([[fy, 0, cy], [0, fx, width - cx], [0, 0, 1]])
        width, height = height, width
    return K


def turned_pose(pose: Pose, turns0: int, turns1: int) -> Pose:
    """cam1_from_cam0 when the images are turned by quarter turns counter-clockwise."""
    Z0, Z1 = _quarter_turns(turns0), _quarter_turns(turns1)
    return Pose(Z1 @ pose.R @ Z0.T, Z1 @ pose.t)


def _quarter_turns(turns: int) -> np.ndarray:
    """Rotation of the camera's axes: one turn maps x' = y, y' = -x."""
    return np.linalg.matrix_power(np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]]), turns % 4).astype(np.float64)
