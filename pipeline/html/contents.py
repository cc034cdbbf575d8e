"""What a finished run left on disk, as arrays to draw from. Pixels in COLMAP's convention throughout.

In: report.json's content, features.h5, database.db, sparse/0, the photographs and the reference. Nothing is computed
anew but the residuals. What cannot be read becomes a line in `notes`.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from datasets.cameras import Pose
from desdis.errors import UserError


@dataclass(frozen=True)
class View:
    """A photograph in a model.

    observed: (K,) rows of its keypoints that see a 3D point; points (K,) rows of the model's points; residuals (K, 2)
    float64 pixels, projection minus keypoint. `half_angles` are tan of half the field of view, (right, down).
    """

    pose: Pose
    observed: np.ndarray
    points: np.ndarray
    residuals: np.ndarray
    half_angles: tuple[float, float]

    @property
    def errors(self) -> np.ndarray:
        """(K,) reprojection errors in pixels."""
        return np.linalg.norm(self.residuals, axis=1)


@dataclass(frozen=True)
class SparseModel:
    """xyz (P, 3) float64, rgb (P, 3) uint8, track_length (P,) int64, and the registered photographs by name."""

    xyz: np.ndarray
    rgb: np.ndarray
    track_length: np.ndarray
    views: dict[str, View]


@dataclass(frozen=True)
class Pair:
    """A pair of the view graph with its inliers (K, 2) int64, rows of the two photographs' keypoints."""

    names: tuple[str, str]
    matches: int
    inliers: np.ndarray
    config: str
    confidence: float | None = None

    def turned(self) -> "Pair":
        """The same pair with its photographs the other way round."""
        return Pair((self.names[1], self.names[0]), self.matches, self.inliers[:, ::-1], self.config, self.confidence)


@dataclass(frozen=True)
class Contents:
    """A run. `names` are the photographs that were used, sorted; `sizes` (width, height) and `keypoints` (N, 2) by
    name; `pairs` all pairs, best first; `reference` poses already in the model's world (after a similarity)."""

    output: Path
    root: Path | None
    names: list[str]
    sizes: dict[str, tuple[int, int]]
    keypoints: dict[str, np.ndarray]
    scores: dict[str, np.ndarray]
    pairs: list[Pair]
    model: SparseModel | None
    reference: dict[str, Pose]
    notes: list[str] = field(default_factory=list)

    @cached_property
    def verified(self) -> list[Pair]:
        """Pairs with inliers, most inliers first."""
        return [pair for pair in self.pairs if len(pair.inliers)]

    def photo(self, name: str) -> Path | None:
        """The photograph's file, where it still lies there and inside the image folder."""
        if self.root is None:
            return None
        path = self.root / name
        return path if path.is_file() else None


def read_contents(output: Path, report: dict[str, Any]) -> Contents:
    """Read a run folder. Raises UserError only where features.h5 is missing or is not one."""
    notes: list[str] = []
    images = report.get("images", {})
    root = Path(images["root"]) if images.get("root") else None
    if root is None or not root.is_dir():
        notes.append(f"The photographs no longer lie in {root or 'a known folder'}: the report has no pictures.")
        root = None
    names, sizes, keypoints, scores = _features(output / "features.h5")
    pairs = _pairs(output / "database.db", report, notes)
    model = None
    if (output / "sparse" / "0").is_dir():
        model = read_model(output / "sparse" / "0")
    else:
        notes.append("There is no model: nothing could be reconstructed.")
    reference = _reference(report.get("reference"), names, model, notes)
    return Contents(output, root, names, sizes, keypoints, scores, pairs, model, reference, notes)


def _features(path: Path) -> tuple[list[str], dict[str, tuple[int, int]], dict[str, np.ndarray], dict[str, np.ndarray]]:
    import h5py

    from pipeline.files import features

    if not path.is_file():
        raise UserError(f"{path}: there is no such file; give the folder of a finished run")
    names = features.names(path)
    with h5py.File(path, "r") as file:
        found = {name: features.read(file, name, descriptors=False) for name in names}
    return (
        names,
        {name: f.image_size for name, f in found.items()},
        {name: f.keypoints for name, f in found.items()},
        {name: f.scores for name, f in found.items()},
    )


