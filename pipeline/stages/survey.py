"""Stage 1: a folder of photographs, or a video -> Survey. Every file is read once and decided about knowingly.

What is used: photographs with their sizes, cameras, masks and the way they were held. What is not used is listed with
the reason; nothing is dropped silently.
"""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from datasets.cameras import Camera
from datasets.photos.exif import Exif
from datasets.photos.folder import printable, walk
from datasets.photos.grouping import Shot, fitted, group, shared_focal, unknown_camera
from datasets.photos.read import Unreadable, decode, read_bytes, read_mask
from datasets.photos.video import is_video, sample_frames
from desdis.errors import UserError
from pipeline.types import Photo, Skipped, Survey

Model = Literal[
    "SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV", "SIMPLE_RADIAL_FISHEYE",
    "RADIAL_FISHEYE", "OPENCV_FISHEYE",
]  # fmt: skip


class ImagesOptions(BaseModel):
    """Reading photographs and guessing their cameras."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_size: int = Field(
        default=1600, ge=0, description="long side in pixels at which features are extracted, 0 = as stored"
    )
    min_size: int = Field(default=64, ge=1, description="photographs with a shorter side in pixels are too small")
    max_pixels: int = Field(default=200_000_000, ge=1, le=1 << 30, description="larger images are refused undecoded")
    cameras: Literal["auto", "single", "per_folder", "per_image"] = Field(
        default="auto", description="which photographs share a camera: auto goes by EXIF, else by one size a folder"
    )
    camera_model: Model = Field(
        default="SIMPLE_RADIAL", description="COLMAP's camera model where intrinsics are unknown"
    )
    default_focal_factor: float = Field(default=1.2, gt=0, le=10, description="unknown focal length, in long sides")
    video_rate: float = Field(
        default=2.0, gt=0, le=1000, description="frames a second taken of a video: the sharpest of each interval"
    )


@dataclass(frozen=True)
class _Decoded:
    """What is kept of a file once it has been decoded."""

    name: str
    path: Path
    width: int
    height: int
    exif: Exif
    pixels: str  # hash of size and pixels
    pages: int  # pages or frames, where the format means pictures of equal standing


def survey(
    images: Path,
    options: ImagesOptions,
    *,
    cameras: Path | None = None,
    masks: Path | None = None,
    strict: bool = False,
    workspace_dir: Path,
    progress: Callable[[int], None] = lambda done: None,
) -> Survey:
    """Decide about every file below `images` (a folder, or a video, whose frames go to `workspace_dir`).

    cameras: known intrinsics, in any format of datasets.scenes.reference.read_cameras. masks: folder of COLMAP's masks,
    `<name>.png`. progress is told how many files are done. Raises UserError for a wrong path, a mask or cameras that do
    not fit, no photograph at all, and, with strict, for anything skipped.
    """
    root, notes = _image_folder(images, options, workspace_dir)
    files, refused = _files(root, masks, workspace_dir)
    skipped = [Skipped(name, reason) for name, reason in refused]
    decoded = _decide(files, options, skipped, progress)
    known = _known_cameras(cameras, decoded, notes) if cameras else {}
    camera_ids, by_id = _assign_cameras(decoded, known, options, skipped, notes)
    mask_paths = _masks(masks, decoded, notes) if masks else {}
    photos = tuple(
        Photo(d.name, d.path, d.width, d.height, camera_ids[d.name], d.exif.roll, mask_paths.get(d.name))
        for d in decoded
        if d.name in camera_ids
    )
    skipped.sort(key=lambda item: item.name)
    if not photos:
        raise UserError(f"{printable(str(images))}: no photograph can be used{_listed(skipped)}")
    if strict and skipped:
        raise UserError(f"{printable(str(images))}: {len(skipped)} skipped, and --strict allows none{_listed(skipped)}")
    pixels = {d.name: d.pixels for d in decoded}
    notes += _notes_on_files([d for d in decoded if d.name in camera_ids])
    return Survey(root, photos, by_id, tuple(skipped), tuple(notes), _fingerprint(photos, by_id, pixels))


def _image_folder(images: Path, options: ImagesOptions, workspace_dir: Path) -> tuple[Path, list[str]]:
    """The folder to walk: the one given, or that of a video's frames."""
    if not images.exists():
        raise UserError(f"{printable(str(images))}: no such folder; --images takes a folder of photographs or a video")
    if images.is_dir():
        return images, []
    if not is_video(images):
        raise UserError(f"{printable(str(images))}: neither a folder nor a video; give the folder of photographs")
    count = sample_frames(images, workspace_dir, options.video_rate)
    return workspace_dir, [f"{count} frames taken of {images.name}, the sharpest of each 1/{options.video_rate:g} s"]


