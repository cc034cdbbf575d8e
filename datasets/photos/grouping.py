"""Which photographs share a camera, and what its intrinsics are before anything is reconstructed.

In: size, EXIF and name of each photograph. Out: a camera for each, and notes on what was decided.

Sharing a camera steadies its focal length when it is right and ruins the model when it is wrong, so `auto` joins only
what speaks for itself: equal make, model, size and focal length in EXIF; or, without EXIF, one size that (nearly) all
such photographs of a folder have, as frames of a video or a camera's exports do. Photographs collected from many
tourists meet in a size by chance now and then, never as a whole folder. Portrait and landscape are kept apart always:
the stored grid tells nothing about which way the camera was turned.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from datasets.cameras import Camera
from datasets.photos.exif import Exif

# Of the photographs without EXIF in a folder, this share and at least this many must have one size to share a camera.
SHARE_OF_FOLDER = 0.8
MIN_SHARING = 3

# Parameters of an unknown camera in each of COLMAP's models offered: focal lengths, principal point, zero distortion.
_PARAMETERS: dict[str, tuple[int, int]] = {  # model: (focal lengths, distortion parameters)
    "SIMPLE_PINHOLE": (1, 0), "PINHOLE": (2, 0), "SIMPLE_RADIAL": (1, 1), "RADIAL": (1, 2), "OPENCV": (2, 4),
    "FULL_OPENCV": (2, 8), "SIMPLE_RADIAL_FISHEYE": (1, 1), "RADIAL_FISHEYE": (1, 2), "OPENCV_FISHEYE": (2, 4),
}  # fmt: skip


@dataclass(frozen=True)
class Shot:
    """What the grouping looks at: name (posix path), size, EXIF, and the focal length in pixels that is known."""

    name: str
    width: int
    height: int
    exif: Exif
    focal_px: float | None


def unknown_camera(model: str, width: int, height: int, focal_px: float | None, default_factor: float) -> Camera:
    """A camera to be calibrated: principal point in the middle, no distortion, focal length as measured or
    `default_factor` times the long side."""
    focal = focal_px or default_factor * max(width, height)
    focals, distortion = _PARAMETERS[model]
    params = (focal,) * focals + (width / 2, height / 2) + (0.0,) * distortion
    return Camera(model, width, height, params, prior_focal=focal_px is not None)


def fitted(camera: Camera, width: int, height: int) -> Camera | None:
    """A known camera at the photograph's size: as it is, or scaled where the shape is the same; None where it is not.

    Width 0 means that the file of cameras states no size (K.txt, IMC): it holds for the photograph as it lies there.
    """
    if not camera.width:
        fits = 0 < camera.K[0, 2] < width and 0 < camera.K[1, 2] < height
        return replace(camera, width=width, height=height) if fits else None
    if (camera.width, camera.height) == (width, height):
        return camera
    sx, sy = width / camera.width, height / camera.height
    # Shrunk sides are rounded to whole pixels: the shapes may differ by that much.
    if abs(sx - sy) > max(1 / camera.width, 1 / camera.height):
        return None
    K = camera.K
    one_focal = camera.params[0] == K[1, 1] and camera.params[1] == K[0, 2]
    lengths = (K[0, 0] * sx,) if one_focal else (K[0, 0] * sx, K[1, 1] * sy)
    linear = (*lengths, K[0, 2] * sx, K[1, 2] * sy)
    params = tuple(float(p) for p in linear) + camera.params[len(linear) :]
    return replace(camera, width=width, height=height, params=params)


def group(shots: Sequence[Shot], mode: str) -> tuple[list[int], dict[int, str], list[str]]:
    """Camera id of every shot (from 1, in order of first appearance), reasons to leave shots out by index, and notes.

    mode: `auto` (see above), `single`, `per_folder` or `per_image`. In `single` and `per_folder` the most frequent
    size is the camera's, and photographs of another size are left out.
    """
    if mode == "auto":
        keys, notes = _auto(shots)
        odd: dict[int, str] = {}
    else:
        by: dict[str, Callable[[Shot], str]] = {
            "single": lambda shot: "",
            "per_folder": lambda shot: _folder(shot.name),
            "per_image": lambda shot: shot.name,
        }
        keys, notes = [(by[mode](shot),) for shot in shots], []
        odd = _other_sizes(shots, keys)
    ids: dict[tuple, int] = {}
    cameras = [0 if i in odd else ids.setdefault(key, len(ids) + 1) for i, key in enumerate(keys)]
    return cameras, odd, notes


def shared_focal(shots: Sequence[Shot]) -> float | None:
    """The focal length in pixels of photographs that share a camera: the median of those known, or None."""
    known = sorted(shot.focal_px for shot in shots if shot.focal_px)
    return known[len(known) // 2] if known else None


def _auto(shots: Sequence[Shot]) -> tuple[list[tuple], list[str]]:
    silent: dict[str, Counter[tuple[int, ...]]] = defaultdict(Counter)  # folder: unordered sizes of shots without EXIF
    for shot in shots:
        if not _tells(shot.exif):
            silent[_folder(shot.name)][_unordered(shot)] += 1
    common = {}
    notes = []
    for folder, sizes in silent.items():
        size, count = sizes.most_common(1)[0]
        total = sum(sizes.values())
        where = f"in {folder}" if folder else "in the image folder"
        if count >= MIN_SHARING and count >= SHARE_OF_FOLDER * total:
            common[folder] = size
            notes.append(
                f"{count} of {total} photographs without EXIF {where} are {size[0]}x{size[1]}: "
                "taken as one camera (images.cameras=per_image keeps them apart)"
            )
        elif count > 1:
            notes.append(
                f"{total} photographs without EXIF {where} have {len(sizes)} sizes: each gets a camera of its own"
            )
    keys: list[tuple] = []
    for shot in shots:
        exif, size = shot.exif, (shot.width, shot.height)
        taken_alike = exif.make, exif.model, size, exif.focal_mm, exif.focal_35mm
        if _tells(exif):
            keys.append(taken_alike)
        elif common.get(_folder(shot.name)) == _unordered(shot):
            keys.append((_folder(shot.name), *taken_alike))
        else:
            keys.append((shot.name,))
    return keys, notes


def _tells(exif: Exif) -> bool:
    """EXIF names the camera and its focal length: enough to say that two photographs were taken alike."""
    return bool(exif.model and (exif.focal_mm or exif.focal_35mm))


def _other_sizes(shots: Sequence[Shot], keys: Sequence[tuple]) -> dict[int, str]:
    sizes: dict[tuple, Counter[tuple[int, int]]] = defaultdict(Counter)
    for shot, key in zip(shots, keys, strict=True):
        sizes[key][shot.width, shot.height] += 1
    odd = {}
    for i, (shot, key) in enumerate(zip(shots, keys, strict=True)):
        width, height = sizes[key].most_common(1)[0][0]
        if (shot.width, shot.height) != (width, height):
            odd[i] = f"another size ({shot.width}x{shot.height}) than the rest of its camera ({width}x{height})"
    return odd


def _folder(name: str) -> str:
    parent = str(PurePosixPath(name).parent)
    return "" if parent == "." else parent


def _unordered(shot: Shot) -> tuple[int, ...]:
    return tuple(sorted((shot.width, shot.height), reverse=True))
