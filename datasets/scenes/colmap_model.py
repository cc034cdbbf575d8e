"""COLMAP models, and COLMAP's own knowledge of cameras: the one door to pycolmap on this floor.

In and out: `Reference` (poses cam_from_world and cameras by image name), text or binary. What pycolmap says by an
IndexError or a failed check is said here by a UserError that names the file.
"""

import zlib  # noqa: F401  before pycolmap: its own zlib breaks PNG writing otherwise
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2  # noqa: F401  before pycolmap, as above
import numpy as np

from datasets.cameras import Camera, Pose, Reference
from datasets.scenes.entries import checked_pose, read_text
from desdis.errors import UserError


def read_model(folder: Path) -> Reference:
    """Every registered image's pose and camera, names as in the model. Binary wins where both forms lie there."""
    full_names = {} if (folder / "images.bin").is_file() else _names_in_text(folder / "images.txt")
    model = load(folder)
    poses: dict[str, Pose] = {}
    cameras: dict[str, Camera] = {}
    for image_id in sorted(model.reg_image_ids()):
        image = model.images[image_id]
        name = str(full_names.get(image_id, image.name))
        where = f"{folder}: image {name}"
        cam_from_world = image.cam_from_world()
        if not cam_from_world.rotation.norm() > 0.5:  # COLMAP reads a quaternion of zeros as no rotation
            raise UserError(f"{where}: the quaternion is no rotation")
        poses[name] = checked_pose(cam_from_world.rotation.matrix(), cam_from_world.translation, where)
        cameras[name] = _camera(model.cameras[image.camera_id], where)
    if not poses:
        raise UserError(f"{folder}: the COLMAP model holds no registered image")
    return Reference(poses, cameras, "colmap")


def load(folder: Path) -> Any:
    """The model as a pycolmap.Reconstruction. Models without points3D (cameras and poses only) are read as well."""
    import pycolmap

    try:
        if any((folder / f"points3D.{kind}").is_file() for kind in ("bin", "txt")):
            model = pycolmap.Reconstruction(folder)
        else:
            model = _load_without_points(folder)
        binary = folder / "cameras.bin"
        # pycolmap takes a cameras.bin that ends early and leaves the last parameters to chance.
        needed = 8 + sum(24 + 8 * len(camera.params) for camera in model.cameras.values())
        if binary.is_file() and binary.stat().st_size < needed:
            raise ValueError("cameras.bin ends early")
        return model
    except (ValueError, IndexError, RuntimeError, KeyError, OSError) as error:
        raise UserError(f"{folder}: not a readable COLMAP model: {_one_line(error)}") from None


def _load_without_points(folder: Path) -> Any:
    """pycolmap wants all three files: copy the two there are beside an empty third."""
    import shutil
    import tempfile

    import pycolmap

    with tempfile.TemporaryDirectory() as scratch:
        binary = (folder / "cameras.bin").is_file() and (folder / "images.bin").is_file()
        kind = "bin" if binary else "txt"
        for part in ("cameras", "images"):
            shutil.copyfile(folder / f"{part}.{kind}", Path(scratch, f"{part}.{kind}"))
        Path(scratch, f"points3D.{kind}").write_bytes(bytes(8) if binary else b"")
        return pycolmap.Reconstruction(scratch)


def _names_in_text(path: Path) -> dict[int, str]:
    """Image names by id, blanks in them included (pycolmap cuts them off). UserError for a pose that holds NaN, which
    pycolmap does not name."""
    lines = [line for line in read_text(path).splitlines() if not line.startswith("#")]
    while lines and not lines[0].strip():
        lines.pop(0)
    heads = [line.split(maxsplit=9) for line in lines[::2]]  # every other line holds the image's points, or nothing
    for words in heads:
        if len(words) == 10 and any(word.lower().lstrip("+-") in ("nan", "inf") for word in words[1:8]):
            raise UserError(f"{path}: image {words[9].strip()}: the pose holds NaN or infinite numbers")
    return {int(words[0]): words[9].strip() for words in heads if len(words) == 10 and words[0].isdecimal()}


