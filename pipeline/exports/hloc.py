"""hloc (Hierarchical-Localization) 1.5: features.h5, matches.h5, pairs.txt, as its own programs write them.

The run folder's own files are readable by hloc too; here they are as hloc would have made them: one set of
descriptors, match indices int16. Pixels are counted from the first pixel's centre; hloc adds 0.5 on its way to COLMAP.
"""

from pathlib import Path

import h5py
import numpy as np

from desdis.errors import UserError
from pipeline.exports import ExportOptions
from pipeline.files.matches import key
from pipeline.finished import FinishedRun, flat_names

_MOST = 32767  # int16


def write(run: FinishedRun, folder: Path, options: ExportOptions) -> str:
    blank = next((name for name in run.names if any(character.isspace() for character in name)), None)
    if blank is not None:
        raise UserError(f"hloc's pairs.txt has one blank between two names and cannot hold {blank!r}: rename it")
    flat_names(run.names, "hloc", into="-")
    counts = {}
    with h5py.File(folder / "features.h5", "w") as file:
        for name, features in run.features():
            if len(features.lafs) > _MOST:
                raise UserError(
                    f"{name}: {len(features.lafs)} keypoints, and hloc's match files wrap round above {_MOST}; "
                    f"reconstruct with detector.max_keypoints={_MOST} (hloc reads the run's own int32 matches.h5 too)"
                )
            counts[name] = len(features.lafs)
            group = file.create_group(name)
            group["keypoints"] = features.keypoints - np.float32(0.5)
            group["descriptors"] = next(iter(features.descriptors.values())).T
            group["scores"] = features.scores
            group["image_size"] = np.array(features.image_size, np.int64)
    with h5py.File(folder / "matches.h5", "w") as file:
        for (a, b), matches in run.matches():
            matches0 = np.full(counts[a], -1, np.int16)
            scores0 = np.zeros(counts[a], np.float16)
            matches0[matches.indices[:, 0]] = matches.indices[:, 1]
            scores0[matches.indices[:, 0]] = matches.scores
            group = file.create_group(key(a, b))
            group["matches0"], group["matching_scores0"] = matches0, scores0
    (folder / "pairs.txt").write_text("\n".join(f"{a} {b}" for a, b in run.pairs), encoding="utf-8")
    return f"{len(counts)} images, {len(run.pairs)} pairs: features.h5, matches.h5, pairs.txt"
