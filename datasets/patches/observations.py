"""What a patch is cut from: points of a scene, each seen in several photographs, with a frame in each.

Every source (tracks of a reconstruction, a fixed camera) ends in one `Observations` a scene; every filter takes one and
gives a smaller one. Patches are cut from it, and cut again elsewhere, by `datasets.patches.patch_set`.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np

# Arrays with one entry an observation, in the order they are documented; `points` and `point_sizes` go by point.
BY_ROW = ("image_ids", "point_ids", "frames", "views", "rolls", "scale_errors", "angle_errors", "errors")


@dataclass(frozen=True)
class Observations:
    """K observations of P points of one scene. point_ids never decrease and are 0..P-1; a point has two rows or more,
    each in another photograph.

    image_ids (K,) int32 into `images`; point_ids (K,) int32; frames (K, 2, 3) float32 [A | c], COLMAP pixels,
    sqrt(|det A|) = sigma; views (K, 3) float32 unit vectors from the point to the camera; rolls (K,) float32 degrees,
    how the photograph is turned against the point's own plane; scale_errors (K,) float32 octaves and angle_errors (K,)
    float32 degrees: the detection against what its track agrees on; errors (K,) float32 reprojection error, pixels;
    points (P, 3) float32 and point_sizes (P,) float32 (sigma) in the scene's unit.
    """

    images: tuple[str, ...]
    image_ids: np.ndarray
    point_ids: np.ndarray
    frames: np.ndarray
    views: np.ndarray
    rolls: np.ndarray
    scale_errors: np.ndarray
    angle_errors: np.ndarray
    errors: np.ndarray
    points: np.ndarray
    point_sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.point_ids)

    @property
    def sigmas(self) -> np.ndarray:
        """(K,) scale of each frame in pixels."""
        return np.sqrt(np.abs(np.linalg.det(self.frames[:, :, :2].astype(np.float64))))


def keep(observations: Observations, mask: np.ndarray, min_track: int = 2) -> Observations:
    """The rows where mask (K,) is True, without the points that are left with fewer than `min_track` rows."""
    count = np.bincount(observations.point_ids[mask], minlength=len(observations.points))
    mask = mask & (count >= min_track)[observations.point_ids]
    used, point_ids = np.unique(observations.point_ids[mask], return_inverse=True)
    rows = {name: getattr(observations, name)[mask] for name in BY_ROW}
    rows["point_ids"] = point_ids.astype(np.int32)
    return Observations(
        images=observations.images,
        points=observations.points[used],
        point_sizes=observations.point_sizes[used],
        **rows,
    )


def one_per_image(observations: Observations) -> np.ndarray:
    """(K,) bool: of a point's rows in one photograph, that with the smallest reprojection error."""
    order = np.lexsort((observations.errors, observations.image_ids, observations.point_ids))
    pairs = np.stack([observations.point_ids[order], observations.image_ids[order]], axis=1)
    first = np.ones(len(order), bool)
    first[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
    mask = np.zeros(len(order), bool)
    mask[order[first]] = True
    return mask


def inside(observations: Observations, sizes: np.ndarray, half_width: float) -> np.ndarray:
    """(K,) bool: the described square (half side `half_width` sigma) lies within the photograph.

    sizes (I, 2): width and height of each photograph.
    """
    corners = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]], np.float32) * half_width
    at = np.einsum("kij,cj->kci", observations.frames[:, :, :2], corners) + observations.frames[:, None, :, 2]
    return ((at >= 0) & (at <= sizes[observations.image_ids][:, None])).all(axis=(1, 2))


