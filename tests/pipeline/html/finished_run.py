"""A finished run with everything the report can show, and names that try to break out of it."""

import json
from dataclasses import asdict
from pathlib import Path

from pipeline.mappers.models import read_models, read_poses
from pipeline.recipe import load_recipe
from pipeline.stages.evaluate import evaluate
from pipeline.stages.report import report
from pipeline.stages.verify import VerifyOptions, read_two_views
from pipeline.types import Skipped, Survey
from tests.pipeline.synthetic_run import reconstruct, write_run

BREAKING_OUT = "x</script><img src=q onerror=window.broken=1>.png"
SCRIPT = "<script>window.broken=1<.png"
NAMES = ("0001.png", BREAKING_OUT, "a/wide angle.png", SCRIPT, "Straße – 東京.png", "{{ 7*7 }} & %{x}.png")


def finished_run(folder: Path) -> tuple[Path, dict]:
    """The run's output folder and its report, with the run's own model as the reference."""
    from datasets.cameras import Reference

    run = reconstruct(write_run(folder, NAMES))
    work, survey = run.work, run.survey
    skipped = (Skipped("</script><script>window.broken=1</script>.jpg", "truncated"), Skipped("notes.txt", "no image"))
    survey = Survey(survey.root, survey.photos, survey.cameras, skipped, ("a note with <b>markup</b>",))
    with work.stage("extract"), work.stage("match"):
        pass
    models = read_models(work.sparse)
    accuracy = evaluate(read_poses(models[0].path), Reference(run.poses))
    two_views = read_two_views(work, VerifyOptions.model_validate({}))
    made = report(
        load_recipe(), survey, {name: len(rows) for name, rows in run.seen.items()}, len(two_views),
        {"decision": "upright", "why": "asked for", "pairs": {}}, two_views, models, ["another note"],
        asdict(accuracy), "ab" * 32, work.sparse / "0", work,
    )  # fmt: skip
    return work.output, json.loads(json.dumps(made))
