"""Photograph folders to a patch set: `python -m pipeline.build_patches --images DIR... --output SET`.

Each folder is a place. It is reconstructed by this program (SET/runs/<place>, resumed if it was begun), its tracks
become observations (SET/scenes/<place>.npz), and at the end all patches are cut (SET/patches*.npy) and a contact sheet
of positive pairs is drawn, to be looked at. Running the same command again does what is missing (warped photographs,
a matter of minutes, are all done again). With other folders it makes the set anew, of these alone; places that were
reconstructed before are not reconstructed again.

`--model MODEL` cuts from a COLMAP model that is there already, `--fixed` takes the photographs of each folder as those
of a camera that did not move, `--homographies N` warps single photographs N times; none of the three reconstructs all.
"""

import argparse
import hashlib
import json
import os
import sys
from functools import cache
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import Console

from datasets.patches.homography_pairs import HomographyOptions
from datasets.patches.sfm_tracks import TrackOptions
from desdis.errors import UserError, command
from pipeline.recipe import Recipe, load_recipe
from pipeline.workspace import write_atomically

# What a reconstruction for patches wants: many keypoints, every pair of views that can be had, and points that only two
# photographs see. Wide baselines make hard positives; a loose ratio lets them in, geometry throws out what is wrong.
RECIPE = (
    "detector.max_keypoints=5000", "orientation=oriented", "pairs.name=exhaustive", "matcher.max_ratio=0.92",
    "mapper.two_view_points=true", "mapper.attempts=2",
)  # fmt: skip
PICTURES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".ppm"}
FEWEST = 20  # points; a scene with fewer is left out, and said so


class BuildOptions(BaseModel):
    """Everything but the reconstruction."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    tracks: TrackOptions = Field(default_factory=TrackOptions, description="which observations become patches")
    homography: HomographyOptions = Field(default_factory=HomographyOptions, description="what --homographies does")
    orientation: str = Field(
        default="both", pattern="^(oriented|upright|both)$", description="frames by the detection, at angle 0, or both"
    )
    margin: float = Field(
        default=1.25, ge=1, le=2, description="stored patch over described window: room for augmentation"
    )
    patch_size: int = Field(default=64, ge=32, le=256, description="pixels of a patch's side")


@command
def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status (0 done, 2 a user's mistake, 130 interrupted)."""
    args = parser().parse_args(arguments)
    build(
        args.images, args.output, parse_options(args.options),
        load_recipe(args.config, [*RECIPE, *args.recipe] if args.config is None else args.recipe),
        model=args.model, fixed=args.fixed, homographies=args.homographies, apart_from=args.apart_from,
        console=Console(),
    )  # fmt: skip
    return 0


def build(
    images: list[Path],
    output: Path,
    options: BuildOptions,
    recipe: Recipe,
    *,
    model: Path | None = None,
    fixed: bool = False,
    homographies: int = 0,
    apart_from: list[Path] | None = None,
    console: Console | None = None,
) -> None:
    """Build (or go on building) the set. `apart_from`: sets with which no photograph may be shared.

    Raises UserError for a folder that is absent, options that differ from those the set was begun with or that have no
    meaning for it, a place whose photographs have changed, a set of which no scene gave patches, and a photograph that
    one of `apart_from` has too.
    """
    from datasets.patches.contact_sheet import contact_sheet
    from datasets.patches.patch_set import ORIENTATIONS, assemble, cut, scene_file

    console = console or Console(quiet=True)
    places = places_of(images)
    _only_used(options, homographies)
    if model is None:  # a model may be of some of the photographs only
        _photographs_apart(places, apart_from or [])
    _same_as_before(output, options, recipe, {"model": str(model), "fixed": fixed, "homographies": homographies})
    if homographies:
        _warped(places, output, options, recipe, homographies)
        _apart(output, apart_from or [])
    else:
        roots: dict[str, Path] = {}
        for name, root in places.items():
            done = output / "scenes" / f"{name}.json"
            if not done.exists():
                scenes = _scenes(name, root, output, options, recipe, model, fixed, console)
                done.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(done, json.dumps(scenes))
            scenes = json.loads(done.read_text())
            for scene in scenes:
                _same_photographs(scene_file(output, scene), root)
            roots |= dict.fromkeys(scenes, root)
            rows = sum(len(np.load(scene_file(output, scene))["point_ids"]) for scene in scenes)
            console.print(f"{name}: {rows} patches" if scenes else f"{name}: left out, fewer than {FEWEST} points")
        manifest = assemble(
            output, list(roots), magnification=options.tracks.magnification, margin=options.margin,
            orientation=options.orientation, patch_size=options.patch_size, options=options.model_dump(),
        )  # fmt: skip
        _apart(output, apart_from or [])
        cut(output, roots)
        console.print(f"{manifest['count']} patches of {manifest['points']} points, {len(manifest['scenes'])} scenes")
    kinds = ("oriented",) if homographies else ORIENTATIONS[options.orientation]
    for kind in kinds:
        contact_sheet(output, output / f"contact_sheet_{kind}.png", orientation=kind)
    console.print(f"{output}: look at contact_sheet_{kinds[0]}.png, do the patches of a pair show the same?")


