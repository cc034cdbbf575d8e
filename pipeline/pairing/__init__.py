"""Pairing: which photographs are matched. One function a method.

(Retrieval by global descriptors will be one more file and one more line here.)
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from datasets.cameras import Reference
from pipeline.pairing.exhaustive import exhaustive
from pipeline.pairing.from_file import from_file
from pipeline.pairing.from_reference import from_reference
from pipeline.pairing.sequential import sequential

Pair = tuple[str, str]


class PairsOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Literal["exhaustive", "sequential", "from_file", "from_reference"] = Field(
        default="exhaustive", description="which photographs are matched with which"
    )
    overlap: int = Field(default=10, ge=1, description="sequential: each photograph with its next so many")
    quadratic: bool = Field(default=True, description="sequential: also with those 1, 2, 4, 8, ... further on")
    loop_step: int = Field(
        default=5, ge=0, description="sequential: every so many-th photograph with all such (0 = never)"
    )
    file: Path | None = Field(default=None, description="from_file: text file, two names a line")
    max_angle: float = Field(
        default=45.0, gt=0, le=180, description="from_reference: largest angle between viewing directions"
    )
    max_neighbours: int = Field(
        default=20, ge=1, description="from_reference: nearest cameras taken for each photograph"
    )


PAIRINGS: dict[str, Callable[[list[str], PairsOptions, Reference | None], list[Pair]]] = {
    "exhaustive": lambda names, options, reference: exhaustive(names),
    "sequential": lambda names, options, reference: sequential(
        names, options.overlap, options.quadratic, options.loop_step
    ),
    "from_file": lambda names, options, reference: from_file(names, options.file),
    "from_reference": lambda names, options, reference: from_reference(
        names, reference, options.max_angle, options.max_neighbours
    ),
}
