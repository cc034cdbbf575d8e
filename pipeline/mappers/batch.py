"""COLMAP's global (GLOMAP) and hierarchical mappers.

Neither can be cancelled from inside (a signal is seen only when they are done), so each runs in a process of its own
that ends with the program.
"""

import multiprocessing
from pathlib import Path

import pycolmap

from pipeline.mappers import MapperOptions, MappingTask
from pipeline.mappers.models import write_largest_first


def global_(task: MappingTask, options: MapperOptions) -> list[str]:
    _in_child(_run_global, task, options)
    return ["global mapper (GLOMAP)"]


def hierarchical(task: MappingTask, options: MapperOptions) -> list[str]:
    _in_child(_run_hierarchical, task, options)
    return ["hierarchical mapper"]


def _in_child(function, task: MappingTask, options: MapperOptions) -> None:
    child = multiprocessing.get_context("spawn").Process(target=function, args=(task, options))
    child.start()
    try:
        child.join()
    finally:
        child.kill()
        child.join()
    if child.exitcode:
        raise RuntimeError(f"the mapper's process ended with status {child.exitcode}; see run.log")
    if not task.output.exists():
        task.output.mkdir()


def _run_global(task: MappingTask, options: MapperOptions) -> None:
    if not task.all_cameras_known:
        pycolmap.calibrate_view_graph(task.database)
    settings = pycolmap.GlobalPipelineOptions(
        random_seed=task.seed, num_threads=task.threads, min_model_size=options.min_model_size
    )
    if task.all_cameras_known:
        settings.mapper.bundle_adjustment.refine_focal_length = False
        settings.mapper.bundle_adjustment.refine_extra_params = False
    _collect(pycolmap.global_mapping, task, settings)


def _run_hierarchical(task: MappingTask, options: MapperOptions) -> None:
    settings = pycolmap.HierarchicalPipelineOptions()
    inner = settings.incremental_options
    inner.random_seed, inner.num_threads, inner.min_model_size = task.seed, task.threads, options.min_model_size
    inner.constant_cameras = set(task.fixed_cameras)
    _collect(pycolmap.hierarchical_mapping, task, settings)


def _collect(mapping, task: MappingTask, settings) -> None:
    scratch: Path = task.output.with_name(task.output.name + ".tmp")
    scratch.mkdir(exist_ok=True)
    models = mapping(task.database, task.images, scratch, settings)
    write_largest_first(list(models.values()), task.output)
    import shutil

    shutil.rmtree(scratch)