def _files(root: Path, masks: Path | None, workspace_dir: Path) -> tuple[list[tuple[str, Path]], list[tuple[str, str]]]:
    """Files below root, without those of masks and of this program's own output, should these lie below it too."""
    real = root.resolve()
    own = [folder for folder in (workspace_dir.parent, masks) if folder is not None and folder.resolve() != real]
    files, refused = walk(root, [] if real == workspace_dir.resolve() else own)
    if masks is not None and masks.resolve() == real:
        names = {name for name, _ in files}
        files = [(name, path) for name, path in files if not (name.endswith(".png") and name[:-4] in names)]
    return files, refused


def _decide(
    files: Sequence[tuple[str, Path]],
    options: ImagesOptions,
    skipped: list[Skipped],
    progress: Callable[[int], None],
) -> list[_Decoded]:
    """The files that hold a photograph worth using, in order of name; the others go to `skipped`."""

    def read(file: tuple[str, Path]) -> _Decoded | Unreadable:
        name, path = file
        try:
            picture = decode(read_bytes(path), options.max_pixels)
        except Unreadable as error:
            return error
        height, width = picture.rgb.shape[:2]
        if min(width, height) < options.min_size:
            return Unreadable(f"too small: {width}x{height}, a side needs {options.min_size} (images.min_size)")
        digest = hashlib.blake2b(f"{width}x{height}".encode(), digest_size=16)
        digest.update(picture.rgb.data)
        pages = picture.frames if picture.format != "MPO" else 1  # a phone's second picture is a preview or a depth map
        return _Decoded(name, path, width, height, picture.exif, digest.hexdigest(), pages)

    decoded: list[_Decoded] = []
    first: dict[str, str] = {}
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        try:
            for done, (file, result) in enumerate(zip(files, pool.map(read, files), strict=True), 1):
                if isinstance(result, Unreadable):
                    skipped.append(Skipped(file[0], str(result)))
                elif result.pixels in first:
                    skipped.append(Skipped(file[0], f"duplicate: same pixels as {first[result.pixels]}"))
                else:
                    first[result.pixels] = file[0]
                    decoded.append(result)
                progress(done)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return decoded


def _known_cameras(path: Path, decoded: Sequence[_Decoded], notes: list[str]) -> dict[str, Camera]:
    """Cameras by photograph's name, as the file gives them."""
    from datasets.scenes.reference import read_cameras

    known = read_cameras(path, [d.name for d in decoded])
    missing = len(decoded) - len(known)
    if missing:
        notes.append(f"{missing} of {len(decoded)} photographs have no camera in {path}: their intrinsics are unknown")
    return known


