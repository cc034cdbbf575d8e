"""The small things that travel between the rooms. Pixels follow COLMAP: the top-left pixel's centre is (0.5, 0.5)."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from datasets.cameras import Camera


@dataclass(frozen=True)
class Photo:
    """One photograph of the survey, on its stored pixel grid (EXIF orientation is not applied, as in COLMAP and hloc).

    `roll` is the angle in degrees, clockwise on screen (x towards y), of the scene's "right" on the stored grid as the
    EXIF orientation tells it: 0 for a level photograph. Upright frames are drawn at this angle.
    """

    name: str  # posix path relative to the image folder: the name in every file that leaves the program
    path: Path
    width: int
    height: int
    camera_id: int
    roll: float = 0.0
    mask: Path | None = None


@dataclass(frozen=True)
class Skipped:
    """A file that was not used, and why, in words for the user."""

    name: str
    reason: str


@dataclass(frozen=True)
class Survey:
    """What lies in the image folder."""

    root: Path
    photos: tuple[Photo, ...]
    cameras: dict[int, Camera]
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()  # decisions worth a line in the report (grouping, turned images, ...)
    fingerprint: str = ""  # hash of names, contents, cameras and masks: another photograph means running again


@dataclass(frozen=True)
class Image:
    """Pixels for a detector: grey (H, W) uint8, rgb (H, W, 3) uint8, mask (H, W) bool (True = use) or None."""

    grey: np.ndarray
    rgb: np.ndarray
    mask: np.ndarray | None = None
    roll: float = 0.0


@dataclass(frozen=True)
class Detected:
    """What a detector leaves, strongest first.

    lafs: (N, 2, 3) float32 local affine frames [A | c] in pixels, COLMAP convention; sqrt(|det A|) is the scale sigma;
    A maps the patch axes (u right, v down) to the image. A frame of angle a (clockwise on screen, as OpenCV's and
    COLMAP's angles) is sigma [[cos a, -sin a], [sin a, cos a]]. Several orientations of one place are several rows
    with the same centre, directly after each other or not.
    scores: (N,) float32, larger is stronger.
    descriptors: (N, D) float32 of unit length where the method describes whole images (ALIKED, XFeat), else None.
    """

    lafs: np.ndarray
    scores: np.ndarray
    descriptors: np.ndarray | None = None


@dataclass(frozen=True)
class Features:
    """Features of one photograph. Rows of lafs (N, 2, 3), scores (N,) and of each descriptor array (N, D) agree.

    descriptors: by orientation, "oriented" and / or "upright". Upright rows that repeat an earlier row's place are
    zero and never matched.
    """

    lafs: np.ndarray
    scores: np.ndarray
    descriptors: dict[str, np.ndarray]
    image_size: tuple[int, int]  # (width, height)

    @property
    def keypoints(self) -> np.ndarray:
        """(N, 2) float32 centres, COLMAP convention."""
        return self.lafs[:, :, 2]

    @cached_property
    def places(self) -> np.ndarray:
        """(N,) rows of the first frame at each frame's place."""
        return places(self.lafs)


def places(lafs: np.ndarray) -> np.ndarray:
    """(N,) int: for each frame of (N, 2, 3) the first row with the same centre and scale. Several orientations of one
    place are several frames but one keypoint: what is matched refers to the first."""
    A, centres = lafs[:, :, :2].astype(np.float64), lafs[:, :, 2].astype(np.float64)
    area = A[:, 0, 0] * A[:, 1, 1] - A[:, 0, 1] * A[:, 1, 0]
    scale = np.round(np.log2(np.abs(area) + 1e-12), 2)
    order = np.lexsort((scale, centres[:, 1], centres[:, 0]))  # stable: the first of each run is the first row
    table = np.column_stack([centres, scale])[order]
    new = np.ones(len(lafs), bool)
    new[1:] = (table[1:] != table[:-1]).any(axis=1)
    first = np.empty(len(lafs), np.int64)
    first[order] = order[new][np.cumsum(new) - 1]
    return first


@dataclass(frozen=True)
class Matches:
    """indices (M, 2) int32 rows of the first and second image's features; scores (M,) float32 in 0..1, larger is
    better; orientation: the descriptors that were matched, "oriented" or "upright"."""

    indices: np.ndarray
    scores: np.ndarray
    orientation: str = "oriented"


@dataclass(frozen=True)
class TwoView:
    """A verified pair: COLMAP's configuration name, inlier matches (K, 2) int32, and how sure it is (0..1)."""

    names: tuple[str, str]
    config: str
    inliers: np.ndarray
    num_matches: int
    confidence: float


@dataclass(frozen=True)
class Model:
    """A reconstructed model in sparse/<index>."""

    index: int
    path: Path
    registered: tuple[str, ...]
    points3D: int
    observations: int
    mean_track_length: float
    mean_reprojection_error_px: float
    notes: tuple[str, ...] = field(default_factory=tuple)
