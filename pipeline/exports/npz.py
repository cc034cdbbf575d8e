"""Plain numpy: features/<image>.npz, matches.npz, and poses.npz where there is a model. Pixels are COLMAP's.

features: keypoints (N, 2), lafs (N, 2, 3), scores (N,), descriptors_<orientation> (N, D), image_size (width, height).
matches: names (P, 2); rows offsets[p] to offsets[p + 1] of indices (M, 2) and scores (M,) belong to pair p.
poses: names (n,), cam_from_world (n, 3, 4), K (n, 3, 3); lens distortion is not part of K.
"""

from pathlib import Path

import numpy as np

from pipeline.exports import ExportOptions
from pipeline.finished import FinishedRun


def write(run: FinishedRun, folder: Path, options: ExportOptions) -> str:
    for name, features in run.features():
        target = folder / "features" / f"{name}.npz"
        target.parent.mkdir(parents=True, exist_ok=True)
        described = {f"descriptors_{orientation}": array for orientation, array in features.descriptors.items()}
        if next(iter(described)) == "descriptors_upright":
            described.pop("descriptors_oriented", None)  # of the strongest keypoints alone: by it the run chose upright
        np.savez(
            target,
            keypoints=features.keypoints,
            lafs=features.lafs,
            scores=features.scores,
            image_size=np.array(features.image_size),
            **described,  # pyright: ignore[reportArgumentType]
        )
    found = [matches for _, matches in run.matches()]
    np.savez(
        folder / "matches.npz",
        names=np.array(run.pairs).reshape(-1, 2),
        offsets=np.cumsum([0, *(len(matches.indices) for matches in found)]),
        indices=np.concatenate([np.zeros((0, 2), np.int32), *(matches.indices for matches in found)]),
        scores=np.concatenate([np.zeros(0, np.float32), *(matches.scores for matches in found)]),
    )
    if not run.model.is_dir():
        return f"{len(run.names)} images, no model: features/, matches.npz"
    from datasets.scenes.colmap_model import read_model

    model = read_model(run.model)
    names = sorted(model.poses)
    np.savez(
        folder / "poses.npz",
        names=np.array(names),
        cam_from_world=np.stack([np.column_stack([model.poses[name].R, model.poses[name].t]) for name in names]),
        K=np.stack([model.cameras[name].K for name in names]),
    )
    return f"{len(run.names)} images, {len(names)} with poses: features/, matches.npz, poses.npz"
