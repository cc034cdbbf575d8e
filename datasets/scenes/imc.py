"""Image Matching Challenge 2020 and 2021 (Jin et al. 2021): scenes with poses, visibility and bags of images.

Layout of `<data>/<dataset>/<scene>/set_100/`: `images.txt`, `visibility.txt`, `calibration.txt` (relative paths in one
order), `calibration/calibration_<name>.h5` (K, R, T; cam_from_world), `visibility/*.txt`, `new-vis-pairs/*.npy`,
`sub_set/<k>bag_<id>.txt`. Image names have no suffix; pair keys are `A-B` with A > B as strings.

K comes from COLMAP's undistorted models, so it counts from the corner of the first pixel, as here: nothing is added.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from datasets.cameras import Camera, Pose, Reference
from datasets.scenes.entries import checked_K, checked_pose, pick, read_text
from desdis.errors import UserError

_PREFIX = "calibration_"


def read_calibration_file(path: Path) -> tuple[Pose, Camera]:
    """Pose and camera of one `calibration_<name>.h5`. The file states no size: the camera's is 0 by 0."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            arrays = []
            for key, count in (("K", 9), ("R", 9), ("T", 3)):
                if key not in file:
                    raise UserError(f"{path}: the dataset {key} is missing (has {', '.join(file) or 'nothing'})")
                item = file[key]
                if not isinstance(item, h5py.Dataset):
                    raise UserError(f"{path}: {key} is {'a' if len(item) else 'an empty'} group, a dataset expected")
                if item.size != count:
                    raise UserError(f"{path}: the dataset {key} has shape {item.shape}, {count} numbers expected")
                arrays.append(np.asarray(item[()], np.float64))
    except OSError as error:
        raise UserError(f"{path}: not a readable HDF5 file: {error}") from None
    K, R, t = arrays
    return checked_pose(R, t, str(path)), Camera.pinhole(checked_K(K, str(path)), 0, 0)


def read_calibration(folder: Path, names: list[str]) -> Reference:
    """Poses and cameras (without size) of the photographs, from a folder of `calibration_*.h5` or a scene's folder."""
    where = next(
        (f for f in (folder, folder / "calibration", folder / "set_100" / "calibration") if holds_h5(f)), folder
    )
    files = {path.stem.removeprefix(_PREFIX): path for path in sorted(where.glob(f"{_PREFIX}*.h5"))}
    read = {name: read_calibration_file(path) for name, path in pick(files, names, str(folder)).items()}
    return Reference({n: pose for n, (pose, _) in read.items()}, {n: cam for n, (_, cam) in read.items()}, "imc")


def holds_h5(folder: Path) -> bool:
    """Whether calibration files lie directly in the folder."""
    return any(folder.glob(f"{_PREFIX}*.h5"))


@dataclass(frozen=True)
class Scene:
    """One scene, read on demand. `root` is its `set_100` folder."""

    root: Path

    @cached_property
    def images(self) -> list[Path]:
        """Absolute image paths in the order of images.txt, the order of everything else here."""
        return [self.root / line for line in _lines(self.root / "images.txt")]

    @cached_property
    def names(self) -> list[str]:
        """Image names: base names without suffix."""
        return [path.stem for path in self.images]

    @cached_property
    def calibration(self) -> Reference:
        """Poses and cameras by image name."""
        poses, cameras = {}, {}
        lines = _lines(self.root / "calibration.txt")
        if len(lines) != len(self.names):
            raise UserError(f"{self.root}: calibration.txt lists {len(lines)} files, images.txt {len(self.names)}")
        for name, line in zip(self.names, lines, strict=True):
            if PurePosixPath(line).stem.removeprefix(_PREFIX) != name:
                raise UserError(f"{self.root / 'calibration.txt'}: {line} stands where {name} is expected")
            poses[name], cameras[name] = read_calibration_file(self.root / line)
        return Reference(poses, cameras, "imc")

    @cached_property
    def visibility(self) -> np.ndarray:
        """(N, N) int64: row i, column j the number of 3D points that images i and j share."""
        rows = []
        for line in _lines(self.root / "visibility.txt"):
            path = self.root / line
            try:
                row = np.array([float(word) for word in read_text(path).split()])
            except ValueError:
                raise UserError(f"{path}: holds words where numbers should be") from None
            if len(row) != len(self.names):
                raise UserError(f"{path}: {len(row)} numbers for {len(self.names)} images")
            rows.append(row.astype(np.int64))
        if len(rows) != len(self.names):
            raise UserError(f"{self.root}: visibility.txt lists {len(rows)} files, images.txt {len(self.names)}")
        return np.stack(rows)

    def visible_pairs(self, more_than: int = 100) -> list[tuple[str, str]]:
        """Pairs (A, B) with A > B that share more 3D points than that (Google Urban: 1), in order of images.txt."""
        shared = np.maximum(self.visibility, self.visibility.T)
        return [
            pair_names(self.names[i], self.names[j])
            for i in range(len(self.names))
            for j in range(i + 1, len(self.names))
            if shared[i, j] > more_than
        ]

    def pairs(self, threshold: float) -> list[tuple[str, str]]:
        """Pairs (A, B) of the list with co-visibility >= threshold (0.0, 0.1 ... 0.9)."""
        path = self.root / "new-vis-pairs" / f"keys-th-{threshold:.1f}.npy"
        try:
            keys = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not a readable list of pairs: {error}") from None
        known = set(self.names)
        return [split_key(str(key), known, str(path)) for key in keys.tolist()]

    def bags(self, size: int) -> list[list[str]]:
        """The bags of that size: image names, bags in order of their number."""
        files = sorted((self.root / "sub_set").glob(f"{size}bag_*.txt"))
        if not files:
            raise UserError(f"{self.root / 'sub_set'}: no bag of size {size}")
        known = set(self.names)
        bags = [[PurePosixPath(line).stem for line in _lines(path)] for path in files]
        for path, bag in zip(files, bags, strict=True):
            if len(bag) != size or not known.issuperset(bag):
                raise UserError(f"{path}: {size} images of the scene expected")
        return bags


def pair_names(a: str, b: str) -> tuple[str, str]:
    """The pair with the larger name first."""
    return (a, b) if a > b else (b, a)


def pair_key(a: str, b: str) -> str:
    """`A-B` with A > B as strings."""
    return "-".join(pair_names(a, b))


def split_key(key: str, known: set[str], where: str) -> tuple[str, str]:
    """The two names of a key; names may hold "-" themselves, so both halves must be known images."""
    cuts = [i for i, c in enumerate(key) if c == "-" and key[:i] in known and key[i + 1 :] in known]
    if len(cuts) != 1:
        raise UserError(f"{where}: {key} is not a pair of this scene's images")
    a, b = key[: cuts[0]], key[cuts[0] + 1 :]
    if a <= b:
        raise UserError(f"{where}: {key}: the larger name comes first")
    return a, b


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]