def _only_used(options: BuildOptions, homographies: int) -> None:
    """Raise UserError naming given options that this kind of set does not use."""
    if homographies < 0:
        raise UserError(f"--homographies {homographies}: give how often to warp each photograph, 1 or more")
    own = {"homography"}
    unused = options.model_fields_set - own if homographies else options.model_fields_set & own
    if unused:
        way = "with --homographies only those of homography.* count" if homographies else "they are of --homographies"
        raise UserError(f"options of {', '.join(sorted(unused))} would change nothing: {way}; leave them out")


def _photographs_apart(places: dict[str, Path], others: list[Path]) -> None:
    """Raise UserError for a photograph that is in one of the sets, before anything is reconstructed. (Those that only
    look the same are found at the end, see `_apart`.)"""
    from datasets.patches.patch_set import check_apart

    if not others:
        return
    files = [path for root in places.values() for path in root.rglob("*") if path.suffix.lower() in PICTURES]
    photographs = {_sha256(path): str(path) for path in files if path.is_file()}
    for other in others:
        check_apart(other, photographs)


def _same_photographs(scene: Path, root: Path) -> None:
    """Raise UserError where the folder does not hold the photographs that a scene was saved from."""
    with np.load(scene, allow_pickle=False) as saved:
        known = list(zip(saved["images"], saved["sha256"], strict=True))
    for name, sha256 in known:
        if not (root / name).is_file() or _sha256(root / name) != sha256:
            raise UserError(f"{root / name} is not the photograph that {scene} was made from; use another --output")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _apart(output: Path, others: list[Path]) -> None:
    from datasets.patches.patch_set import check_split

    for other in others:
        check_split(other, output)


def _scenes(
    name: str,
    root: Path,
    output: Path,
    options: BuildOptions,
    recipe: Recipe,
    model: Path | None,
    fixed: bool,
    console: Console,
) -> list[str]:
    """Save the scenes of one place; returns their names. A model is a scene; photographs belong to one only."""
    from datasets.patches.patch_set import read_grey, save_scene
    from datasets.patches.sfm_tracks import fixed_camera, observe, read_tracks, select

    read = cache(lambda photo: read_grey(root / photo))  # a place's photographs are read three times over
    if fixed:
        names = tuple(path.name for path in photographs_in(root))
        if len({read(photo).shape for photo in names}) != 1:
            raise UserError(f"{root}: --fixed wants photographs of one size, of a camera that did not move")
        found = [fixed_camera(names, _detect(read(names[0]), recipe))]
    else:
        run_folder = output / "runs" / name
        frames, models = _reconstructed(name, root, run_folder, recipe, model, console)
        found, used = [], set()
        for folder in models:
            tracks = read_tracks(folder)
            if not used & set(tracks.images):
                used |= set(tracks.images)
                found.append(observe(tracks, frames, options.tracks))
    saved = []
    for number, observations in enumerate(found):
        observations = select(observations, read, options.tracks)
        if len(observations.points) >= FEWEST:
            saved.append(f"{name}.{number}" if number else name)
            save_scene(output, saved[-1], root, observations)
    return saved


def _reconstructed(
    name: str, root: Path, run_folder: Path, recipe: Recipe, model: Path | None, console: Console
) -> tuple[dict[str, np.ndarray], list[Path]]:
    """Frames (N, 2, 3) by photograph, and the folders of the models, largest first."""
    import h5py

    from pipeline.files import features
    from pipeline.run import run

    if model is not None:
        return _frames_of_database(model), [model]
    console.print(f"{name}: reconstructing")
    run(recipe, root, run_folder)
    with h5py.File(run_folder / "features.h5", "r") as file:
        names = features.names(run_folder / "features.h5")
        frames = {photo: features.read(file, photo, descriptors=False).lafs for photo in names}
    models = [path for path in (run_folder / "sparse").glob("*") if path.name.isdecimal()]
    return frames, sorted(models, key=lambda path: int(path.name))


def _frames_of_database(model: Path) -> dict[str, np.ndarray]:
    """Frames by photograph from the database beside a COLMAP model (database.db in its folder or one of the two above):
    keypoints of 6 columns x y a11 a12 a21 a22, or 4 columns x y scale angle."""
    import sqlite3

    for folder in (model, *list(model.resolve().parents)[:2]):
        path = folder / "database.db"
        if path.is_file():
            break
    else:
        raise UserError(f"{model}: no database.db beside the model; its keypoints' frames are needed: copy it there")
    query = "select name, rows, cols, data from keypoints join images using (image_id)"
    frames = {}
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        for name, rows, columns, data in database.execute(query):
            table = np.frombuffer(data or b"", np.float32).reshape(rows, columns)
            if columns == 6:
                A = table[:, 2:].reshape(-1, 2, 2)
            elif columns == 4:
                c, s = table[:, 2] * np.cos(table[:, 3]), table[:, 2] * np.sin(table[:, 3])
                A = np.stack([c, -s, s, c], axis=1).reshape(-1, 2, 2)
            else:
                raise UserError(f"{path}: keypoints of {columns} columns have no scale and angle; extract them again")
            frames[name] = np.concatenate([A, table[:, :2, None]], axis=2).astype(np.float32)
    return frames


