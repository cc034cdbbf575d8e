"""Stage 5: matches to two-view geometries. In: features.h5, matches.h5. Out: database.db (COLMAP).

The door to pycolmap's verification: what makes it abort or hang (indices beyond the keypoints, NaN keypoints) is
stopped here, and pairs that only look verified are turned away: COLMAP's defaults accept random matches, because
with many of them some dozens always fit some geometry.
"""

from collections.abc import Callable
from contextlib import closing

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from desdis.errors import UserError
from pipeline.epipolar import epipolar_distances
from pipeline.threads import ahead
from pipeline.types import Survey, TwoView
from pipeline.workspace import Workspace

_BATCH = 256  # pairs in one transaction: what a kill or matches that cannot be may cost
_AHEAD = 32  # pairs that may be verified before they are written: a hopeless one takes a hundredth of a good one's time
# Of 1,769 verified pairs of validation places the quick look found at least 0.91 of the inliers needed, but for one.
_PROMISE = 0.85
# Verification sees the matches within so many times the largest error of the geometry that the quick look found: with
# few outliers among them RANSAC needs few trials. On training and validation places as many inliers come of it.
_NEAR = 10


class VerifyOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    max_error: float = Field(default=4.0, gt=0, le=100, description="largest distance to the epipolar line, pixels")
    min_num_inliers: int = Field(default=15, ge=8, description="fewer inlier matches are no verified pair")
    min_confidence: float = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="1 - (inliers that random matches reach) / inliers; less is no verified pair",
    )
    max_num_trials: int = Field(default=3000, ge=100, description="RANSAC trials after which a pair is given up")


def random_inliers(num_matches: int, longest_side: int, max_error: float) -> float:
    """Inliers that RANSAC finds among random matches: the upper end of what uniformly random ones gave, 50 to 3,000
    of them in images of 640 to 3,072 pixels (`python -m pipeline.benchmark_verification` repeats the measurement)."""
    return 9.0 + 0.35 * num_matches**0.5 + 5.9 * num_matches * max_error / longest_side


def confidence(num_inliers: int, num_matches: int, longest_side: int, max_error: float) -> float:
    """How far a pair's inliers are above chance: 0 (chance) to 1."""
    if not num_inliers:
        return 0.0
    return max(0.0, 1.0 - random_inliers(num_matches, longest_side, max_error) / num_inliers)


def verify(
    survey: Survey,
    pairs: list[tuple[str, str]],
    options: VerifyOptions,
    seed: int,
    work: Workspace,
    threads: int,
    progress: Callable[[int], None],
) -> None:
    """Verify every pair that database.db does not hold yet. Raises UserError for features or matches that cannot be.

    Results do not depend on the number of threads: each pair has its own seeded RANSAC in one thread.
    """
    import h5py
    import pycolmap

    from pipeline.files import features as feature_files
    from pipeline.files import matches as match_files

    ids = {photo.name: index for index, photo in enumerate(survey.photos, 1)}
    cameras = {camera_id: _colmap_camera(survey, camera_id) for camera_id in survey.cameras}
    camera_of = {photo.name: cameras[photo.camera_id] for photo in survey.photos}
    with (
        h5py.File(work.features, "r") as features,
        h5py.File(work.matches, "r") as matches,
        pycolmap.Database.open(work.database) as database,
    ):
        keypoints = {name: checked_keypoints(feature_files.read(features, name, descriptors=False).keypoints, name)
                     for name in ids}  # fmt: skip
        if database.num_images() != len(ids):
            with pycolmap.DatabaseTransaction(database):
                _write_photos(database, survey, cameras, keypoints, ids)

        def read(a: str, b: str) -> tuple[str, str, np.ndarray]:
            indices = match_files.read(matches, a, b).indices
            return a, b, checked_matches(indices, keypoints[a], keypoints[b], (a, b))

        def geometry(item: tuple[str, str, np.ndarray]) -> tuple[np.ndarray, "pycolmap.TwoViewGeometry"]:
            a, b, indices = item
            sides = camera_of[a], keypoints[a], camera_of[b], keypoints[b]
            return indices, two_view_geometry(*sides, indices, options, seed)

        missing = [(a, b) for a, b in pairs if not database.exists_two_view_geometry(ids[a], ids[b])]
        progress(len(pairs) - len(missing))
        with closing(ahead(geometry, (read(a, b) for a, b in missing), max(1, threads), depth=_AHEAD)) as results:
            for start in range(0, len(missing), _BATCH):
                batch = missing[start : start + _BATCH]
                with pycolmap.DatabaseTransaction(database):
                    for done, ((a, b), (indices, found)) in enumerate(zip(batch, results, strict=False), start + 1):
                        if not database.exists_matches(ids[a], ids[b]):
                            database.write_matches(ids[a], ids[b], indices.astype(np.uint32))
                        database.write_two_view_geometry(ids[a], ids[b], found)
                        progress(len(pairs) - len(missing) + done)


def inliers_needed(num_matches: int, longest_side: int, options: VerifyOptions) -> float:
    """Inliers that a pair must have to be verified."""
    above_chance = random_inliers(num_matches, longest_side, options.max_error) / (1 - options.min_confidence)
    return max(options.min_num_inliers, above_chance)


