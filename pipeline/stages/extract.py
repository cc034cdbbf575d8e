"""Stage 2: keypoints, frames and descriptors. In: the survey. Out: features.h5, one item a photograph.

Reading and detecting run in threads beside the description (a bounded queue keeps memory flat); each photograph is
read once and written as soon as it is described. Where the orientation is still open, photographs are described
upright, and their strongest keypoints oriented too: the probe by which stage `orient` decides. Only photographs of
which more turns out to be needed are read a second time.
"""

from collections.abc import Callable

import numpy as np

from pipeline.files import features as files
from pipeline.threads import ahead
from pipeline.types import Detected, Features, Image, Photo, Survey, places
from pipeline.workspace import Workspace, return_memory

Detect = Callable[[Image], Detected]
Describe = Callable[[np.ndarray, np.ndarray], np.ndarray]
_RETURN = 16  # photographs after which free memory is given back


def extract(
    survey: Survey,
    detect: Detect,
    describe: Describe | None,
    orientations: tuple[str, ...],
    *,
    max_size: int,
    work: Workspace,
    threads: int,
    progress: Callable[[int], None],
) -> dict[str, int]:
    """Describe every photograph that features.h5 does not hold yet; returns keypoints by image name.

    orientations: "oriented", "upright" or both, or ("upright", "probe"). describe is None where the detector describes
    whole images itself; then they have no meaning. max_size is the long side in pixels at which photographs are
    detected and described (0 = as they are).
    """
    counts: dict[str, int] = {}
    with files.appending(work.features, work.provenance("extract")) as file:
        missing = []
        for photo in survey.photos:
            if files.has(file, photo.name, () if describe is None else orientations):
                counts[photo.name] = len(file[photo.name]["keypoints"])
            else:
                missing.append(photo)
        progress(len(counts))

        def read_and_detect(photo: Photo) -> tuple[Photo, Image, Detected]:
            image = load_image(photo, max_size)
            return photo, image, detect(image)

        for photo, image, detected in ahead(read_and_detect, missing, workers=max(1, threads)):
            features = describe_detected(photo, image, detected, describe, orientations)
            files.write(file, photo.name, features)
            counts[photo.name] = len(features.lafs)
            if len(counts) % _RETURN == 0:
                return_memory()
            progress(len(counts))
    return counts


def load_image(photo: Photo, max_size: int) -> Image:
    """The photograph's pixels, shrunk to `max_size`, and its mask (True = use)."""
    import cv2

    from datasets.photos.read import read_image

    rgb, grey = read_image(photo.path)
    size = _extraction_size(photo, max_size)
    if size != (photo.width, photo.height):
        rgb, grey = (cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) for pixels in (rgb, grey))
    mask = None
    if photo.mask is not None:
        mask = cv2.resize(read_image(photo.mask)[1], size, interpolation=cv2.INTER_NEAREST) > 0
    return Image(grey, rgb, mask, photo.roll)


def describe_detected(
    photo: Photo, image: Image, detected: Detected, describe: Describe | None, orientations: tuple[str, ...]
) -> Features:
    """Descriptors in every wanted orientation; frames scaled back to the stored photograph."""
    lafs, scores = detected.lafs, detected.scores
    if describe is None:
        assert detected.descriptors is not None
        descriptors = {"oriented": detected.descriptors}
    else:
        first = np.flatnonzero(places(lafs) == np.arange(len(lafs)))
        level = upright(lafs[first], image.roll)
        wanted = {}
        if "oriented" in orientations:
            wanted["oriented"] = np.arange(len(lafs)), lafs
            if "upright" in orientations:
                wanted["upright"] = first, level
        else:
            wanted["upright"] = np.arange(len(level)), level
            if "probe" in orientations:
                probe = first[: files.PROBE]
                wanted["oriented"] = np.arange(len(probe)), lafs[probe]
            lafs, scores = level, scores[first]
        descriptors = _descriptors(image.grey, wanted, len(lafs), describe)
    height, width = image.grey.shape
    ratio = np.array([photo.width / width, photo.height / height], np.float32)
    return Features(lafs * ratio[None, :, None], scores, descriptors, (photo.width, photo.height))


def _descriptors(
    grey: np.ndarray, wanted: dict[str, tuple[np.ndarray, np.ndarray]], count: int, describe: Describe
) -> dict[str, np.ndarray]:
    """By orientation (count, D) float32, zero but for the rows (M,) of the frames (M, 2, 3) that are wanted. All are
    described at once: the photograph is blurred for its patches once."""
    described = describe(grey, np.concatenate([frames for _, frames in wanted.values()]))
    descriptors, begin = {}, 0
    for orientation, (rows, frames) in wanted.items():
        part = described[begin : begin + len(frames)]
        begin += len(frames)
        if len(rows) < count:
            part, short = np.zeros((count, described.shape[1]), np.float32), part
            part[rows] = short
        descriptors[orientation] = part
    return descriptors


def upright(lafs: np.ndarray, roll: float = 0.0) -> np.ndarray:
    """Frames of the same places and shapes whose "up" is the scene's: (N, 2, 3).

    A = U R with R a rotation of the patch; the R is chosen so that the patch's v axis points down at `roll` degrees.
    For round frames this is sigma times the rotation by roll.
    """
    c, s = np.cos(np.deg2rad(roll)), np.sin(np.deg2rad(roll))
    level = np.array([[c, -s], [s, c]], np.float64)
    A = level.T @ lafs[:, :, :2].astype(np.float64)
    # Lower-triangular A = L Q: the first patch axis may shear, the second stays vertical (Perdoch et al. 2009).
    scale = np.sqrt(np.abs(np.linalg.det(A)))[:, None]
    b = np.hypot(A[:, 0, 0], A[:, 0, 1])[:, None]
    lower = np.zeros_like(A)
    lower[:, 0, 0] = b[:, 0]
    lower[:, 1, 0] = ((A[:, 0, 0] * A[:, 1, 0] + A[:, 0, 1] * A[:, 1, 1])[:, None] / b)[:, 0]
    lower[:, 1, 1] = (scale**2 / b)[:, 0]
    return np.concatenate([level @ lower, lafs[:, :, 2:]], axis=2).astype(np.float32)


def _extraction_size(photo: Photo, max_size: int) -> tuple[int, int]:
    longest = max(photo.width, photo.height)
    if not max_size or longest <= max_size:
        return photo.width, photo.height
    return round(photo.width * max_size / longest), round(photo.height * max_size / longest)
