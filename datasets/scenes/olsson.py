"""Olsson's `data.mat` (Olsson and Enqvist 2011): projection matrices, images sorted by name.

P holds one 3x4 matrix K [R t] an image, cam_from_world up to scale. Whether its pixels count from 0 or 1 is stated
nowhere; they are taken as counting from the first pixel's centre.
"""

from pathlib import Path

import numpy as np

from datasets.cameras import Camera, Pose, Reference
from datasets.scenes.entries import checked_pose, half_centre, pick
from desdis.errors import UserError


def decompose(P: np.ndarray) -> tuple[np.ndarray, Pose]:
    """K (upper triangular, K[2, 2] = 1, positive diagonal) and cam_from_world of P (3, 4) ~ K [R | t], any sign."""
    P = np.asarray(P, np.float64)
    singular = P.shape != (3, 4) or not np.isfinite(P).all() or np.linalg.matrix_rank(P[:, :3]) < 3
    if singular:
        raise UserError("not the 3x4 projection matrix of a camera")
    P = P * np.sign(np.linalg.det(P[:, :3]))  # then det R = +1 with positive focal lengths
    flip = np.eye(3)[::-1]
    Q, U = np.linalg.qr((flip @ P[:, :3]).T)  # RQ by the QR of the reversed matrix
    K, R = flip @ U.T @ flip, flip @ Q.T
    signs = np.diag(np.sign(np.diag(K)))
    K, R = K @ signs, signs @ R
    t = np.linalg.solve(K, P[:, 3])
    return K / K[2, 2], Pose(R, t)


def read_olsson(path: Path, names: list[str]) -> Reference:
    """Poses and cameras (without size) of the photographs; K is that of the first image, for all."""
    try:
        from scipy.io import loadmat
    except ImportError:
        raise UserError(f"{path}: reading .mat files needs scipy (pip install scipy)") from None
    try:
        data = loadmat(path, squeeze_me=True, struct_as_record=False)
    except Exception as error:  # scipy raises anything on damaged files
        raise UserError(f"{path}: not a readable MATLAB file: {error}") from None
    if "P" not in data or "imnames" not in data:
        raise UserError(f"{path}: P and imnames expected, has {', '.join(k for k in data if not k.startswith('_'))}")
    matrices = list(np.atleast_1d(data["P"]))
    images = [str(item.name) for item in np.atleast_1d(data["imnames"])]
    if len(matrices) != len(images):
        raise UserError(f"{path}: {len(matrices)} matrices for {len(images)} images")
    poses: dict[str, Pose] = {}
    K = None
    for image, P in zip(images, matrices, strict=True):
        try:
            own, pose = decompose(P)
        except UserError as error:
            raise UserError(f"{path}, {image}: {error}") from None
        K = own if K is None else K
        poses[image] = checked_pose(pose.R, pose.t, f"{path}, {image}")
    chosen = pick(poses, names, str(path))
    camera = Camera.pinhole(half_centre(K), 0, 0) if K is not None else None
    return Reference(chosen, dict.fromkeys(chosen, camera) if camera else {}, "olsson")
