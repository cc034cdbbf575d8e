"""deep-image-matching: features.h5, raw_matches.h5, matches.h5 (verified) and pairs.txt.

Groups are named by the file alone. image_size is (height, width); a pair is group a, dataset b, (M, 2). Its export to
COLMAP adds no half pixel, so pixels are COLMAP's already. float32, where it would write float16 (half a pixel and worse
from 512 on): its reader takes what is there.
"""

from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from pipeline.exports import ExportOptions
from pipeline.finished import FinishedRun, flat_names


def write(run: FinishedRun, folder: Path, options: ExportOptions) -> str:
    short = flat_names(run.names, "deep-image-matching")
    with h5py.File(folder / "features.h5", "w") as file:
        for name, features in run.features():
            group = file.create_group(short[name])
            width, height = features.image_size
            group["image_size"] = np.array([height, width], np.int32)
            values = {
                "keypoints": features.keypoints,
                "descriptors": next(iter(features.descriptors.values())).T,
                "scores": features.scores,
                "tile_idx": np.zeros(len(features.lafs), np.float32),
            }
            for key, array in values.items():
                group.create_dataset(key, data=array, compression="gzip", compression_opts=9)
    _write_pairs(folder / "raw_matches.h5", ((pair, matches.indices) for pair, matches in run.matches()), short)
    _write_pairs(folder / "matches.h5", run.inliers(), short)
    (folder / "pairs.txt").write_text("".join(f"{short[a]} {short[b]}\n" for a, b in run.pairs), encoding="utf-8")
    return f"{len(short)} images, {len(run.pairs)} pairs: features.h5, raw_matches.h5, matches.h5, pairs.txt"


def _write_pairs(path: Path, pairs: Iterable[tuple[tuple[str, str], np.ndarray]], short: dict[str, str]) -> None:
    with h5py.File(path, "w") as file:
        for (a, b), indices in pairs:
            file.require_group(short[a]).create_dataset(short[b], data=indices.astype(np.int32))