def distinct_points(observations: Observations) -> np.ndarray:
    """(K,) bool, False for every row of a point that repeats another one: about as large (an octave's half), turned
    alike (45 degrees) and nearer than half its size. The longer track stays; of equals, the smaller number.

    A detector that fires twice at one place, or a track that broke in two, would become a negative pair that shows the
    same thing. Two orientations at one place stay: their oriented patches differ. Points are sorted into cells of
    place, size and angle, twice with the grid moved by half a cell, so that few neighbours escape at a cell's edge.
    """
    tracks = np.bincount(observations.point_ids, minlength=len(observations.points))
    first = np.searchsorted(observations.point_ids, np.arange(len(tracks)))
    across, down = observations.frames[first, :, 0].T.astype(np.float64)
    turn = (np.degrees(np.arctan2(down, across)) - observations.rolls[first]) / 45.0
    octave = 2 * np.log2(observations.point_sizes.astype(np.float64))
    kept = np.ones(len(tracks), bool)
    for shift in (0.0, 0.5):
        level = np.floor(octave + shift)
        edge = 0.5 * 2.0 ** (level / 2)
        place = np.floor(observations.points / edge[:, None] + shift)
        cells = np.column_stack([level, place, np.floor(turn + shift) % 8])
        _, cell = np.unique(cells, axis=0, return_inverse=True)
        cell = cell.ravel()
        order = np.lexsort((np.arange(len(tracks)), -tracks, cell))
        order = order[kept[order]]
        repeated = order[1:][cell[order[1:]] == cell[order[:-1]]]
        kept[repeated] = False
    return kept[observations.point_ids]


def textured(patches: np.ndarray, min_contrast: float, min_sharpness: float) -> np.ndarray:
    """(K,) bool: patches (K, S, S) uint8 with a standard deviation of `min_contrast` grey values or more, and a
    sharpness (standard deviation of the Laplacian over that of the patch) of `min_sharpness` or more."""
    p = patches.astype(np.float32)
    deviation = p.std(axis=(1, 2))
    laplacian = 4 * p[:, 1:-1, 1:-1] - p[:, :-2, 1:-1] - p[:, 2:, 1:-1] - p[:, 1:-1, :-2] - p[:, 1:-1, 2:]
    return (deviation >= min_contrast) & (laplacian.std(axis=(1, 2)) >= min_sharpness * np.maximum(deviation, 1e-6))


def different_looks(observations: Observations, patches: np.ndarray, max_correlation: float) -> np.ndarray:
    """(K,) bool: False for rows whose patch (K, S, S) repeats an earlier row of its point, correlation above
    `max_correlation`: neighbouring video frames teach nothing."""
    flat = patches.reshape(len(patches), patches.shape[1] * patches.shape[2]).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    mask = np.ones(len(observations), bool)
    starts = np.append(np.flatnonzero(np.diff(observations.point_ids, prepend=-1)), len(observations))
    for begin, end in pairwise(starts):
        alike = flat[begin:end] @ flat[begin:end].T > max_correlation
        for row in range(1, end - begin):
            mask[begin + row] = not (alike[row, :row] & mask[begin : begin + row]).any()
    return mask


def patches_by_image(
    observations: Observations, read: Callable[[str], np.ndarray], half_width: float, size: int, upright: bool = False
) -> np.ndarray:
    """(K, size, size) uint8 patches, one photograph in memory at a time; `read(name)` gives (H, W) uint8."""
    from desdis.patches import extract_patches

    frames = observations.frames
    if upright:
        frames = frames.copy()
        frames[:, :, :2] = observations.sigmas[:, None, None].astype(np.float32) * np.eye(2, dtype=np.float32)
    patches = np.empty((len(frames), size, size), np.uint8)
    for image_id in np.unique(observations.image_ids):
        rows = np.flatnonzero(observations.image_ids == image_id)
        patches[rows] = extract_patches(read(observations.images[image_id]), frames[rows], half_width, size)
    return patches


def to_arrays(observations: Observations) -> dict[str, np.ndarray]:
    """For np.savez: every array by its name, and the photographs' names."""
    return {f.name: np.asarray(getattr(observations, f.name)) for f in fields(Observations)}


def from_arrays(arrays: dict[str, np.ndarray]) -> Observations:
    """The other way."""
    rest = {f.name: arrays[f.name] for f in fields(Observations) if f.name != "images"}
    return Observations(images=tuple(str(name) for name in arrays["images"]), **rest)
