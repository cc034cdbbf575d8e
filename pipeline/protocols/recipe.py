"""A benchmark as YAML: which scenes, which methods, which seeds, and what all of them share.

A method may say how features are found, described and matched, and nothing else: photographs, keypoint budget, pairs,
verification, mapper and seeds are the same for all. `{data}` and `{weights}` in paths stand for the folders of the
photograph sets and of weights.
"""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from desdis.errors import UserError

# What a method may set. Everything else decides what is asked, not who answers.
METHOD_KEYS = ("detector", "descriptor", "orientation", "matcher")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ImcOptions(_Strict):
    """How a scene of the Image Matching Challenge 2020/2021 is scored."""

    tasks: tuple[Literal["stereo", "multiview"], ...] = Field(default=("stereo", "multiview"), min_length=1)
    covisibility: float = Field(default=0.1, ge=0, lt=1, description="stereo: pairs that count for the score")
    visible: int = Field(default=100, ge=0, description="multiview: shared 3D points above which a pair is matched")
    bags: tuple[int, ...] = Field(default=(5, 10, 25), description="multiview: sizes of bags")
    max_bags: int = Field(
        default=1000, ge=1, description="multiview: bags of a size that are reconstructed, from the first on"
    )
    geometry: Literal["magsac", "ransac"] = Field(
        default="magsac", description="stereo: OpenCV's USAC MAGSAC++ or RANSAC"
    )
    threshold: float = Field(
        default=0.75, gt=0, le=10, description="stereo: inlier distance to the epipolar line, pixels"
    )
    confidence: float = Field(default=0.999999, gt=0, lt=1, description="stereo: of the robust estimation")
    max_iterations: int = Field(
        default=100_000, ge=100, description="stereo: the challenge's bound for its own estimator"
    )


class Scene(_Strict):
    name: str = Field(pattern=r"^[\w.-]+$", description="name in tables and folders")
    kind: Literal["multiview", "pairs", "homographies", "homogr_pairs", "imc"] = Field(
        default="multiview",
        description="photographs of one place; image pairs with poses (SuperGlue's list); sequences with H_1_k; "
        "pairs with hand-made points; a set_100 folder of the Image Matching Challenge",
    )
    images: str = Field(description="folder of photographs (or of sequences)")
    reference: str | None = Field(default=None, description="true poses: a folder or file that --reference takes")
    cameras: str | None = Field(default=None, description="known intrinsics: what --cameras takes; none = unknown")
    pairs: str | None = Field(default=None, description="pairs: the list with poses")
    stereo: bool = Field(default=False, description="multiview: also score the relative pose of every pair by itself")
    turn: float | Literal["none", "quarters"] = Field(
        default="none", description="turn every photograph: by random quarter turns, or by so many degrees"
    )
    imc: ImcOptions = Field(default=ImcOptions(), description="imc: tasks, bags and the robust estimator")
    recipe: dict[str, Any] = Field(default_factory=dict, description="options of the reconstruction in this scene")
    methods: tuple[str, ...] | None = Field(default=None, description="only these methods run here (default: all)")

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> "Scene":
        if self.kind == "pairs" and self.pairs is None:
            raise ValueError("a scene of kind pairs needs `pairs`, the list with poses")
        if self.kind != "multiview" and (self.turn != "none" or self.stereo):
            raise ValueError("`turn` and `stereo` are for scenes of kind multiview")
        if (self.stereo or self.turn != "none") and self.reference is None:
            raise ValueError("`stereo` and `turn` need a `reference`")
        return self


