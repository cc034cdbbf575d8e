"""Stage 7: poses of the best model and reference poses -> how accurate the model is.

Every pair of reference images counts. An image without an estimated pose fails in all its pairs, so that leaving out
hard images never pays. Relative poses need no alignment and are the score; absolute errors follow after a similarity.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from datasets.cameras import Pose, Reference
from desdis.errors import UserError
from pipeline.metrics.alignment import umeyama
from pipeline.metrics.poses import FAILED, auc, estimated, maa, pair_errors_deg, rotation_error_deg


@dataclass(frozen=True)
class PairError:
    """Errors of one pair in degrees; `error_deg` is the larger one. 180 where an image is not registered."""

    names: tuple[str, str]
    rotation_deg: float
    translation_deg: float
    error_deg: float


@dataclass(frozen=True)
class ImageError:
    """Errors of one registered image after the alignment: centre in the reference's unit, rotation in degrees."""

    name: str
    centre: float
    rotation_deg: float


@dataclass(frozen=True)
class Accuracy:
    """What the evaluation says. Shares are 0..1, angles degrees, centre errors in the reference's unit.

    mAA is IMC's (Jin et al. 2021), AUC is SuperGlue's; the error of a pair is the larger of its rotation and
    translation angle (its sign ignored). `centre_*`, `median_rotation_error_deg` and `images` are None or empty where
    the registered centres cannot be aligned (fewer than three, or on a line): not alignable is no error of zero.
    `extent` is the root mean square distance of the true centres to their mean, to read the centre errors by.
    """

    reference_images: int
    registered_images: int
    registered_ratio: float
    pairs: int
    maa_10: float
    maa_5: float
    auc_1: float
    auc_3: float
    auc_5: float
    auc_10: float
    auc_20: float
    median_pose_error_deg: float
    extent: float
    centre_rmse: float | None
    centre_mean: float | None
    centre_median: float | None
    centre_max: float | None
    median_rotation_error_deg: float | None
    unregistered: tuple[str, ...]
    not_in_reference: tuple[str, ...]
    pair_errors: tuple[PairError, ...]
    image_errors: tuple[ImageError, ...]


def evaluate(poses: Mapping[str, Pose], reference: Reference, names: Collection[str] | None = None) -> Accuracy:
    """Score the poses of one model (the largest one) against the reference.

    poses: cam_from_world by image name, in any world; empty when nothing was reconstructed.
    names: the photographs that were given to the program, used or not; reference poses of others are left out. None:
    every image of the reference was given.
    Raises UserError where fewer than two of the given images have a reference pose, or where a reference pose is not
    a rotation and a finite translation.
    """
    images = sorted(name for name in reference.poses if names is None or name in names)
    if len(images) < 2:
        some = ", ".join(sorted(reference.poses)[:3]) or "none"
        raise UserError(
            f"reference: {len(images)} of the photographs have a reference pose and two are needed; "
            f"the names must agree (the reference has: {some})"
        )
    R_true, t_true = _stack(images, reference.poses)
    _check_reference(images, R_true, t_true)
    R, t = _stack(images, poses)
    registered = estimated(R, t)

    centres_true = -np.einsum("nba,nb->na", R_true, t_true)
    centres_true -= centres_true.mean(axis=0)
    extent = float(np.sqrt(np.mean(np.sum(centres_true**2, axis=1))))
    rotation, translation = pair_errors_deg(R, t, R_true, t_true, min_baseline=1e-9 * float(np.abs(t_true).max()))
    error = np.maximum(rotation, translation)
    i, j = np.triu_indices(len(images), 1)
    pairs = tuple(
        PairError((images[a], images[b]), float(r), float(d), float(e))
        for a, b, r, d, e in zip(i, j, rotation, translation, error, strict=True)
    )
    aligned = _aligned_errors(R[registered], t[registered], R_true[registered], centres_true[registered])
    centre, turn = aligned if aligned else (None, None)
    found = [name for name, ok in zip(images, registered, strict=True) if ok]
    return Accuracy(
        reference_images=len(images),
        registered_images=len(found),
        registered_ratio=len(found) / len(images),
        pairs=len(pairs),
        maa_10=maa(error, 10),
        maa_5=maa(error, 5),
        auc_1=auc(error, 1),
        auc_3=auc(error, 3),
        auc_5=auc(error, 5),
        auc_10=auc(error, 10),
        auc_20=auc(error, 20),
        median_pose_error_deg=float(np.median(np.minimum(error, FAILED))),
        extent=extent,
        centre_rmse=None if centre is None else float(np.sqrt(np.mean(centre**2))),
        centre_mean=None if centre is None else float(centre.mean()),
        centre_median=None if centre is None else float(np.median(centre)),
        centre_max=None if centre is None else float(centre.max()),
        median_rotation_error_deg=None if turn is None else float(np.median(turn)),
        unregistered=tuple(name for name, ok in zip(images, registered, strict=True) if not ok),
        not_in_reference=tuple(sorted(name for name in poses if name not in reference.poses)),
        pair_errors=pairs,
        image_errors=()
        if centre is None or turn is None
        else tuple(ImageError(n, float(c), float(r)) for n, c, r in zip(found, centre, turn, strict=True)),
    )


def _stack(images: list[str], poses: Mapping[str, Pose]) -> tuple[np.ndarray, np.ndarray]:
    """R (N, 3, 3) and t (N, 3) of the images, NaN where there is none."""
    missing = Pose(np.full((3, 3), np.nan), np.full(3, np.nan))
    found = [poses.get(name, missing) for name in images]
    return np.stack([p.R for p in found]).astype(float), np.stack([p.t for p in found]).astype(float)


def _check_reference(images: list[str], R: np.ndarray, t: np.ndarray) -> None:
    for name, rotation, translation in zip(images, R, t, strict=True):
        if not (np.isfinite(rotation).all() and np.isfinite(translation).all()):
            raise UserError(f"reference: the pose of {name} has a value that is not a number; correct or remove it")
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3 or np.linalg.det(rotation) < 0:
            raise UserError(f"reference: the rotation of {name} is not a rotation matrix; correct or remove it")


def _aligned_errors(
    R: np.ndarray, t: np.ndarray, R_true: np.ndarray, centres_true: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Centre distances (n,) and rotation angles (n,) of the registered images after the similarity."""
    centres = -np.einsum("nba,nb->na", R, t)
    similarity = umeyama(centres, centres_true)
    if similarity is None:
        return None
    distance = np.linalg.norm(similarity.points(centres) - centres_true, axis=1)
    return distance, rotation_error_deg(similarity.rotations(R), R_true)
