"""Single pictures of a finished run, as PNG files: `python -m pipeline.show OUTPUT pair A B`."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from desdis.errors import UserError, command

if TYPE_CHECKING:
    import numpy as np

    from pipeline.html.contents import Contents


def show(
    output: Path, what: str, names: list[str], path: Path | None = None, size: tuple[int, int] | None = None
) -> Path:
    """Draw one picture of the run folder `output` and return its file.

    what: "pair" (two names), "keypoints" (one name), "graph" or "model". A name may be shortened to its last part or
    its stem where only one photograph is called so. path: by default a file in `output`/pictures.
    Raises UserError for a folder that is not a run, an unknown name or a wrong number of names.
    """
    from pipeline.html.contents import read_contents

    wanted = {"pair": 2, "keypoints": 1, "graph": 0, "model": 0}[what]
    if len(names) != wanted:
        raise UserError(f"{what}: takes {wanted} photograph names, {len(names)} given")
    report = output / "report.json"
    if not report.is_file():
        raise UserError(f"{output}: there is no report.json; give the output folder of a finished run")
    contents = read_contents(output, json.loads(report.read_text(encoding="utf-8")))
    full = [_photograph(contents, name) for name in names]
    picture = _draw(contents, what, full, size)
    if path is None:
        stem = "-".join([what, *(name.replace("/", "-") for name in full)])
        path = output / "pictures" / f"{stem}.png"
    _write_png(path, picture)
    return path


def _draw(contents: "Contents", what: str, names: list[str], size: tuple[int, int] | None) -> "np.ndarray":
    from pipeline.html import graph_picture, pictures, render

    width, height = size or (1600, 900)
    if what == "keypoints":
        return pictures.draw_keypoints(contents, names[0], max(width, height))
    if what == "graph":
        return graph_picture.draw_graph(contents, width, height)
    if what == "model":
        if contents.model is None or not contents.model.views:
            raise UserError(f"{contents.output}: there is no model to draw: nothing was reconstructed")
        return render.draw_model(contents.model, width, height)[..., ::-1]
    pair = next((pair for pair in contents.pairs if set(pair.names) == set(names)), None)
    if pair is None:
        raise UserError(f"{names[0]} + {names[1]}: this pair was not matched; see pairs.txt")
    return pictures.draw_pair(contents, pair.turned() if pair.names[0] != names[0] else pair, width)


def _photograph(contents: "Contents", name: str) -> str:
    if name in contents.names:
        return name
    found = [full for full in contents.names if name in (Path(full).name, Path(full).stem)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{name}: several photographs are called so ({', '.join(found[:4])}); give the whole name")
    some = ", ".join(contents.names[:4])
    raise UserError(f"{name}: no photograph of this run is called so; there are {some}, ...")


def _write_png(path: Path, picture: "np.ndarray") -> None:
    import cv2

    if path.suffix.lower() != ".png":
        raise UserError(f"{path}: pictures are written as PNG; let the name end in .png")
    done, data = cv2.imencode(".png", picture)
    if not done:
        raise RuntimeError("OpenCV could not write a PNG")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); give another --output") from None


def _size(text: str) -> tuple[int, int]:
    width, times, height = text.lower().partition("x")
    if not (times and width.isdigit() and height.isdigit() and 64 <= int(width) <= 8192 and 64 <= int(height) <= 8192):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT with sides of 64 to 8192 pixels")
    return int(width), int(height)


@command
def main(arguments: list[str] | None = None) -> int:
    parser: Any = argparse.ArgumentParser(
        prog="python -m pipeline.show", description="Single pictures of a finished run, as PNG files."
    )
    parser.add_argument("run", type=Path, metavar="OUTPUT", help="output folder of a finished run")
    parser.add_argument(
        "what",
        choices=("pair", "keypoints", "graph", "model"),
        help="pair A B: two photographs and their inlier matches; keypoints A: a photograph and its keypoints; "
        "graph: who is matched with whom; model: points and cameras in 3D",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="photographs, as in report.json (or only the stem)")
    parser.add_argument("--output", type=Path, metavar="FILE.png", help="default: a file in OUTPUT/pictures")
    parser.add_argument("--size", type=_size, metavar="WxH", help="size of the picture in pixels (default 1600x900)")
    given = parser.parse_args(arguments)
    print(show(given.run, given.what, given.names, given.output, given.size))
    return 0


if __name__ == "__main__":
    sys.exit(main())
