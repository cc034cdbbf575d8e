"""`K R t` text: one `<image>.txt` a photograph, as in the photograph sets.

A file holds 23 numbers after a comment line: K by rows, R by rows, t, width and height; x ~ K (R X + t), so R and t are
cam_from_world. K counts from the first pixel's centre.
"""

from pathlib import Path

from datasets.cameras import Camera, Pose, Reference
from datasets.scenes.entries import checked_K, checked_pose, half_centre, pick, read_numbers, whole_centre
from desdis.errors import UserError

_LAYOUT = "K (9), R (9), t (3), width height"


def read_krt_file(path: Path) -> tuple[Pose, Camera]:
    """Pose (cam_from_world) and camera (COLMAP's pixel convention; skew of rounding size is dropped)."""
    numbers = read_numbers(path, 23, _LAYOUT)
    K = checked_K(numbers[:9], str(path))
    if abs(K[0, 1]) > 1e-6 * K[0, 0]:
        raise UserError(f"{path}: K has skew {K[0, 1]:g}; no camera model here has one")
    pose = checked_pose(numbers[9:18], numbers[18:21], str(path))
    width, height = numbers[21:23]
    if width < 1 or height < 1:
        raise UserError(f"{path}: width and height must be positive")
    return pose, Camera.pinhole(half_centre(K), int(width), int(height))


def format_krt(pose: Pose, camera: Camera) -> str:
    """The text of such a file: the inverse of `read_krt_file`."""
    K = whole_centre(camera.K)
    lines = [" ".join(f"{value:.12g}" for value in row) for row in (*K, *pose.R, pose.t)]
    head = "# K (3x3), R (3x3), t (3), width height; x ~ K (R X + t)"
    return "\n".join([head, *lines, f"{camera.width} {camera.height}"]) + "\n"


def read_krt(folder: Path, names: list[str]) -> Reference:
    """Poses and cameras of the photographs, from the text files of a folder."""
    chosen = pick({path.stem: path for path in sorted(folder.glob("*.txt"))}, names, str(folder))
    read = {name: read_krt_file(path) for name, path in chosen.items()}
    return Reference({n: pose for n, (pose, _) in read.items()}, {n: cam for n, (_, cam) in read.items()}, "krt")
