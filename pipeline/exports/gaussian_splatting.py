"""3D Gaussian splatting trainers: undistorted images/ and a PINHOLE model in sparse/0.

Photographs in sub-folders get flat names ("a/1.jpg" becomes "a_1.jpg"): the first trainer, and many after it, look for
the last part of a name alone.
"""

import shutil
from pathlib import Path

from pipeline.exports import ExportOptions
from pipeline.finished import FinishedRun, flat_names


def write(run: FinishedRun, folder: Path, options: ExportOptions) -> str:
    from pipeline.colmap_log import colmap_log_to
    from pipeline.mappers.undistort import undistort

    colmap_log_to(run.output / "logs")
    short = flat_names(run.names, "a splatting trainer", into="_")
    scratch = folder / "undistorted"
    count = undistort(run.require_model(), run.images, scratch, folder / "sparse" / "0", short)
    (folder / "images").mkdir()
    for path in sorted((scratch / "images").rglob("*")):
        if path.is_file():
            path.rename(folder / "images" / short[path.relative_to(scratch / "images").as_posix()])
    shutil.rmtree(scratch)
    return f"{count} undistorted images: images/, sparse/0"