def _pairs(path: Path, report: dict[str, Any], notes: list[str]) -> list[Pair]:
    """Every pair of the database, most inliers first."""
    import zlib  # noqa: F401  (before pycolmap: its own zlib would corrupt PNG writing)

    import pycolmap

    if not path.is_file():
        notes.append("There is no database.db: pairs are not shown.")
        return []
    known = {frozenset(e["images"]): e for e in report.get("view_graph", {}).get("edges", [])}
    configs = {int(value): name for name, value in pycolmap.TwoViewGeometryConfiguration.__members__.items()}
    found = []
    with pycolmap.Database.open(path) as database:
        image_of = {image.image_id: image.name for image in database.read_all_images()}
        for pair_id, geometry in zip(*database.read_two_view_geometries(), strict=True):
            names = tuple(image_of[i] for i in pycolmap.pair_id_to_image_pair(pair_id))
            inliers = np.asarray(geometry.inlier_matches, np.int64).reshape(-1, 2)
            edge = known.get(frozenset(names), {})
            found.append(
                Pair(
                    (names[0], names[1]),
                    int(edge.get("matches", len(inliers))),
                    inliers,
                    configs.get(int(geometry.config), "UNDEFINED"),
                    edge.get("confidence"),
                )
            )
    return sorted(found, key=lambda pair: (-len(pair.inliers), pair.names))


def read_model(folder: Path) -> SparseModel:
    """Read a COLMAP model (binary or text) and compute its residuals."""
    import zlib  # noqa: F401

    import pycolmap

    model = pycolmap.Reconstruction(str(folder))
    ids = sorted(model.points3D)
    row = {point_id: index for index, point_id in enumerate(ids)}
    points = [model.points3D[point_id] for point_id in ids]
    xyz = np.array([p.xyz for p in points], np.float64).reshape(-1, 3)
    rgb = np.array([p.color for p in points], np.uint8).reshape(-1, 3)
    length = np.array([p.track.length() for p in points], np.int64)
    views = {}
    for image_id in model.reg_image_ids():
        image = model.images[image_id]
        camera = model.cameras[image.camera_id]
        matrix = image.cam_from_world().matrix()
        seen = [(i, p) for i, p in enumerate(image.points2D) if p.has_point3D()]
        observed = np.array([i for i, _ in seen], np.int64)
        rows = np.array([row[p.point3D_id] for _, p in seen], np.int64)
        xy = np.array([p.xy for _, p in seen], np.float64).reshape(-1, 2)
        in_camera = xyz[rows] @ matrix[:, :3].T + matrix[:, 3]
        residuals = np.asarray(camera.img_from_cam(in_camera)).reshape(-1, 2) - xy if len(rows) else xy
        views[image.name] = View(
            Pose(matrix[:, :3], matrix[:, 3]),
            observed,
            rows,
            residuals,
            (camera.width / 2 / camera.focal_length_x, camera.height / 2 / camera.focal_length_y),
        )
    return SparseModel(xyz, rgb, length, dict(sorted(views.items())))


def _reference(reference: str | None, names: list[str], model: SparseModel | None, notes: list[str]) -> dict[str, Pose]:
    """Reference poses moved into the model's world; empty where there is none or it cannot be aligned."""
    if not reference or model is None:
        return {}
    from datasets.scenes.reference import read_reference
    from pipeline.metrics.alignment import umeyama

    try:
        poses = read_reference(Path(reference), names).poses
    except UserError as error:
        notes.append(f"The reference is not shown: {error}")
        return {}
    common = [name for name in model.views if name in poses]
    similarity = umeyama(
        np.array([poses[name].centre for name in common]).reshape(-1, 3),
        np.array([model.views[name].pose.centre for name in common]).reshape(-1, 3),
    )
    if similarity is None:
        notes.append("Reference cameras are not shown: three registered ones, not on a line, are needed to align them.")
        return {}
    moved = {}
    for name, pose in sorted(poses.items()):
        R = similarity.rotations(pose.R[None])[0]
        centre = similarity.points(pose.centre[None])[0]
        moved[name] = Pose(R, -R @ centre)
    return moved
