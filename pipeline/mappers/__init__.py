"""Mappers: from verified pairs to models, each a thin door to one of pycolmap's. One function a method."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class MapperOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Literal["incremental", "global", "hierarchical"] = Field(
        default="incremental", description="how models are built from verified pairs"
    )
    attempts: int = Field(
        default=8, ge=1, le=50, description="incremental: most starts tried where a model is small or its start unsure"
    )
    attempts_max_images: int = Field(
        default=60, ge=0, description="incremental: above so many photographs one good start is enough"
    )
    min_model_size: int = Field(default=3, ge=2, description="smallest model kept, in images")
    init_min_tri_angle: float = Field(
        default=16.0, gt=0, le=90, description="incremental: degrees between the first two views"
    )
    init_min_num_inliers: int = Field(default=100, ge=8, description="incremental: matches between the first two views")
    abs_pose_min_num_inliers: int = Field(
        default=30, ge=6, description="incremental: 2D-3D matches to register a photograph"
    )
    filter_max_reproj_error: float = Field(
        default=2.0, gt=0, description="points with a larger error in pixels are dropped"
    )
    robust_scale: float = Field(
        default=0.5, ge=0, description="pixels; Cauchy loss of a last bundle adjustment (0 = none)"
    )
    two_view_points: bool = Field(
        default=False, description="incremental: keep points that only two of three or more photographs see"
    )
    refine_principal_point: bool = Field(
        default=False, description="also refine the principal point of unknown cameras"
    )


@dataclass(frozen=True)
class MappingTask:
    """What a mapper works on. `fixed_cameras` are COLMAP camera ids whose intrinsics are known and stay fixed."""

    database: Path
    images: Path
    output: Path  # models are written to output/0, output/1, ...
    num_images: int
    fixed_cameras: frozenset[int]
    all_cameras_known: bool
    focals_known: bool  # calibrated, or from EXIF
    seed: int
    threads: int  # -1 = all


Progress = Callable[[int], None]


def map_incremental(task: MappingTask, options: MapperOptions, progress: Progress) -> list[str]:
    """Models under task.output, largest first; returns notes for the report."""
    from pipeline.mappers.incremental import incremental

    return incremental(task, options, progress)


def map_global(task: MappingTask, options: MapperOptions, progress: Progress) -> list[str]:
    from pipeline.mappers.batch import global_

    return global_(task, options)


def map_hierarchical(task: MappingTask, options: MapperOptions, progress: Progress) -> list[str]:
    from pipeline.mappers.batch import hierarchical

    return hierarchical(task, options)


MAPPERS: dict[str, Callable[[MappingTask, MapperOptions, Progress], list[str]]] = {
    "incremental": map_incremental,
    "global": map_global,
    "hierarchical": map_hierarchical,
}
