"""Every option of a reconstruction: typed, with default, range and one line of text.

A recipe comes from a YAML file, from KEY=VALUE words on the command line, or from both (the words win). Methods of a
family bring their options with them: `detector.dog.edge_threshold` is `Options.edge_threshold` of `detectors/dog.py`.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from desdis.errors import UserError
from pipeline.descriptors import DESCRIPTORS
from pipeline.detectors import DETECTORS, load
from pipeline.mappers import MapperOptions
from pipeline.matchers import MatcherOptions
from pipeline.pairing import PairsOptions
from pipeline.stages.survey import ImagesOptions
from pipeline.stages.verify import VerifyOptions


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _DetectorBase(_Strict):
    name: Literal["dog", "keynet", "aliked", "xfeat"] = Field(default="dog", description="how keypoints are found")
    max_keypoints: int = Field(default=8000, ge=8, description="keypoints (places) kept in a photograph")


class _DescriptorBase(_Strict):
    name: Literal[
        "desdis", "hardnet", "sosnet", "hynet", "tfeat", "mkd", "rootsift", "sift", "aliked", "xfeat"
    ] = Field(default="desdis", description="how keypoints are described")  # fmt: skip
    weights: str | None = Field(
        default=None, description="a shipped name such as desdis-32, official/desdis-32, or a file"
    )


def _with_methods(base: type[BaseModel], name: str, registry: dict[str, str]) -> Any:
    """`base` with one more field for every method of the family that has options of its own."""
    fields: dict[str, Any] = {}
    for method in registry:
        options = load(registry, method).Options
        if options.model_fields:
            fields[method] = (options, Field(default_factory=options, description=f"options of {method}"))
    return create_model(name, __base__=base, **fields)


DetectorOptions = _with_methods(_DetectorBase, "DetectorOptions", DETECTORS)
DescriptorOptions = _with_methods(_DescriptorBase, "DescriptorOptions", DESCRIPTORS)

WHOLE_IMAGE = ("aliked", "xfeat")  # methods that detect and describe in one


class Recipe(_Strict):
    """One reconstruction, described completely."""

    images: ImagesOptions = Field(default_factory=ImagesOptions)
    detector: DetectorOptions = Field(default_factory=DetectorOptions)  # type: ignore[valid-type]
    descriptor: DescriptorOptions = Field(default_factory=DescriptorOptions)  # type: ignore[valid-type]
    orientation: Literal["auto", "oriented", "upright"] = Field(
        default="auto",
        description="angle of the frames: the gradient's, the photograph's, or decided from the photographs",
    )
    pairs: PairsOptions = Field(default_factory=PairsOptions)
    matcher: MatcherOptions = Field(default_factory=MatcherOptions)
    verify: VerifyOptions = Field(default_factory=VerifyOptions)
    mapper: MapperOptions = Field(default_factory=MapperOptions)
    seed: int = Field(default=0, ge=0, lt=2**31, description="the one seed of everything random")
    deterministic: bool = Field(default=False, description="bit-identical results (one thread in bundle adjustment)")
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")
    threads: int = Field(default=0, ge=0, description="CPU threads (0 = all cores)")

    @model_validator(mode="after")
    def _whole_image_methods_describe_themselves(self) -> "Recipe":
        detector, descriptor = self.detector.name, self.descriptor.name
        if detector != descriptor and (detector in WHOLE_IMAGE or descriptor in WHOLE_IMAGE):
            whole = detector if detector in WHOLE_IMAGE else descriptor
            raise ValueError(f"{whole} detects and describes in one: set detector.name={whole} descriptor.name={whole}")
        if detector in WHOLE_IMAGE and self.descriptor.weights:
            raise ValueError(f"{detector} has one weights file: give it as detector.{detector}.weights")
        return self

    def flat(self) -> dict[str, Any]:
        """Every option by its dotted name, as plain JSON values."""
        return dict(_flatten(self.model_dump(mode="json")))

    @property
    def hash(self) -> str:
        return hashlib.sha256(json.dumps(self.flat(), sort_keys=True).encode()).hexdigest()

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load_recipe(path: Path | None = None, assignments: list[str] | None = None) -> Recipe:
    """A recipe from a YAML file (or the defaults) and KEY=VALUE words.

    Raises UserError that names the key, the value and what is allowed.
    """
    values: dict[str, Any] = {}
    if path is not None:
        if not path.is_file():
            raise UserError(f"{path}: the recipe does not exist")
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except yaml.YAMLError as error:
            raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(values, dict):
            raise UserError(f"{path}: a recipe is a table of options, such as 'seed: 1'")
    for word in assignments or []:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise UserError(f"{word!r}: options are given as KEY=VALUE, such as detector.max_keypoints=2048")
        _assign(values, key, text)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise UserError(_explain(error)) from None


def options_table() -> Iterator[tuple[str, str, str]]:
    """(key, default, description) of every option, in the recipe's order."""
    yield from _describe(Recipe, "")


def _describe(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _describe(kind, f"{prefix}{name}.")
        else:
            choices = getattr(kind, "__args__", ()) if getattr(kind, "__origin__", None) is Literal else ()
            text = field.description or ""
            text += f" ({' | '.join(map(str, choices))})" if choices else ""
            yield f"{prefix}{name}", _shown(field.get_default(call_default_factory=True)), text


def _shown(value: Any) -> str:
    return "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _assign(values: dict[str, Any], key: str, text: str) -> None:
    *groups, last = key.split(".")
    for group in groups:
        values = values.setdefault(group, {})
        if not isinstance(values, dict):
            raise UserError(f"{key}: {group} is a single option, not a group")
    try:
        values[last] = yaml.safe_load(text) if text else None
    except yaml.YAMLError:
        values[last] = text


def _flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = [name for name, _, _ in options_table()]
        import difflib

        close = difflib.get_close_matches(key, known, n=1)
        return f"{key}: there is no such option" + (f"; did you mean {close[0]}?" if close else "; see --help")
    message = first["msg"].removeprefix("Value error, ")
    return f"{key}={first['input']}: {message[0].lower()}{message[1:]}" if key else message
