"""Known poses and intrinsics, whatever format they come in.

In: a path and the photographs' names. Out: `Reference` (poses and cameras by photograph's name), or cameras alone. The
format is told by what lies there, not asked for: see `FORMATS`.
"""

from pathlib import Path

from datasets.cameras import Camera, Reference
from desdis.errors import UserError

FORMATS = (
    "a COLMAP model, a folder of Strecha .camera files, of `K R t` text files, of IMC calibration_*.h5 files, "
    "a Kaggle CSV file, or Olsson's data.mat"
)
_BELOW = ("cameras", "calibration", "set_100/calibration", "gt_dense_cameras")  # where a scene's folder keeps them


def read_reference(path: Path, names: list[str]) -> Reference:
    """Poses and cameras of the photographs `names`, which must agree with the reference's in their last path parts.

    Photographs without an entry are left out; entries without a photograph too. Raises UserError, naming file and
    entry, for a reference of other photographs, a pose that is not finite or no rotation, and damaged files.
    """
    from datasets.scenes import imc, kaggle, krt, strecha
    from datasets.scenes.entries import pick

    kind, where = _sniff(path)
    match kind:
        case "colmap":
            from datasets.scenes.colmap_model import read_model

            model = read_model(where)
            cameras = pick(model.cameras, names, str(where))
            return Reference(pick(model.poses, names, str(where)), cameras, "colmap")
        case "strecha":
            return strecha.read_strecha(where, names)
        case "krt":
            return krt.read_krt(where, names)
        case "imc":
            return imc.read_calibration(where, names)
        case "kaggle":
            return kaggle.read_reference(where, names)
        case "olsson":
            from datasets.scenes.olsson import read_olsson

            return read_olsson(where, names)
        case _:
            raise UserError(f"{path}: holds intrinsics only, no poses; a reference is {FORMATS}")


def read_cameras(path: Path, names: list[str]) -> dict[str, Camera]:
    """Known cameras of the photographs, from the formats of `read_reference`, a `K.txt` or a `cameras.txt`.

    Width and height 0 mean that the file states no size: the camera holds for the photograph as it lies there.
    Photographs without an entry are left out. Raises UserError as `read_reference`.
    """
    kind, where = _sniff(path)
    if kind == "K":
        from datasets.scenes.strecha import read_K

        return dict.fromkeys(names, read_K(where))
    if kind == "cameras":
        from datasets.scenes.colmap_model import read_cameras_txt

        cameras = list(read_cameras_txt(where).values())
        if len(cameras) > 1:
            raise UserError(f"{where}: {len(cameras)} cameras and no images.txt beside it that says whose they are")
        return dict.fromkeys(names, cameras[0])
    cameras = read_reference(path, names).cameras
    if not cameras:
        raise UserError(f"{path}: holds poses but no intrinsics")
    return cameras


def _sniff(path: Path) -> tuple[str, Path]:
    """(format, the file or folder that holds it)."""
    if path.is_file():
        return _sniff_file(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder; expected {FORMATS}")
    for folder in (path, *(path / below for below in _BELOW)):
        if folder.is_dir():
            found = _sniff_folder(folder)
            if found:
                return found
    raise UserError(f"{path}: no poses or cameras found; expected {FORMATS}")


def _sniff_folder(folder: Path) -> tuple[str, Path] | None:
    from datasets.scenes.imc import holds_h5
    from datasets.scenes.kaggle import year_of

    model = _find_model(folder)
    if model:
        return "colmap", model
    if any(folder.glob("*.camera")):
        return "strecha", folder
    if holds_h5(folder):
        return "imc", folder
    if (folder / "data.mat").is_file():
        return "olsson", folder / "data.mat"
    tables = [file for file in sorted(folder.glob("*.csv")) if year_of(file)]
    if len(tables) > 1:
        raise UserError(f"{folder}: {tables[0].name} and {tables[1].name} both hold poses; give one of them")
    if tables:
        return "kaggle", tables[0]
    texts = sorted(folder.glob("*.txt"))
    if any(_count_numbers(file) == 23 for file in texts[:5]):
        return "krt", folder
    return next(((kind, folder / name) for name, kind in _ALONE.items() if (folder / name).is_file()), None)


_ALONE = {"cameras.txt": "cameras", "K.txt": "K"}


def _sniff_file(path: Path) -> tuple[str, Path]:
    if path.suffix == ".csv":
        return "kaggle", path
    if path.suffix == ".mat":
        return "olsson", path
    if path.name in ("cameras.txt", "images.txt", "cameras.bin", "images.bin") and _find_model(path.parent):
        return "colmap", path.parent
    if path.name == "cameras.txt":
        return "cameras", path
    if path.suffix == ".txt" and _count_numbers(path) == 9:
        return "K", path
    if path.suffix in (".camera", ".h5", ".txt", ".bin"):
        raise UserError(f"{path}: give the folder that holds it; expected {FORMATS}")
    raise UserError(f"{path}: no known format; expected {FORMATS}")


def _find_model(folder: Path) -> Path | None:
    """As colmap_model.find_model, without loading pycolmap for it."""
    for place in (folder, folder / "sparse" / "0", folder / "sparse", folder / "0"):
        if all(any((place / f"{part}.{kind}").is_file() for kind in ("bin", "txt")) for part in ("cameras", "images")):
            return place
    return None


def _count_numbers(path: Path) -> int:
    """How many numbers a small text file holds, comments left out; -1 where it holds anything else."""
    try:
        if path.stat().st_size > 100_000:
            return -1
        lines = path.read_text(encoding="utf-8").splitlines()
        return sum(len([float(word) for word in line.split()]) for line in lines if not line.lstrip().startswith("#"))
    except (OSError, ValueError):
        return -1