class Method(_Strict):
    name: str = Field(pattern=r"^[\w.-]+$", description="name in tables and folders")
    pipeline: Literal["ours", "colmap"] = Field(
        default="ours", description="ours, or pycolmap's own SIFT, matching and mapping as a whole (multiview only)"
    )
    recipe: dict[str, Any] = Field(default_factory=dict, description="detector, descriptor, orientation, matcher")

    @model_validator(mode="after")
    def _says_how_and_not_what(self) -> "Method":
        for key in self.recipe:
            if key not in METHOD_KEYS:
                raise ValueError(f"{key} must be the same for all methods; a method may set {', '.join(METHOD_KEYS)}")
        if "max_keypoints" in self.recipe.get("detector", {}):
            raise ValueError("detector.max_keypoints is the budget of all methods; set it in `recipe` or in a scene")
        if self.pipeline == "colmap" and self.recipe:
            raise ValueError("pycolmap's own pipeline takes no recipe")
        return self


class Benchmark(_Strict):
    """One benchmark, described completely."""

    title: str
    text: str = Field(default="", description="what is asked, for the report")
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    baseline: str | None = Field(default=None, description="method that the others are compared with, pair by pair")
    timeout_minutes: float = Field(
        default=120, gt=0, description="a scene x method that takes longer is stopped: a failure"
    )
    eth: bool = Field(default=False, description="add the table of the local-feature-evaluation benchmark")
    recipe: dict[str, Any] = Field(default_factory=dict, description="options of the reconstruction in all scenes")
    scenes: tuple[Scene, ...] = Field(min_length=1)
    methods: tuple[Method, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_names(self) -> "Benchmark":
        for what, items in (("scene", self.scenes), ("method", self.methods)):
            names = [item.name for item in items]
            if len(set(names)) < len(names):
                raise ValueError(f"two {what}s have one name")
        if self.baseline is not None and self.baseline not in {m.name for m in self.methods}:
            raise ValueError(f"baseline {self.baseline} is not one of the methods")
        for scene in self.scenes:
            for name in scene.methods or ():
                if name not in {m.name for m in self.methods}:
                    raise ValueError(f"scene {scene.name}: {name} is not one of the methods")
        return self

    def asked(self, scene: Scene) -> list[Method]:
        """The methods that run in a scene; pycolmap's own pipeline reconstructs and is asked for nothing else."""
        return [
            method
            for method in self.methods
            if (scene.methods is None or method.name in scene.methods)
            and (method.pipeline == "ours" or scene.kind == "multiview")
        ]

    def options(self, scene: Scene, method: Method, seed: int) -> dict[str, Any]:
        """The reconstruction's recipe for one cell, as nested plain values."""
        return merged(self.recipe, scene.recipe, method.recipe, {"seed": seed})


def load_benchmark(path: Path, data: Path, weights: Path) -> Benchmark:
    """Read and check a benchmark's YAML. Raises UserError that names the file and the entry."""
    if not path.is_file():
        raise UserError(f"{path}: the benchmark does not exist")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: a benchmark is a table with title, seeds, scenes and methods")
    try:
        return Benchmark.model_validate(_filled(values, {"{data}": str(data), "{weights}": str(weights)}))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}") from None


def missing_files(options: Any) -> list[str]:
    """Weights files that a method names and that are not there."""
    return [name for name in _weights(options) if Path(name).suffix and not Path(name).is_file()]


def weights_files(options: Any) -> list[Path]:
    """Weights files that a method names and that are there, those that ship with the program by their names."""
    from desdis.checkpoints import WEIGHTS

    places = [path for name in _weights(options) for path in (Path(name), WEIGHTS / f"{name}.safetensors")]
    return [path for path in places if path.is_file()]


def _weights(options: Any) -> list[str]:
    """Values of keys that end in `weights`, at any depth."""
    if not isinstance(options, dict):
        return []
    own = [value for key, value in options.items() if key.endswith("weights") and isinstance(value, str)]
    return own + [name for value in options.values() for name in _weights(value)]


def merged(*tables: dict[str, Any]) -> dict[str, Any]:
    """Nested tables laid over each other, the later ones on top."""
    result: dict[str, Any] = {}
    for table in tables:
        for key, value in table.items():
            below = result.get(key)
            result[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def _filled(value: Any, words: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, words) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, words) for item in value]
    if isinstance(value, str):
        for word, text in words.items():
            value = value.replace(word, text)
    return value
