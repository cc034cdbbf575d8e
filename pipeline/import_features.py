"""Reconstruct from anybody's features: `python -m pipeline.import_features --features FILE.h5 --images DIR`.

Keypoints and descriptors (and, with --matches, matches) of hloc's or IMC's files go through this program's matching,
verification, mapping and evaluation, so that every method is measured by the same yardstick.
"""

import argparse
import hashlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from desdis.errors import command
from pipeline.types import Matches, Skipped


def import_features(
    recipe: Any,
    features: Path,
    images: Path,
    output: Path,
    *,
    matches: Path | None = None,
    reference: Path | None = None,
    cameras: Path | None = None,
    overwrite: bool = False,
    console: Any = None,
) -> dict[str, Any]:
    """Reconstruct photographs from given features; returns the report. Its options of detector, descriptor and
    orientation (and, with matches, of pairs and matcher) have no meaning. Photographs without features are listed as
    skipped. Raises UserError for what the files lack or have wrong."""
    from rich.console import Console

    from datasets.scenes.reference import read_reference
    from pipeline.colmap_log import colmap_log_to
    from pipeline.imports import read_features, read_matches
    from pipeline.run import model_from_matches
    from pipeline.screen import bar
    from pipeline.stages.pair import pair
    from pipeline.stages.survey import survey as survey_photos
    from pipeline.workspace import Workspace, write_atomically

    console = console or Console(quiet=True)
    work = Workspace(output)
    colmap_log_to(output / "logs")
    survey, cost = work.measure(
        lambda: survey_photos(images, recipe.images, cameras=cameras, workspace_dir=work.frames)
    )
    theirs = read_features(features, survey.photos, descriptors=matches is None)
    without = [photo.name for photo in survey.photos if photo.name not in theirs.names]
    survey = replace(
        survey,
        photos=tuple(photo for photo in survey.photos if photo.name in theirs.names),
        skipped=survey.skipped + tuple(Skipped(name, f"no features in {features}") for name in without),
    )
    names = [photo.name for photo in survey.photos]
    known = read_reference(reference, names) if reference else None
    work.plan(_options(recipe, survey.fingerprint, names, features, matches), overwrite)
    work.record("survey", cost)
    write_atomically(work.recipe, recipe.to_yaml())
    with work.stage("extract"):
        counts = _copy_features(theirs, work)
    with work.stage("pair"):
        found = (
            sorted(read_matches(matches, survey.photos).matches(counts), key=lambda item: item[0]) if matches else []
        )
        pairs = [names for names, _ in found] or pair(survey, recipe.pairs, known, work)
        write_atomically(work.pairs, "\n".join(f"{a} {b}" for a, b in pairs))
    notes = [f"features from {features}" + (f", matches from {matches}" if matches else "")]
    with work.stage("match"), bar(console, "match", len(pairs)) as progress:
        if matches:
            _copy_matches(found, counts, work)
        else:
            notes += _match(recipe, pairs, work, progress)
    if theirs.strangers:
        notes.append(
            f"{len(theirs.strangers)} entries of {features} belong to no photograph: {theirs.strangers[0]} ..."
        )
    orientation = {"decision": "none", "why": "features were given", "pairs": {"oriented": len(pairs), "upright": 0}}
    return model_from_matches(
        recipe, survey, counts, pairs, orientation, known, work, console, reference=reference, notes=notes
    )


def _options(
    recipe: Any, fingerprint: str, names: list[str], features: Path, matches: Path | None
) -> dict[str, dict[str, Any]]:
    """What each stage depends on: the given files by their content."""
    flat = recipe.flat()

    def group(*prefixes: str) -> dict[str, Any]:
        return {key: value for key, value in flat.items() if key.startswith(prefixes)}

    files = sorted(features.glob("*.h5")) if features.is_dir() else [features]
    content = {"features": _hash(files), "names": names}
    return {
        "survey": {**group("images."), "photographs": fingerprint},
        "extract": content,
        "pair": {},
        "match": {**group("matcher.", "pairs."), "matches": _hash([matches] if matches else [])},
        "verify": {**group("verify."), "seed": recipe.seed},
        "reconstruct": {**group("mapper."), "seed": recipe.seed, "deterministic": recipe.deterministic},
    }


def _hash(files: list[Path]) -> str:
    total = hashlib.sha256()
    for file in files:
        if file.is_file():
            with open(file, "rb") as stream:
                total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def _copy_features(theirs: Any, work: Any) -> dict[str, int]:
    """Their features into features.h5; returns keypoints by photograph."""
    from pipeline.files import features as files

    counts: dict[str, int] = {}
    with files.appending(work.features, work.provenance("extract")) as file:
        for name, found in theirs.features():
            if not files.has(file, name):
                files.write(file, name, found)
            counts[name] = len(found.lafs)
    return counts


def _copy_matches(found: list[tuple[tuple[str, str], Matches]], counts: dict[str, int], work: Any) -> None:
    """Their matches into matches.h5."""
    from pipeline.files import matches as files

    with files.appending(work.matches, work.provenance("match")) as file:
        for (a, b), matches in found:
            if not files.has(file, a, b):
                files.write(file, a, b, matches, counts[a])


def _match(recipe: Any, pairs: list[tuple[str, str]], work: Any, progress: Any) -> list[str]:
    """Match all the pairs; returns notes for the report."""
    from functools import partial

    from pipeline.matchers import match_pairs, together
    from pipeline.run import compute_device, cpu_threads
    from pipeline.stages.match import match, sieve_note

    device = compute_device(recipe.device)
    matcher = partial(match_pairs, options=recipe.matcher, device=device)
    threads, sieve_from = cpu_threads(recipe, device), recipe.matcher.sieve_from
    decided = match(
        pairs, matcher, work, recipe.matcher.cache_mib, threads, progress, sieve_from=sieve_from,
        together=together(device),
    )  # fmt: skip
    return sieve_note(decided)


@command
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.import_features", description=__doc__)
    parser.add_argument("--features", type=Path, required=True, help="hloc's features.h5, or IMC's folder")
    parser.add_argument("--matches", type=Path, help="hloc's or IMC's matches.h5 (default: match here)")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="the photographs")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="result folder")
    parser.add_argument("--config", type=Path, metavar="RECIPE", help="YAML recipe")
    parser.add_argument("--reference", type=Path, metavar="PATH", help="known poses, to be evaluated against")
    parser.add_argument("--cameras", type=Path, metavar="PATH", help="known intrinsics, which then stay fixed")
    parser.add_argument("--overwrite", action="store_true", help="redo stages whose input changed, and what follows")
    parser.add_argument("options", nargs="*", metavar="KEY=VALUE", help="options as of run_reconstruction.py")
    given = parser.parse_intermixed_args(arguments)
    from rich.console import Console

    from pipeline.recipe import load_recipe

    result = import_features(
        load_recipe(given.config, given.options),
        given.features,
        given.images,
        given.output,
        matches=given.matches,
        reference=given.reference,
        cameras=given.cameras,
        overwrite=given.overwrite,
        console=Console(highlight=False),
    )
    return 0 if result["models"] else 3


if __name__ == "__main__":
    sys.exit(main())
