"""How well photographs are localised that a model has not seen: `python -m pipeline.benchmark_localization SCENE ...`.

A scene is a folder with `images/` and `cameras/` (known poses and intrinsics). Two photographs are held out, a third
and two thirds along; the rest is reconstructed with known intrinsics, the two are localised, and their poses compared
with the reference after the model is laid on it by its own photographs (pipeline.localize.errors). Prints a table in
Markdown.
"""

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np

from desdis.errors import UserError, command


def held_out(names: list[str]) -> list[str]:
    """The two queries of a scene of at least six photographs."""
    if len(names) < 6:
        raise UserError(f"{len(names)} photographs are too few to hold two out")
    return [names[len(names) // 3], names[2 * len(names) // 3]]


def run_scene(scene: Path, output: Path, seed: int, options: list[str]) -> dict[str, dict[str, float]]:
    """Errors of the two queries (see pipeline.localize.errors), with their inliers."""
    from datasets.scenes.reference import read_reference
    from pipeline.localize import errors, localize
    from pipeline.mappers.models import read_poses
    from pipeline.recipe import load_recipe
    from pipeline.run import run

    names = sorted(path.name for path in (scene / "images").iterdir())
    queries = held_out(names)
    for folder, members in (("database", sorted(set(names) - set(queries))), ("queries", queries)):
        shutil.rmtree(output / folder, ignore_errors=True)
        (output / folder).mkdir(parents=True)
        for name in members:
            (output / folder / name).symlink_to((scene / "images" / name).resolve())
    cameras = scene / "cameras"
    recipe = load_recipe(None, [*options, f"seed={seed}"])
    run(recipe, output / "database", output / "run", cameras=cameras, overwrite=True)
    shutil.rmtree(output / "localized", ignore_errors=True)
    found = localize(output / "run", output / "queries", output / "localized", cameras=cameras, device=recipe.device)
    measured = errors(found, read_poses(output / "run" / "sparse" / "0"), read_reference(cameras, names))
    return {query.name: {**measured[query.name], "inliers": query.inliers} for query in found}


@command
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.benchmark_localization", description=__doc__)
    parser.add_argument("scenes", nargs="+", type=Path, metavar="SCENE", help="folder with images/ and cameras/")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/localization"), metavar="DIR")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds (0)")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="options as of run_reconstruction.py")
    given = parser.parse_args(arguments)
    print("| scene | held out | rotation error, degrees | centre error, % of the camera spread | inliers |")
    print("| --- | --- | --- | --- | --- |")
    everything: list[dict[str, float]] = []
    for scene in given.scenes:
        for seed in given.seeds:
            output = given.output / scene.resolve().name / f"seed-{seed}"
            for name, error in run_scene(scene, output, seed, given.set).items():
                everything.append(error)
                print(
                    f"| {scene.resolve().name}, seed {seed} | {name} | {error['rotation_deg']:.3f} | "
                    f"{error['centre_percent']:.3f} | {error['inliers']:.0f} |",
                    flush=True,
                )
    rotation, centre = (np.median([error[key] for error in everything]) for key in ("rotation_deg", "centre_percent"))
    print(f"| median | {len(everything)} poses | {rotation:.3f} | {centre:.3f} | |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
