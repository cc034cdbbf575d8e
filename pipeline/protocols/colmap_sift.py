"""pycolmap's own SIFT, matching, verification and incremental mapping as a whole: the pipeline everybody has.

Its defaults stay as they are, but for the seed, the keypoint budget, the smallest model (3) and intrinsics where they
are known. The budget is a wish to pycolmap: it keeps up to 90 % more keypoints and the coarsest, so read the count.
"""

from pathlib import Path

import pycolmap

from datasets.cameras import Camera
from pipeline.mappers.models import write_largest_first
from pipeline.workspace import Workspace


def extract(images: Path, database: Path, cameras: dict[str, Camera], max_keypoints: int, threads: int) -> int:
    """Features of all photographs into a new database; cameras of the given names get their known intrinsics.

    Returns the mean number of keypoints.
    """
    database.unlink(missing_ok=True)
    options = pycolmap.FeatureExtractionOptions(num_threads=threads or -1)
    options.sift.max_num_features = max_keypoints
    mode = pycolmap.CameraMode.PER_IMAGE if cameras else pycolmap.CameraMode.AUTO
    pycolmap.extract_features(database, images, camera_mode=mode, extraction_options=options)
    with pycolmap.Database.open(database) as db:
        found = db.read_all_images()
        for image in found:
            if image.name in cameras:
                known = cameras[image.name]
                made = pycolmap.Camera(
                    model=known.model, width=known.width, height=known.height, params=list(known.params)
                )
                made.camera_id, made.has_prior_focal_length = image.camera_id, True
                db.update_camera(made)
        return round(sum(len(db.read_keypoints(image.image_id)) for image in found) / max(1, len(found)))


def match(database: Path, seed: int, threads: int) -> None:
    """Match and verify all pairs."""
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = seed
    pycolmap.match_exhaustive(
        database, pycolmap.FeatureMatchingOptions(num_threads=threads or -1), verification_options=verification
    )


def reconstruct(images: Path, work: Workspace, fixed: bool, seed: int, threads: int) -> None:
    """Models into work.sparse, largest first; `fixed` leaves every camera as it is."""
    options = pycolmap.IncrementalPipelineOptions(random_seed=seed, num_threads=threads or -1, min_model_size=3)
    if fixed:
        options.ba_refine_focal_length = options.ba_refine_extra_params = False
    scratch = work.output / "mapping"
    scratch.mkdir(exist_ok=True)
    models = pycolmap.incremental_mapping(work.database, images, scratch, options)
    write_largest_first(list(models.values()), work.sparse)


def inliers(database: Path) -> tuple[int, int]:
    """(verified pairs, their inlier matches)."""
    with pycolmap.Database.open(database) as db:
        counts = [int(count) for count in db.read_two_view_geometry_num_inliers()[1]]
    return sum(count > 0 for count in counts), sum(counts)
