"""Stage 6: verified pairs to models. In: database.db. Out: sparse/0 (the largest), sparse/1, ..., points.ply."""

import json
from collections.abc import Callable

from pipeline.mappers import MAPPERS, MapperOptions, MappingTask
from pipeline.mappers.models import read_models, refine_robustly, write_points
from pipeline.types import Model, Survey
from pipeline.workspace import Workspace, write_atomically


def reconstruct(
    survey: Survey,
    options: MapperOptions,
    seed: int,
    threads: int,
    work: Workspace,
    progress: Callable[[int], None],
) -> tuple[list[Model], list[str]]:
    """Models, largest first (none where nothing could be reconstructed), and notes for the report."""
    fixed = frozenset(camera_id for camera_id, camera in survey.cameras.items() if camera.known)
    task = MappingTask(
        database=work.database,
        images=survey.root,
        output=work.sparse,
        num_images=len(survey.photos),
        fixed_cameras=fixed,
        all_cameras_known=len(fixed) == len(survey.cameras),
        focals_known=all(camera.prior_focal for camera in survey.cameras.values()),
        seed=seed,
        threads=threads,
    )
    notes = MAPPERS[options.name](task, options, progress)
    if options.robust_scale:
        refine_robustly(work.sparse, task, options)
    write_points(work.sparse, work.points)
    write_atomically(work.mapping, json.dumps({"notes": notes}))
    return read_models(work.sparse), notes


def reconstructed(work: Workspace) -> tuple[list[Model], list[str]]:
    """What an earlier run reconstructed."""
    return read_models(work.sparse), json.loads(work.mapping.read_text())["notes"]
