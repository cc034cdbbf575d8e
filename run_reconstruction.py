#!/usr/bin/env python3
"""The front door: a folder of photographs in, a COLMAP model and a report out."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads slow each other down twentyfold

import argparse
import logging
import shutil
import signal
import sys
import textwrap
from pathlib import Path

DONE, USER_ERROR, NOTHING_RECONSTRUCTED, INTERRUPTED = 0, 2, 3, 130

DESCRIPTION = """\
Turn a folder of photographs into a COLMAP model and a report.

  python run_reconstruction.py --images DIR

Stages: survey, extract (keypoints, DesDis descriptors), pair, match, verify, reconstruct, evaluate, report.
Everything lies in the output folder; running the same command again continues where it stopped.
"""

EXIT_CODES = """\
exit status:
  0    done
  2    something to mend: one line says what
  3    nothing could be reconstructed: the report says why
  130  interrupted: run the same command again to continue
"""


class _Help(argparse.Action):
    """--help with the table of options, which is only made when asked for."""

    def __call__(self, parser, *_):
        from pipeline.recipe import options_table

        width = min(110, shutil.get_terminal_size().columns)
        parser.epilog = "options (KEY=VALUE, with their defaults):\n"
        for key, default, text in options_table():
            left = f"  {key}={default}"
            left = f"{left:<40}" if len(left) < 39 else f"{left}\n{'':40}"
            body = textwrap.wrap(text, max(30, width - 40)) or [""]
            parser.epilog += left + f"\n{'':40}".join(body) + "\n"
        parser.epilog += "\n" + EXIT_CODES
        parser.print_help()
        parser.exit()


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="run_reconstruction.py",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    made.add_argument("--images", type=Path, required=True, metavar="DIR", help="photographs (or one video file)")
    made.add_argument("--output", type=Path, metavar="DIR", help="result folder (reconstructions/<folder name>)")
    made.add_argument("--config", type=Path, metavar="RECIPE", help="YAML recipe, as in configs/reconstruct/")
    made.add_argument("--reference", type=Path, metavar="PATH", help="known poses: the report then says how accurate")
    made.add_argument("--cameras", type=Path, metavar="PATH", help="known intrinsics, which then stay fixed")
    made.add_argument("--masks", type=Path, metavar="DIR", help="masks named <image>.png; black is not used")
    made.add_argument("--device", metavar="auto|cpu|cuda|cuda:N", help="where networks run (auto)")
    made.add_argument("--overwrite", action="store_true", help="redo stages whose options changed, and what follows")
    made.add_argument("--strict", action="store_true", help="any file that cannot be used is an error")
    made.add_argument("--open", action="store_true", help="show the report in a browser when done")
    made.add_argument("--version", action="store_true", help="print the version and stop")
    made.add_argument("-h", "--help", nargs=0, action=_Help, help="this page")
    made.add_argument("options", nargs="*", metavar="KEY=VALUE", help="options, listed below")
    return made


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if "--version" in arguments:
        from desdis._version import __version__

        print(f"desdis {__version__}")
        return DONE
    given = parser().parse_intermixed_args(arguments)
    from desdis.errors import UserError

    signal.signal(signal.SIGTERM, _interrupt)
    output = given.output or Path("reconstructions") / (given.images.resolve().stem or "photographs")
    try:
        from rich.console import Console

        from pipeline.recipe import load_recipe

        words = list(given.options) + ([f"device={given.device}"] if given.device else [])
        recipe = load_recipe(given.config, words)
        from pipeline.run import run

        report = run(
            recipe,
            given.images,
            output,
            reference=given.reference,
            cameras=given.cameras,
            masks=given.masks,
            overwrite=given.overwrite,
            strict=given.strict,
            console=Console(highlight=False),
        )
    except UserError as error:
        print(f"error: {error}".encode("utf-8", "backslashreplace").decode(), file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print(f"interrupted; run the same command again to continue in {output}", file=sys.stderr)
        return INTERRUPTED
    except Exception:
        logging.getLogger("pipeline").exception("a bug")
        raise
    if given.open:
        import webbrowser

        webbrowser.open((output / "report.html").resolve().as_uri())
    return DONE if report["models"] else NOTHING_RECONSTRUCTED


def _interrupt(*_) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
