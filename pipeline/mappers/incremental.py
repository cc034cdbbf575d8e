"""COLMAP's incremental mapper, started several times where one start is fragile.

With unknown focal lengths the first pair decides much: one bad start leaves 4 of 10 photographs registered. So small
collections with unknown intrinsics are mapped from several starts (COLMAP's own choice, then the strongest verified
pairs not yet tried) and the model with the most registered photographs, then the most observations, is kept.
"""

import shutil
from pathlib import Path

import pycolmap

from pipeline.mappers import MapperOptions, MappingTask, Progress
from pipeline.mappers.models import score, write_largest_first


def incremental(task: MappingTask, options: MapperOptions, progress: Progress) -> list[str]:
    """Models under task.output, largest first; returns notes for the report.

    A KeyboardInterrupt leaves task.output as it was, so that running again maps anew.
    """
    scratch = task.output.with_name(task.output.name + ".tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    best: list[pycolmap.Reconstruction] = []
    outcomes: list[str] = []
    for attempt, start in enumerate(_starts(task, options)):
        models = _map_once(task, options, scratch, attempt, start, progress)
        outcomes.append(f"{score(models[0])[0] if models else 0}/{score(models[0])[1] if models else 0}")
        if _score_all(models) > _score_all(best):
            best, chosen = models, attempt
        whole = bool(best) and best[0].num_reg_images() == task.num_images
        fragile = not task.all_cameras_known and task.num_images <= options.attempts_max_images
        if whole and not fragile:
            break
        if attempt + 1 >= options.attempts or (attempt >= 1 and task.num_images > options.attempts_max_images):
            break
    write_largest_first(best, task.output)
    shutil.rmtree(scratch, ignore_errors=True)
    if len(outcomes) < 2 or not best:
        return []
    return [
        f"mapped from {len(outcomes)} starts (registered/observations {', '.join(outcomes)}); kept start {chosen + 1}"
    ]


def _score_all(models: list[pycolmap.Reconstruction]) -> tuple[int, int]:
    return score(models[0]) if models else (0, 0)


def _starts(task: MappingTask, options: MapperOptions) -> list[tuple[int, int] | None]:
    """COLMAP's own choice of the initial pair, then the verified pairs with most inliers, each photograph at most
    twice (another start should be another place)."""
    with pycolmap.Database.open(task.database) as database:
        pair_ids, counts = database.read_two_view_geometry_num_inliers()
    pairs = [pycolmap.pair_id_to_image_pair(int(pair_id)) for pair_id in pair_ids]
    used: dict[int, int] = {}
    starts: list[tuple[int, int] | None] = [None]
    for _, (a, b) in sorted(zip(counts, pairs, strict=True), key=lambda item: (-int(item[0]), item[1])):
        if used.get(a, 0) < 2 and used.get(b, 0) < 2:
            starts.append((int(a), int(b)))
            used[a], used[b] = used.get(a, 0) + 1, used.get(b, 0) + 1
    return starts


def _map_once(
    task: MappingTask,
    options: MapperOptions,
    scratch: Path,
    attempt: int,
    start: tuple[int, int] | None,
    progress: Progress,
) -> list[pycolmap.Reconstruction]:
    """Models of one start, largest first."""
    settings = pycolmap.IncrementalPipelineOptions(
        random_seed=task.seed + attempt,
        num_threads=task.threads,
        min_model_size=options.min_model_size,
        ba_refine_principal_point=options.refine_principal_point,
        constant_cameras=set(task.fixed_cameras),
    )
    settings.mapper.init_min_tri_angle = options.init_min_tri_angle
    settings.mapper.init_min_num_inliers = options.init_min_num_inliers
    settings.mapper.abs_pose_min_num_inliers = options.abs_pose_min_num_inliers
    settings.mapper.filter_max_reproj_error = options.filter_max_reproj_error
    settings.triangulation.ignore_two_view_tracks = task.num_images > 2
    if start:
        settings.init_image_id1, settings.init_image_id2 = start
    folder = scratch / str(attempt)
    folder.mkdir(parents=True)
    registered = 0

    def count(by: int) -> None:
        nonlocal registered
        registered += by
        progress(min(registered, task.num_images))

    models = pycolmap.incremental_mapping(
        task.database,
        task.images,
        folder,
        settings,
        initial_image_pair_callback=lambda: count(2),
        next_image_callback=lambda: count(1),
    )
    return sorted(models.values(), key=score, reverse=True)
