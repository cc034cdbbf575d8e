"""Write a finished run in the layout of another program: `python -m pipeline.export OUTPUT --to hloc`."""

import argparse
import shutil
import sys
from pathlib import Path

from desdis.errors import UserError, command
from pipeline.exports import EXPORTS, ExportOptions


def export(output: Path, to: str, folder: Path, images: Path | None = None, scene: str = "") -> str:
    """Fill `folder`, which must be new or empty, from the run in `output`; returns a line for the screen.

    Raises UserError for what the layout cannot hold; nothing half-written stays.
    """
    from pipeline.detectors import load
    from pipeline.finished import FinishedRun

    run = FinishedRun(output, images)
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: not empty; give another --output")
    unfinished = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        told = load(EXPORTS, to)(run, unfinished, ExportOptions(scene))
        if folder.exists():
            folder.rmdir()
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return told


@command
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.export", description=__doc__)
    parser.add_argument("run", type=Path, metavar="OUTPUT", help="output folder of a finished reconstruction")
    parser.add_argument("--to", required=True, choices=sorted(EXPORTS), help="the program that shall read it")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where to write (OUTPUT/export/<program>)")
    parser.add_argument("--images", type=Path, metavar="DIR", help="the photographs, if they were moved since")
    parser.add_argument("--scene", default="", metavar="DATASET/SCENE", help="imc: names in the submission")
    given = parser.parse_args(arguments)
    folder = given.output or given.run / "export" / given.to
    print(f"{folder}: {export(given.run, given.to, folder, given.images, given.scene)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