def _warped(places: dict[str, Path], output: Path, options: BuildOptions, recipe: Recipe, rounds: int) -> None:
    """The set of homography pairs of all photographs of all places."""
    from datasets.patches.homography_pairs import write_set
    from datasets.patches.patch_set import read_grey

    photographs = {f"{name}/{path.name}": path for name, root in places.items() for path in photographs_in(root)}
    frames = {name: _detect(read_grey(path), recipe) for name, path in photographs.items()}
    write_set(output, photographs, frames, options.homography, rounds, recipe.seed)


def _detect(grey: np.ndarray, recipe: Recipe) -> np.ndarray:
    from pipeline.detectors import DETECTORS, load
    from pipeline.types import Image

    Detector = load(DETECTORS, recipe.detector.name)
    options = getattr(recipe.detector, recipe.detector.name, Detector.Options())
    detector = Detector(options, recipe.detector.max_keypoints, "cpu")
    return detector.detect(Image(grey, np.repeat(grey[:, :, None], 3, axis=2))).lafs


def photographs_in(root: Path) -> list[Path]:
    found = sorted(path for path in root.iterdir() if path.suffix.lower() in PICTURES)
    if not found:
        raise UserError(f"{root}: no photographs in it; --images takes folders of photographs, one a place")
    return found


def places_of(images: list[Path]) -> dict[str, Path]:
    """The folders by name (PLACE/images goes by PLACE). Raises UserError where one is absent or two share a name."""
    places: dict[str, Path] = {}
    for root in images:
        full = Path(os.path.abspath(root))  # as it was named: links are not followed
        name = full.parent.name if full.name == "images" else full.name
        if not root.is_dir():
            raise UserError(f"{root} is no folder; --images takes folders of photographs, one a place")
        if name in places:
            raise UserError(f"{root} and {places[name]} have the same name; rename one, scenes go by it")
        places[name] = root
    return places


def _same_as_before(output: Path, options: BuildOptions, recipe: Recipe, source: dict) -> None:
    """Remember the options in SET/build.json; raise UserError naming those that differ from an earlier run's."""
    now = options.model_dump() | {"recipe": recipe.flat()} | source
    path = output / "build.json"
    if path.exists():
        try:
            before = dict(json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{path} is broken; use another --output") from error
        different = [key for key in now if before.get(key) != now[key]]
        if different:
            raise UserError(f"{output} was begun with another {', '.join(different)}; use another --output")
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(now, indent=1))


def parse_options(words: list[str]) -> BuildOptions:
    values: dict = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise UserError(f"{word!r}: options are given as KEY=VALUE, such as tracks.min_track=3")
        *groups, last = key.split(".")
        place = values
        for group in groups:
            place = place.setdefault(group, {})
            if not isinstance(place, dict):
                raise UserError(f"{word!r}: {group} is an option with a value, it has no options of its own")
        place[last] = text
    try:
        return BuildOptions.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"option {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m pipeline.build_patches", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog=_options_help(),
    )  # fmt: skip
    made.add_argument("--images", type=Path, nargs="+", required=True, metavar="DIR", help="folders, one a place")
    made.add_argument("--output", type=Path, required=True, metavar="SET", help="the patch set's folder")
    made.add_argument("--config", type=Path, metavar="RECIPE", help="the reconstruction's recipe (YAML)")
    made.add_argument("--recipe", nargs="*", default=[], metavar="KEY=VALUE", help="the reconstruction's options")
    made.add_argument("--options", nargs="*", default=[], metavar="KEY=VALUE", help="the set's options, listed below")
    made.add_argument("--apart-from", type=Path, nargs="*", metavar="SET", help="no photograph may be in these sets")
    source = made.add_mutually_exclusive_group()
    source.add_argument("--model", type=Path, metavar="MODEL", help="a COLMAP model of the (one) folder")
    source.add_argument("--fixed", action="store_true", help="the camera did not move: same pixel, same place")
    source.add_argument("--homographies", type=int, default=0, metavar="N", help="warp each photograph N times")
    return made


def _options_help() -> str:
    lines = []
    for name, field in BuildOptions.model_fields.items():
        group = field.annotation
        inner = group.model_fields if isinstance(group, type) and issubclass(group, BaseModel) else {}
        for key, option in ({f"{name}.{k}": v for k, v in inner.items()} or {name: field}).items():
            lines.append(f"  {f'{key}={option.get_default()}':<36} {option.description}")
    return "options of the set (of --homographies: homography.* alone):\n" + "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