def two_view_geometry(
    camera1, points1, camera2, points2, indices, options: VerifyOptions, seed: int, needed: float | None = None
):
    """pycolmap's two-view geometry of one pair; a pair no better than chance comes back DEGENERATE, without inliers.

    Hopeless pairs are given up early: RANSAC ends when a geometry with as many inliers as the pair needs would have
    been met (few matches need a large share of inliers, which few trials find), and after `max_num_trials` at the
    latest; a pair with fewer matches than it needs inliers is not tried, nor one in which a quick look finds less than
    `_PROMISE` of them. Of the others it sees what is near the quick look's geometry.
    """
    import pycolmap

    if needed is None:
        needed = inliers_needed(len(indices), _longest(camera1, camera2), options)
    settings = pycolmap.TwoViewGeometryOptions()
    settings.min_num_inliers = options.min_num_inliers
    settings.ransac.max_error = options.max_error
    settings.ransac.max_num_trials = options.max_num_trials
    settings.ransac.random_seed = seed
    rejected = pycolmap.TwoViewGeometry()
    rejected.config = pycolmap.TwoViewGeometryConfiguration.DEGENERATE
    if len(indices) < needed:
        return rejected
    matched = points1[indices[:, 0]], points2[indices[:, 1]]
    if needed:
        distances = epipolar_distances(*matched, options.max_error, options.max_num_trials)
        near = indices[distances <= _NEAR * options.max_error]
        if np.count_nonzero(distances <= options.max_error) < _PROMISE * needed or len(near) < needed:
            return rejected
        indices = near
    settings.ransac.min_inlier_ratio = needed / len(indices)
    found = pycolmap.estimate_two_view_geometry(camera1, points1, camera2, points2, indices, settings)
    return found if len(found.inlier_matches) >= needed else rejected


def read_two_views(work: Workspace, options: VerifyOptions) -> list[TwoView]:
    """Every pair of database.db with its inliers (none where it was not verified), in the order of image ids."""
    import pycolmap

    names = {int(c.value): c.name for c in pycolmap.TwoViewGeometryConfiguration.__members__.values()}
    with pycolmap.Database.open(work.database) as database:
        images = {image.image_id: image for image in database.read_all_images()}
        cameras = {camera.camera_id: camera for camera in database.read_all_cameras()}
        geometries = dict(zip(*database.read_two_view_geometries(), strict=True))  # those with inliers
        found = []
        for pair_id, num_matches in zip(*database.read_num_matches(), strict=True):
            a, b = (images[i] for i in pycolmap.pair_id_to_image_pair(pair_id))
            geometry = geometries.get(pair_id, pycolmap.TwoViewGeometry())
            inliers = np.asarray(geometry.inlier_matches, np.int32).reshape(-1, 2)
            longest = _longest(cameras[a.camera_id], cameras[b.camera_id])
            sure = confidence(len(inliers), num_matches, longest, options.max_error)
            found.append(TwoView((a.name, b.name), names[int(geometry.config)], inliers, num_matches, sure))
    return sorted(found, key=lambda view: view.names)


def _longest(camera1, camera2) -> int:
    """The longer side of the smaller of two images."""
    return min(max(camera1.width, camera1.height), max(camera2.width, camera2.height))


def checked_keypoints(keypoints: np.ndarray, name: str) -> np.ndarray:
    """(N, 2) float32, finite; an image whose keypoints are NaN would make the mapper hang."""
    if keypoints.ndim != 2 or keypoints.shape[1] != 2:
        raise UserError(f"{name}: keypoints have shape {keypoints.shape}, not (N, 2); extract the features again")
    if not np.isfinite(keypoints).all():
        raise UserError(f"{name}: keypoints hold NaN or infinite coordinates; extract the features again")
    return np.ascontiguousarray(keypoints, np.float32)


def checked_matches(indices: np.ndarray, first: np.ndarray, second: np.ndarray, pair: tuple[str, str]) -> np.ndarray:
    """(M, 2) int32, in range and without repeats; an index beyond the keypoints would end the process."""
    indices = np.asarray(indices).reshape(-1, 2)
    if len(indices) and (indices.min() < 0 or (indices.max(axis=0) >= (len(first), len(second))).any()):
        raise UserError(f"{pair[0]} + {pair[1]}: matches point beyond the keypoints; match these features again")
    return np.unique(indices, axis=0).astype(np.int32)


def _colmap_camera(survey: Survey, camera_id: int):
    import pycolmap

    camera = survey.cameras[camera_id]
    made = pycolmap.Camera(
        model=camera.model, width=camera.width, height=camera.height, params=list(camera.params), camera_id=camera_id
    )
    if not made.verify_params():
        raise UserError(f"camera {camera_id}: {camera.model} does not take {len(camera.params)} parameters")
    made.has_prior_focal_length = camera.prior_focal
    return made


def _write_photos(database, survey: Survey, cameras: dict, keypoints: dict, ids: dict[str, int]) -> None:
    import pycolmap

    for camera in cameras.values():
        database.write_camera(camera, use_camera_id=True)
    for photo in survey.photos:
        image = pycolmap.Image(name=photo.name, camera_id=photo.camera_id, image_id=ids[photo.name])
        database.write_image(image, use_image_id=True)
        database.write_keypoints(ids[photo.name], keypoints[photo.name])
