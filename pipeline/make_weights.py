"""From photographs to shipped weights: `python -m pipeline.make_weights desdis-16 --train DIR... --validation DIR...`.

Every folder is a place. The commands below are printed and run one after the other: the validation sets (tracks of
the places, and planes: three photographs of each place, warped), the training set apart from them, both stages of the
training, and `desdis.ship`. Each goes on where it stopped, so the same command again finishes what was begun. Further
KEY=VALUE words go to both trainings (device=cuda, precision=float32, ...).
"""

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from desdis import ship, train
from desdis.errors import UserError, command
from pipeline import build_patches
from pipeline.build_patches import photographs_in, places_of

RECIPES = Path(__file__).parents[1] / "configs" / "train"
FRAME_ERRORS = ["homography.frame_angle=10", "homography.frame_scale=0.15", "homography.frame_shift=1"]

FINISH = {"desdis-8": ["steps=400"], "desdis-48": ["steps=250", "validate_every=125"]}  # beside what finish.yaml says

Command = tuple[Callable[[list[str]], int], list[str]]  # a module's main and its arguments


def planes_of(validation: list[Path], folder: Path) -> list[Path]:
    """Links to three photographs of each place: the first, and those after a third and two thirds of them."""
    for name, root in places_of(validation).items():
        found = photographs_in(root)
        (folder / name).mkdir(parents=True, exist_ok=True)
        for link in (folder / name).iterdir():  # of an earlier run, whose photographs may have moved
            link.unlink()
        for path in {found[k * len(found) // 3] for k in range(3)}:
            os.symlink(path.resolve(), folder / name / path.name)
    return [folder / name for name in places_of(validation)]


def commands(name: str, training: list[Path], validation: list[Path], output: Path, words: list[str]) -> list[Command]:
    """All that is to be done, in order. Raises UserError where there is no recipe of that name."""
    config = RECIPES / f"{name}.yaml"
    if not config.is_file():
        known = ", ".join(sorted(path.stem for path in RECIPES.glob("desdis-*.yaml")))
        raise UserError(f"there is no recipe for {name!r}: choose from {known}")
    set_here = {"output", "student", "start", "patches", "validation"} & {word.partition("=")[0] for word in words}
    if set_here:
        raise UserError(f"{', '.join(sorted(set_here))}: this command sets it; leave it out")
    sets = tracks, planes, patches = [str(output / part) for part in ("tracks", "planes", "patches")]
    three = planes_of(validation, output / "planes_photographs")
    first, second = output / name, output / f"{name}-finished"
    given = [f"patches={patches}", f"validation={tracks}+{planes}"]
    recipe = train.read_recipe(config, words)
    finish = [f"student={name}", f"start={first / 'best.safetensors'}", f"teacher={recipe.teacher}"]
    finish += [f"turns={recipe.turns}", *FINISH.get(name, [])]
    build = build_patches.main
    return [
        (build, ["--images", *map(str, validation), "--output", tracks]),
        (build, ["--images", *map(str, three), "--output", planes, "--homographies", "1",
                 "--recipe", "detector.max_keypoints=500", "--options", *FRAME_ERRORS]),
        (build, ["--images", *map(str, training), "--output", patches, "--apart-from", *sets[:2], "--recipe",
                 "detector.max_keypoints=5000", "mapper.two_view_points=true", "descriptor.weights=desdis-48"]),
        (train.main, ["--config", str(config), *given, f"output={first}", *words]),
        (train.main, ["--config", str(RECIPES / "finish.yaml"), *finish, *given,
                      f"output={second}", *words]),
        (ship.main, [str(second / "best.safetensors"), name, "--validation", tracks, planes,
                     "--folder", str(output / "weights"), "--overwrite"]),
    ]  # fmt: skip


@command
def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status: that of the first command that failed, else 0."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.make_weights",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", help="of the weights: desdis-8, -16, -24, -32, -48 (configs/train)")
    parser.add_argument("--train", type=Path, nargs="+", required=True, metavar="DIR", help="places to learn from")
    parser.add_argument("--validation", type=Path, nargs="+", required=True, metavar="DIR", help="places to choose on")
    parser.add_argument("--output", type=Path, default=Path("runs/weights"), metavar="DIR", help="for all that is made")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="options of both trainings")
    options = parser.parse_intermixed_args(arguments)
    for run, words in commands(options.name, options.train, options.validation, options.output, options.words):
        print(f"python -m {run.__module__} {shlex.join(words)}", flush=True)
        status = run(words)
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