def write_model(
    folder: Path,
    poses: Mapping[str, Pose],
    cameras: Mapping[str, Camera],
    points: np.ndarray | None = None,
    text: bool = False,
) -> None:
    """Write poses and cameras (by image name; equal ones become one) as a model; points (N, 3) come without tracks.

    UserError for a name with blanks in the text form, which cannot be read back by COLMAP.
    """
    import pycolmap

    blanks = [name for name in poses if text and len(name.split()) != 1]
    if blanks:
        raise UserError(f"{folder}: COLMAP's text form cannot hold the name {blanks[0]!r}: write the binary form")

    model = pycolmap.Reconstruction()
    ids: dict[Camera, int] = {}
    for image_id, name in enumerate(sorted(poses), 1):
        camera = cameras[name]
        if camera not in ids:
            ids[camera] = len(ids) + 1
            model.add_camera_with_trivial_rig(to_pycolmap(camera, ids[camera]))
        pose = poses[name]
        rigid = pycolmap.Rigid3d(pycolmap.Rotation3d(np.asarray(pose.R, np.float64)), np.asarray(pose.t, np.float64))
        image = pycolmap.Image(name=name, camera_id=ids[camera], image_id=image_id)
        model.add_image_with_trivial_frame(image, rigid)
    for point in () if points is None else points:
        model.add_point3D(np.asarray(point, np.float64), pycolmap.Track(), np.zeros(3, np.uint8))
    folder.mkdir(parents=True, exist_ok=True)
    if text:
        model.write_text(folder)
    else:
        model.write(folder)


def to_pycolmap(camera: Camera, camera_id: int) -> Any:
    """The camera as pycolmap's; UserError where the parameters do not fit the model (pycolmap would take them)."""
    import pycolmap

    try:
        made = pycolmap.Camera(
            camera_id=camera_id, model=camera.model, width=camera.width, height=camera.height, params=camera.params
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(f"camera model {camera.model}: {_one_line(error)}") from None
    if not made.verify_params():
        raise UserError(f"camera model {camera.model}: {len(camera.params)} parameters do not fit it")
    made.has_prior_focal_length = camera.prior_focal
    return made


def read_cameras_txt(path: Path) -> dict[int, Camera]:
    """Cameras by id of a `cameras.txt` that lies alone: known and fixed."""
    cameras: dict[int, Camera] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        where = f"{path}, line {number}"
        try:
            camera_id, width, height = int(words[0]), int(words[2]), int(words[3])
            params = tuple(float(word) for word in words[4:])
        except (ValueError, IndexError):
            raise UserError(f"{where}: expected CAMERA_ID MODEL WIDTH HEIGHT PARAMS...") from None
        if camera_id in cameras:
            raise UserError(f"{where}: camera {camera_id} is there twice")
        camera = Camera(words[1], width, height, params, prior_focal=True, known=True)
        if not np.isfinite(params).all() or width < 1 or height < 1:
            raise UserError(f"{where}: size and parameters must be finite and positive")
        try:
            to_pycolmap(camera, camera_id)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        cameras[camera_id] = camera
    if not cameras:
        raise UserError(f"{path}: holds no camera")
    return cameras


def exif_focal_length(path: Path) -> float | None:
    """Focal length in pixels by COLMAP's own rules, its table of sensor widths included; None where it knows none."""
    import pycolmap

    try:
        bitmap = pycolmap.Bitmap.read(path, as_rgb=False)
        focal = bitmap.exif_focal_length() if bitmap is not None else None
    except (ValueError, RuntimeError):
        return None
    return float(focal) if focal else None


def _camera(camera: Any, where: str) -> Camera:
    params = tuple(float(p) for p in camera.params)
    if not np.isfinite(params).all() or not camera.verify_params():
        raise UserError(f"{where}: its camera's parameters are not valid")
    model = camera.model if isinstance(camera.model, str) else camera.model.name
    return Camera(model, int(camera.width), int(camera.height), params, prior_focal=True, known=True)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