def _assign_cameras(
    decoded: Sequence[_Decoded],
    known: dict[str, Camera],
    options: ImagesOptions,
    skipped: list[Skipped],
    notes: list[str],
) -> tuple[dict[str, int], dict[int, Camera]]:
    """Camera id by photograph's name and the cameras; photographs that do not fit their camera go to `skipped`."""
    ids: dict[str, int] = {}
    cameras: dict[Camera, int] = {}
    resized = 0
    for d in decoded:
        if d.name not in known:
            continue
        camera = fitted(known[d.name], d.width, d.height)
        if camera is None:
            given = known[d.name]
            reason = f"another size ({d.width}x{d.height}) than its known camera ({given.width}x{given.height})"
            skipped.append(Skipped(d.name, reason))
            continue
        resized += known[d.name].width not in (0, d.width)
        ids[d.name] = cameras.setdefault(camera, len(cameras) + 1)
    if resized:
        notes.append(f"the known cameras of {resized} photographs were scaled to the photographs' size")

    table: dict[tuple, float | None] = {}
    rest = [d for d in decoded if d.name not in known]
    shots = [Shot(d.name, d.width, d.height, d.exif, _focal_px(d, table)) for d in rest]
    groups, odd, more = group(shots, options.cameras)
    skipped += [Skipped(shots[i].name, reason) for i, reason in odd.items()]
    notes += more
    members: dict[int, list[Shot]] = defaultdict(list)
    for shot, number in zip(shots, groups, strict=True):
        if number:
            members[number].append(shot)
            ids[shot.name] = len(cameras) + number
    by_id = {number: camera for camera, number in cameras.items()}
    for number, shared in members.items():
        size = shared[0].width, shared[0].height
        by_id[len(cameras) + number] = unknown_camera(
            options.camera_model, *size, shared_focal(shared), options.default_focal_factor
        )
    guessed = sum(len(shared) for n, shared in members.items() if not by_id[len(cameras) + n].prior_focal)
    if guessed:
        notes.append(
            f"the focal length of {guessed} photographs is unknown: "
            f"{options.default_focal_factor:g} long sides are guessed and refined"
        )
    return ids, by_id


def _focal_px(d: _Decoded, table: dict[tuple, float | None]) -> float | None:
    """Focal length in pixels from EXIF, or from COLMAP's table of sensors (asked once for each camera)."""
    focal = d.exif.focal_px(d.width, d.height)
    if focal or not (d.exif.model and d.exif.focal_mm):
        return focal
    key = d.exif.make, d.exif.model, d.exif.focal_mm, d.width, d.height
    if key not in table:
        from datasets.scenes.colmap_model import exif_focal_length

        table[key] = exif_focal_length(d.path)
    return table[key]


def _masks(masks: Path, decoded: Sequence[_Decoded], notes: list[str]) -> dict[str, Path]:
    """Mask file by photograph's name. A mask that does not fit is an error: ignoring it would use what was masked."""
    if not masks.is_dir():
        raise UserError(f"{masks}: no such folder of masks")
    found = {}
    for d in decoded:
        path = masks / f"{d.name}.png"
        if not path.exists():
            continue
        try:
            read_mask(path, d.width, d.height)
        except Unreadable as error:
            raise UserError(f"{path}: {error}") from None
        found[d.name] = path
    if not found:
        raise UserError(f"{masks}: no mask belongs to a photograph; they are named <photograph>.png, as 1.jpg.png")
    if len(found) < len(decoded):
        notes.append(f"{len(decoded) - len(found)} of {len(decoded)} photographs have no mask and are used whole")
    return found


def _notes_on_files(decoded: Sequence[_Decoded]) -> list[str]:
    notes = []
    turned = Counter(f"{d.exif.roll:g}" for d in decoded if d.exif.roll)
    if turned:
        angles = ", ".join(f"{count} at {angle} degrees" for angle, count in sorted(turned.items()))
        notes.append(f"held turned according to EXIF, used as stored with upright frames turned: {angles}")
    mirrored = sum(d.exif.mirrored for d in decoded)
    if mirrored:
        notes.append(f"{mirrored} photographs are stored mirrored according to EXIF: they can match no other one")
    pages = sum(d.pages > 1 for d in decoded)
    if pages:
        notes.append(f"{pages} files hold several pictures: the first of each is used")
    return notes


def _listed(skipped: Sequence[Skipped], most: int = 3) -> str:
    if not skipped:
        return ""
    text = "; ".join(f"{printable(item.name)}: {item.reason}" for item in skipped[:most])
    return f" ({text}{'; ...' if len(skipped) > most else ''})"


def _fingerprint(photos: Sequence[Photo], cameras: dict[int, Camera], pixels: dict[str, str]) -> str:
    digest = hashlib.sha256()
    for photo in photos:
        mask = hashlib.sha256(photo.mask.read_bytes()).hexdigest() if photo.mask else ""
        digest.update(repr((photo.name, pixels[photo.name], photo.roll, cameras[photo.camera_id], mask)).encode())
        digest.update(str(photo.camera_id).encode())
    return digest.hexdigest()
