"""The row of stages: photographs in, a COLMAP model and a report out. Read it as a table of contents."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from datasets.cameras import Reference
from desdis.errors import UserError
from pipeline.recipe import WHOLE_IMAGE, Recipe
from pipeline.screen import bar, summary
from pipeline.types import Detected, Image, Survey
from pipeline.workspace import Workspace, write_atomically

log = logging.getLogger("pipeline")


def run(
    recipe: Recipe,
    images: Path,
    output: Path,
    *,
    reference: Path | None = None,
    cameras: Path | None = None,
    masks: Path | None = None,
    overwrite: bool = False,
    strict: bool = False,
    console: Console | None = None,
    last: str = "report",
    html: bool = True,
    detect: Callable[[Image], Detected] | None = None,
) -> dict[str, Any]:
    """Reconstruct the photographs of a folder (or the frames of a video); returns the report.

    last="match" ends after the matches (for stereo benchmarks and exports) and returns an empty report;
    html=False leaves report.html out; detect finds the keypoints in place of the recipe's detector, and the same ones
    (benchmarks find them once for many methods). What an earlier run into the same output has done is not done again.
    Raises UserError for what the user can mend.
    """
    from datasets.scenes.reference import read_reference
    from pipeline.colmap_log import colmap_log_to
    from pipeline.matchers import MatcherOptions, match_pairs, together
    from pipeline.stages.extract import extract
    from pipeline.stages.match import match, sieve_note
    from pipeline.stages.orient import orient
    from pipeline.stages.pair import pair
    from pipeline.stages.survey import survey as survey_photos

    console = console or Console(quiet=True)
    device = compute_device(recipe.device)
    work = Workspace(output)
    _log_to(work.log)
    colmap_log_to(output / "logs")

    with bar(console, "survey", 0) as progress:
        survey, cost = work.measure(
            partial(
                survey_photos, images, recipe.images, cameras=cameras, masks=masks, strict=strict,
                workspace_dir=work.frames, progress=progress,
            )
        )  # fmt: skip
    if len(survey.photos) < 2:
        raise UserError(f"{images}: {len(survey.photos)} photographs can be used and at least two are needed")
    names = [photo.name for photo in survey.photos]
    known = read_reference(reference, names) if reference else None
    if known is not None and len(known.poses) < 2:
        raise UserError(f"{reference}: a pose of one of the photographs only; two are needed to compare anything")

    own_detect, describe, weights_sha256, max_ratio = chosen_methods(recipe, device)
    work.plan(_stage_options(recipe, survey, reference, weights_sha256, max_ratio), overwrite)
    work.record("survey", cost)
    write_atomically(work.recipe, recipe.to_yaml())
    log.info("%d photographs, %d skipped, recipe %s", len(names), len(survey.skipped), recipe.hash)

    with work.stage("extract"), bar(console, "extract", len(names)) as progress:
        described = partial(
            extract, survey, detect or own_detect, describe,
            max_size=recipe.images.max_size, work=work, threads=cpu_threads(recipe),
        )  # fmt: skip
        open_yet = recipe.orientation == "auto"
        ways = ("upright", "probe") if open_yet else (recipe.orientation,)
        keypoints = described(ways, progress=progress)
    with work.stage("pair"):
        pairs = pair(survey, recipe.pairs, known, work)
    decision = None
    if open_yet and describe is not None:
        with work.stage("orient"), bar(console, "orient", len(pairs)) as progress:
            options = MatcherOptions(max_ratio=max_ratio)
            matcher = partial(match_pairs, options=options, device=device)
            decision = orient(pairs, matcher, work, cpu_threads(recipe, device), progress)
        ways = decision.orientations
        if ways != ("upright",):
            with work.stage("extract"), bar(console, "extract both ways", len(names)) as progress:
                keypoints = described(ways, progress=progress)
    with work.stage("match"), bar(console, "match", len(pairs)) as progress:
        options = recipe.matcher.model_copy(update={"max_ratio": recipe.matcher.max_ratio or max_ratio})
        matcher = partial(match_pairs, options=options, device=device)
        either = decision.orientations if decision else ("oriented", "upright")
        decided = match(
            pairs, matcher, work, options.cache_mib, cpu_threads(recipe, device), progress, either, options.sieve_from,
            together(device),
        )  # fmt: skip
    if last == "match":
        return {}
    return model_from_matches(
        recipe, survey, keypoints, pairs, _orientation_report(recipe, decision, decided), known, work, console,
        weights_sha256=weights_sha256, reference=reference, notes=sieve_note(decided), html=html,
    )  # fmt: skip


def model_from_matches(
    recipe: Recipe,
    survey: Survey,
    keypoints: dict[str, int],
    pairs: list[tuple[str, str]],
    orientation: dict[str, Any],
    known: Reference | None,
    work: Workspace,
    console: Console,
    *,
    weights_sha256: str | None = None,
    reference: Path | None = None,
    notes: Sequence[str] = (),
    html: bool = True,
) -> dict[str, Any]:
    """The second half of the row, from features.h5 and matches.h5 in the run folder (ours or anybody's) to the report:
    verify, reconstruct, evaluate, report."""
    from pipeline.mappers.models import read_poses
    from pipeline.stages.evaluate import evaluate
    from pipeline.stages.reconstruct import reconstruct, reconstructed
    from pipeline.stages.report import report
    from pipeline.stages.verify import read_two_views, verify

    with work.stage("verify"), bar(console, "verify", len(pairs)) as progress:
        verify(survey, pairs, recipe.verify, recipe.seed, work, cpu_threads(recipe), progress)
        two_views = read_two_views(work, recipe.verify)
    if work.done("reconstruct"):
        models, mapping_notes = reconstructed(work)
    else:
        with work.stage("reconstruct"), bar(console, "reconstruct", len(survey.photos)) as progress:
            threads = 1 if recipe.deterministic else recipe.threads or -1
            models, mapping_notes = reconstruct(survey, recipe.mapper, recipe.seed, threads, work, progress)
    accuracy = None
    if known is not None:
        with work.stage("evaluate"):
            given = {item.name for item in (*survey.photos, *survey.skipped)}
            accuracy = asdict(evaluate(read_poses(models[0].path) if models else {}, known, given))
    with work.stage("report"):
        result = report(
            recipe, survey, keypoints, len(pairs), orientation, two_views, models, [*notes, *mapping_notes], accuracy,
            weights_sha256, reference, work,
        )  # fmt: skip
        if html:
            from pipeline.html import write_html

            write_html(work.output, result)
    summary(console, result, str(work.output))
    return result


def cpu_threads(recipe: Recipe, device: str = "cpu") -> int:
    """Threads for work that is done on the CPU; a GPU needs one to feed it."""
    return (recipe.threads or os.cpu_count() or 1) if device == "cpu" else 1


def chosen_methods(
    recipe: Recipe, device: str
) -> tuple[Callable[..., Any], Callable[..., np.ndarray] | None, str | None, float]:
    """The recipe's detector and descriptor, the hash of the weights, and the ratio that suits the descriptor."""
    from pipeline.descriptors import DESCRIPTORS
    from pipeline.detectors import load

    found = detector(recipe, device)
    if recipe.detector.name in WHOLE_IMAGE:
        return found.detect, None, found.weights_sha256, found.max_ratio
    Descriptor = load(DESCRIPTORS, recipe.descriptor.name)
    options = getattr(recipe.descriptor, recipe.descriptor.name, Descriptor.Options())
    descriptor = Descriptor(options, recipe.descriptor.weights, device)
    return found.detect, descriptor.describe, descriptor.weights_sha256, descriptor.max_ratio


def detector(recipe: Recipe, device: str) -> Any:
    """The recipe's detector (a pipeline.detectors.Detector; those that describe as well say more of themselves)."""
    from pipeline.detectors import DETECTORS, load

    Detector = load(DETECTORS, recipe.detector.name)
    options = getattr(recipe.detector, recipe.detector.name, Detector.Options())
    return Detector(options, recipe.detector.max_keypoints, device)


def orientations(recipe: Recipe) -> tuple[str, ...]:
    """Every way in which the recipe may describe."""
    return ("oriented", "upright") if recipe.orientation == "auto" else (recipe.orientation,)


def _orientation_report(recipe: Recipe, decision: Any, decided: dict[str, int]) -> dict[str, Any]:
    """decision: `stages.orient.Orientation`, or None where there was nothing to decide."""
    counts = {name: int(decided.get(name, 0)) for name in ("oriented", "upright")}
    if recipe.detector.name in WHOLE_IMAGE:
        return {"decision": "none", "why": f"{recipe.detector.name} describes without frames", "pairs": counts}
    if decision is None:
        return {"decision": recipe.orientation, "why": "asked for", "pairs": counts}
    if len(decision.orientations) == 1:
        return {"decision": decision.orientations[0], "why": decision.why, "pairs": counts}
    mostly = max(counts, key=counts.__getitem__)
    why = (
        f"{decision.why}; decided for each pair by its matches: {counts['upright']} pairs upright, "
        f"{counts['oriented']} oriented"
    )
    return {"decision": f"each pair, mostly {mostly}", "why": why, "pairs": counts}


def _stage_options(
    recipe: Recipe, survey: Survey, reference: Path | None, weights_sha256: str | None, max_ratio: float
) -> dict[str, dict[str, Any]]:
    """What each stage depends on: a change of any of it means that the stage and those below must run again.

    Weights count by their hash and the ratio by what is in effect: a name or a default may come to mean another."""
    flat = recipe.flat()

    def group(*prefixes: str) -> dict[str, Any]:
        return {key: value for key, value in flat.items() if key.startswith(prefixes)}

    method = recipe.detector.name, recipe.descriptor.name
    others = tuple(
        f"{family}.{name}." for family, chosen in zip(("detector", "descriptor"), method, strict=True)
        for name in _methods_with_options(getattr(recipe, family)) if name != chosen
    )  # fmt: skip
    features = {k: v for k, v in group("detector.", "descriptor.", "orientation").items() if not k.startswith(others)}
    return {
        "survey": {**group("images."), "photographs": survey.fingerprint},
        "extract": {**features, "weights_sha256": weights_sha256},
        "pair": {**group("pairs."), **({"reference": str(reference)} if "reference" in recipe.pairs.name else {})},
        "orient": {"max_ratio": max_ratio},
        "match": {
            **{k: v for k, v in group("matcher.").items() if k not in ("matcher.cache_mib", "matcher.block")},
            "matcher.max_ratio": recipe.matcher.max_ratio or max_ratio,
        },
        "verify": {**group("verify."), "seed": recipe.seed},
        "reconstruct": {**group("mapper."), "seed": recipe.seed, "deterministic": recipe.deterministic},
    }


def _methods_with_options(family: Any) -> list[str]:
    return [name for name in type(family).model_fields if name not in ("name", "weights", "max_keypoints")]


def compute_device(wanted: str) -> str:
    """The device to compute on. Raises UserError where a GPU is asked for and there is none."""
    if wanted == "cpu":
        return "cpu"
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not torch.cuda.is_available():
        raise UserError(f"--device {wanted}: torch finds no GPU here; use --device cpu")
    return wanted


def _log_to(path: Path) -> None:
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for old in log.handlers[:]:
        log.removeHandler(old)
        old.close()
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
