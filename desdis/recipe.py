"""What a training is asked to do: one flat table of options, from a file of `key: value` lines and KEY=VALUE words.

The file is YAML of the plainest kind (no nesting), read here in a few lines, so that training needs no YAML library.
"""

import dataclasses
import difflib
import re
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import get_type_hints

import torch

from desdis.augment import Augmentation, option
from desdis.errors import UserError


@dataclass(frozen=True)
class Recipe(Augmentation):
    """A training; the inherited options are the augmentation's."""

    # what
    output: str = option("runs/train", "folder for the log, the state and the weights")
    patches: str = option("", "folder of the training patch set, or several joined by +")
    validation: str = option("", "folders of validation sets, joined by +; empty: none, the last weights are kept")
    student: str = option("desdis-32", "network: desdis-WIDTH, hardnet, sosnet or hynet")
    start: str = option("", "weights to start from, by name or file; empty: from scratch")
    # the teacher and how it is listened to
    teacher: str = option("official/desdis-32", "frozen teacher by name or file, several joined by +; empty: none")
    teacher_sees: str = option(
        "same", "the student's patches; only turned; or clean", among=("same", "turned", "clean")
    )
    regulariser: float = option(3.0, "lambda, the weight of the teacher-student regulariser", 0)
    regulariser_warmup: int = option(0, "steps over which lambda rises from 0", 0)
    measure: str = option("distance", "what the regulariser compares", among=("distance", "squared", "cosine"))
    held: str = option("hardest", "negatives held: the student's hardest ...", among=("hardest", "teachers", "all"))
    imitation: float = option(0.0, "weight of holding the descriptors themselves to the teacher's", 0)
    imitation_end: float = option(1.0, "share of the training after which imitation has faded to 0", 0, 1)
    imitated: str = option(
        "own", "whose descriptor of the teacher: its own, its partner's or the mean", among=("own", "partner", "mean")
    )
    # the triplet loss
    triplet: str = option(
        "hardnet",
        "form; as published, sosnet has second_order=1, hynet margin=1.2 four_ways=true norm_agreement=0.1",
        among=("hardnet", "sosnet", "hynet"),
    )
    triplet_weight: float = option(1.0, "weight of the triplet loss; 0 leaves imitation alone", 0)
    margin: float = option(1.0, "margin of the triplet loss", 0)
    four_ways: bool = option(False, "negatives also between two anchors and between two positives")
    contrast: float = option(0.0, "weight of the cross entropy over all negatives, beside the triplet loss", 0)
    temperature: float = option(0.07, "of the cross entropy", 1e-3)
    second_order: float = option(0.0, "weight of SOSNet's second-order term", 0)
    norm_agreement: float = option(0.0, "weight of HyNet's term on the norms", 0)
    decorrelation: float = option(0.0, "weight of the correlation between descriptor entries", 0)
    # the batches
    batch: int = option(1024, "pairs a batch, on all devices together", 2)
    chunk: int = option(1, "points of one scene that come together; large: harder negatives", 1)
    hard_views: int = option(1, "of so many random pairs of a point the one with the largest view angle is taken", 1)
    upright: float = option(0.0, "share of pairs taken from the upright patches", 0, 1)
    false_reach: float = option(1.0, "points nearer than this many patch half-widths are no negatives; 0: off", 0)
    # the optimiser
    steps: int = option(10000, "length of the training and of its schedule", 1)
    learning_rate: float = option(2e-3, "AdamW's, at its highest", 0)
    steady: float = option(0.0, "share of the training before the learning rate begins to fall; 1: it never does", 0, 1)
    schedule: str = option("cosine", "how it falls to 0 at the end", among=("cosine", "linear"))
    warmup: int = option(200, "steps over which the learning rate rises", 0)
    weight_decay: float = option(1e-4, "AdamW's", 0)
    average: float = option(0.999, "decay of the running average of the weights, which is what is kept; 0: none", 0, 1)
    # the machine
    precision: str = option("float32", "arithmetic of the convolutions", among=("float32", "bfloat16"))
    device: str = option("auto", "cpu, cuda, ... or auto")
    seed: int = option(0, "of everything random", 0)
    log_every: int = option(50, "steps between lines of the log", 1)
    validate_every: int = option(1000, "steps between validations", 1)
    save_every: int = option(500, "steps between saved states", 1)


def mixed(recipe: Recipe, device: torch.device):
    """A context with the convolutions in bfloat16, where asked for; weights, statistics and loss stay float32."""
    return torch.autocast(device.type, torch.bfloat16) if recipe.precision == "bfloat16" else nullcontext()


def read_recipe(file: Path | None, words: list[str]) -> Recipe:
    """A recipe from a file of `key: value` lines (may be None), then KEY=VALUE words. Raises UserError."""
    values: dict[str, object] = {}
    if file is not None:
        try:
            text = Path(file).read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot read the recipe {file}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"the recipe {file} is not UTF-8 text; save it as such") from error
        for number, line in enumerate(text.splitlines(), start=1):
            line = re.split(r"(?:^|\s)#", line)[0].strip()
            if line:
                key, colon, value = line.partition(":")
                if not colon:
                    raise UserError(f"{file}, line {number}: {line!r} is not `key: value`")
                values[key.strip()] = parse(key.strip(), value.strip().strip("\"'"), f"{file}, line {number}")
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"{word!r} is not KEY=VALUE")
        values[key] = parse(key, value, "command line")
    return Recipe(**values)  # type: ignore[arg-type]


def parse(key: str, text: str, where: str) -> object:
    """One value in its option's type and range. Raises UserError naming the place."""
    kinds, fields = get_type_hints(Recipe), {field.name: field for field in dataclasses.fields(Recipe)}
    if key not in fields:
        near = difflib.get_close_matches(key, fields, n=1)
        meant = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(fields)}"
        raise UserError(f"{where}: no option {key!r}{meant}")
    kind, limits = kinds[key], fields[key].metadata
    try:
        value = {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (ValueError, KeyError) as error:
        raise UserError(f"{where}: {key} is {text!r}; it must be of type {kind.__name__}") from error
    low, high, among = limits.get("low"), limits.get("high"), limits.get("among")
    if among and value not in among:
        raise UserError(f"{where}: {key} is {text!r}; it must be one of {', '.join(among)}")
    if low is not None and not low <= value <= (sys.float_info.max if high is None else high):  # NaN fails too
        upper = "any finite number" if high is None else high
        raise UserError(f"{where}: {key} is {text}; it must lie in {low} .. {upper}")
    return value


def options_table() -> str:
    """Every option with its default and its line of help, for --help."""
    lines = []
    for field in dataclasses.fields(Recipe):
        among = field.metadata["among"]
        choice = f" ({' | '.join(among)})" if among else ""
        low, high = field.metadata["low"], field.metadata["high"]
        limits = "" if low is None else f" (at least {low})" if high is None else f" ({low} to {high})"
        lines.append(f"  {f'{field.name} = {field.default!r}':<34} {field.metadata['help']}{choice or limits}")
    return "\n".join(lines)
