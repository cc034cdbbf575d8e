"""Poses of single photographs against a finished model: 2D-3D matches in, COLMAP's absolute pose out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap

from datasets.cameras import Camera, Pose
from datasets.scenes.colmap_model import load, to_pycolmap
from desdis.errors import UserError


@dataclass(frozen=True)
class Located:
    """pose: cam_from_world. camera: with the focal length as refined, where it was not known. rows (K,) and point_ids
    (K,): keypoints of the photograph and the model's points that they see, the inliers; each at most once."""

    pose: Pose
    camera: Camera
    rows: np.ndarray
    point_ids: np.ndarray


class SparseMap:
    """A model to localise against, and to add photographs to."""

    def __init__(self, folder: Path):
        self._model = load(folder)
        self._ids = {self._model.images[i].name: i for i in self._model.reg_image_ids()}

    @property
    def names(self) -> list[str]:
        """Registered images, sorted."""
        return sorted(self._ids)

    def pose(self, name: str) -> Pose:
        moved = self._model.images[self._ids[name]].cam_from_world()
        return Pose(moved.rotation.matrix(), moved.translation)

    def point_ids(self, name: str, num_keypoints: int) -> np.ndarray:
        """(N,) int64: the 3D point that each keypoint of a registered image sees, or -1.

        Raises UserError where the image has another number of keypoints: features and model are of different runs.
        """
        points = self._model.images[self._ids[name]].points2D
        if len(points) != num_keypoints:
            raise UserError(
                f"{name}: {num_keypoints} keypoints in features.h5, {len(points)} in the model: not of one run"
            )
        return np.array([p.point3D_id if p.has_point3D() else -1 for p in points], np.int64)

    def locate(
        self, camera: Camera, points2D: np.ndarray, rows: np.ndarray, point_ids: np.ndarray, max_error: float, seed: int
    ) -> Located | None:
        """Pose from 2D-3D matches: rows (M,) of points2D (N, 2) and point_ids (M,). None where none fits.

        max_error: pixels. An unknown focal length is estimated with the pose, and refined unless it was measured.
        """
        if len(rows) < 4:
            return None
        estimation = pycolmap.AbsolutePoseEstimationOptions(estimate_focal_length=not camera.prior_focal)
        estimation.ransac.max_error, estimation.ransac.random_seed = max_error, seed
        refinement = pycolmap.AbsolutePoseRefinementOptions(refine_focal_length=not camera.known)
        xyz = np.array([self._model.points3D[int(i)].xyz for i in point_ids])
        refined = to_pycolmap(camera, 1)
        found = pycolmap.estimate_and_refine_absolute_pose(
            points2D[rows].astype(np.float64), xyz, refined, estimation, refinement
        )
        if found is None:
            return None
        moved, inliers = found["cam_from_world"], np.asarray(found["inlier_mask"], bool)
        params = tuple(float(value) for value in refined.params)
        used = Camera(camera.model, camera.width, camera.height, params, camera.prior_focal, camera.known)
        kept = _once_each(rows[inliers], point_ids[inliers])
        return Located(
            Pose(moved.rotation.matrix(), moved.translation), used, rows[inliers][kept], point_ids[inliers][kept]
        )

    def add(self, name: str, points2D: np.ndarray, located: Located) -> None:
        """Register a photograph with all its keypoints; those that see a point join its track."""
        camera_id, image_id = max(self._model.cameras) + 1, max(self._model.images) + 1
        self._model.add_camera_with_trivial_rig(to_pycolmap(located.camera, camera_id))
        image = pycolmap.Image(name=name, camera_id=camera_id, image_id=image_id)
        image.points2D = pycolmap.Point2DList([pycolmap.Point2D(xy) for xy in points2D.astype(np.float64)])
        moved = pycolmap.Rigid3d(pycolmap.Rotation3d(located.pose.R), located.pose.t)
        self._model.add_image_with_trivial_frame(image, moved)
        for row, point_id in zip(located.rows, located.point_ids, strict=True):
            self._model.add_observation(int(point_id), pycolmap.TrackElement(image_id, int(row)))

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._model.write(folder)


def quaternion(R: np.ndarray) -> np.ndarray:
    """(4,) unit quaternion w x y z of a rotation matrix, w >= 0."""
    x, y, z, w = pycolmap.Rotation3d(np.asarray(R, np.float64)).quat
    return np.array([w, x, y, z]) * (1 if w >= 0 else -1)


def _once_each(rows: np.ndarray, point_ids: np.ndarray) -> np.ndarray:
    """Positions at which both the row and the point come for the first time."""
    first_rows = np.unique(rows, return_index=True)[1]
    first_points = np.unique(point_ids, return_index=True)[1]
    return np.intersect1d(first_rows, first_points)
