"""Put trained weights into the library: half precision where it costs nothing, and a model card beside them.

    python -m desdis.ship runs/desdis-32/best.safetensors desdis-32 --validation SET...

Writes desdis/weights/NAME.safetensors and NAME.md, or into another --folder. The card says all that the file knows of
its making, and what both precisions and the authors' network of the same width score on the validation sets.
"""

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from desdis.architectures import BODIES
from desdis.checkpoints import OFFICIAL, WEIGHTS, NetworkInfo, available, file_sha256, load_network, save_network
from desdis.describer import load
from desdis.errors import UserError, command
from desdis.patchsets import PatchSet, place_of, read_patch_set
from desdis.recipe import Recipe
from desdis.validation import validate

PLACES = ("patches", "validation", "output", "device")  # of a recipe: where things lay, nobody else's business
OURS = {  # what the card of this project's own weights says, and no other card can
    "sets": """ (`tracks`: patches of those places' reconstructions, which the authors'
network matched; `planes`: their photographs warped by homographies; see docs/distillation.md)""",
    "limits": """ Trained mostly on buildings, statues, objects and
some aerial views by daylight; thermal, medical or underwater pictures were not seen. People are no subject of the
training.""",
}
NETWORKS = {
    "desdis": "The network is the light student of Liu and Dong's Descriptor Distillation (IJCV 2024)",
    "hardnet": "The network is HardNet's (Mishchuk et al., NeurIPS 2017)",
    "sosnet": "The network is SOSNet's (Tian et al., CVPR 2019)",
    "hynet": "The network is HyNet's (Tian et al., NeurIPS 2020)",
}
MOST_LOST = 0.0005  # of the validation score, by half precision
CARD = """# {name}

A local descriptor: grey patches of 32x32 pixels (half-width {magnification:g} sigma of the detection) to 128 numbers
of unit length. {network}; these weights were trained from a random start.

| | |
| --- | --- |
| file | {name}.safetensors, {precision}, {bytes} bytes, sha256 {sha256} |
| architecture | {architecture}, {parameters} parameters |
| teacher | {teacher} |
| patches | {count} of {points} points from {place_count} places, sha256 of the set's sources {source} |
| pairs seen | {pairs} |
| seed, commit | {seed}, {commit} |

Scores on validation places that no training saw{sets}:

{scores}

Made by

{commands}
{note}
**Places**: {places}.

**Intended use**: matching photographs of a rigid scene for structure from motion and localisation, on {frames}.
**Limits**: not invariant to strong blur, to inverted contrast, nor to view changes beyond some 40 degrees; repeated
structure looks alike.{limits}
"""


class Training(NamedTuple):
    """One training behind weights: its recipe without PLACES, the steps it ran, its teachers' names and hashes, and the
    scenes of its patches."""

    recipe: dict
    steps: int
    teachers: dict[str, str]
    scenes: Sequence[str] = ()  # files shipped by earlier versions do not tell of stages before the last


def ship(
    file: Path,
    name: str,
    held_out: Sequence[PatchSet],
    folder: Path = WEIGHTS,
    note: str = "",
    overwrite: bool = False,
    licences: Mapping[str, str] | None = None,
) -> Path:
    """Write weights and card into `folder`; returns the weights' path. `licences`: of each place's photographs.

    Raises UserError where that would mislead (the name of another architecture, a validation set that was trained on,
    weights of unknown making, a place without a licence where others have one) or overwrite.
    """
    network, info = load_network(file)
    if "recipe" not in info.metadata:
        raise UserError(f"{file} was not written by desdis.train: its making is unknown, so it cannot be shipped")
    promised = name.removeprefix("desdis-") if name.removeprefix("desdis-") in BODIES else name
    if (promised in BODIES or name.startswith("desdis-")) and promised != info.architecture:
        raise UserError(f"{file} is a {info.architecture}: {name} would be another; give it a name of its own")
    if Path(name).name != name:
        raise UserError(f"{name} is no name but a path; the folder goes into --folder")
    target = folder / f"{name}.safetensors"
    if target.exists() and not overwrite:
        raise UserError(f"{target} is there already; give another name or --folder, or --overwrite")
    *earlier, last = stages = trainings(info)
    trained_on = {place_of(scene) for stage in stages for scene in stage.scenes}
    for data in held_out:
        seen = sorted(trained_on & {place_of(scene["name"]) for scene in data.manifest["scenes"]})
        if seen:
            raise UserError(f"{data.folder} holds {seen[0]}, which these weights were trained on; give another set")
    places = sorted(p for p in trained_on if p.rpartition(".")[0] not in trained_on)  # PLACE.1: its second model
    if licences is not None and not licences.keys() >= set(places):
        raise UserError(f"no licence is given for {', '.join(sorted(set(places) - licences.keys()))}; list all places")
    authors = load_network(f"official/{info.architecture}")[0] if info.architecture in OFFICIAL else None
    scores = {"trained, float32": scored(network, held_out)}
    metadata = {
        **info.metadata, "recipe": json.dumps(last.recipe), "teacher": json.dumps(last.teachers),
        "earlier": json.dumps(earlier),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:  # no weights without their card, whatever happens
        made = Path(scratch) / target.name
        save_network(network, made, metadata, half=True)
        scores["as shipped"] = scored(load_network(made)[0], held_out)
        halved = scores["as shipped"]["score"] > scores["trained, float32"]["score"] - MOST_LOST
        if not halved:
            save_network(network, made, metadata)
            scores["as shipped"] = scores["trained, float32"]
        if authors:
            scores[f"the authors' {info.architecture}"] = scored(authors, held_out)
        patches = json.loads(info.metadata["patches"])
        frames = (
            "oriented frames or upright ones (the training mixed both)" if last.recipe["upright"] else "oriented frames"
        )
        said = OURS if folder.resolve() == WEIGHTS.resolve() else dict.fromkeys(OURS, "")
        card = CARD.format(
            name=name, magnification=load(str(made)).magnification, frames=frames,
            network=NETWORKS[info.architecture.split("-")[0]], precision="float16" if halved else "float32",
            bytes=made.stat().st_size, sha256=file_sha256(made), architecture=info.architecture,
            parameters=info.parameters, teacher="; then ".join(teachers_of(stage) for stage in stages),
            count=patches["count"], points=patches["points"], place_count=len(places), source=patches["source_sha256"],
            pairs=", then ".join(
                f"{s.steps * s.recipe['batch']} ({s.steps} steps of {s.recipe['batch']})" for s in stages
            ),
            seed=last.recipe["seed"], commit=info.metadata["commit"], scores=score_table(scores),
            places=places_listed(places, licences),
            commands="\n".join(command_of(stage.recipe, number) for number, stage in enumerate(stages, 1)),
            note=f"\n{note}\n" if note else "", **said,
        )  # fmt: skip
        target.with_suffix(".md").write_text(card)
        made.replace(target)
    return target


def scored(network: nn.Module, held_out: Sequence[PatchSet]) -> dict[str, float]:
    """As `validate`, and with the set's name also where there is but one."""
    scores = validate(network, held_out, torch.device("cpu"))
    scores = {key: value for key, value in scores.items() if "dimensions" not in key}  # no score: nothing asks for it
    if len(held_out) > 1:
        return scores
    return {**{f"{held_out[0].folder.name}.{key}": value for key, value in scores.items()}, "score": scores["score"]}


def trainings(info: NetworkInfo) -> list[Training]:
    """The trainings behind weights, first to last."""
    recipe, teachers = json.loads(info.metadata["recipe"]), json.loads(info.metadata["teacher"])
    before = [Training(*stage) for stage in json.loads(info.metadata.get("earlier", "[]"))]
    start = recipe["start"]
    if start:
        if not before:
            _, first = load_network(start)
            if "recipe" not in first.metadata:
                raise UserError(f"{start}, where the training started, is of unknown making; not shipped")
            before = trainings(first)
        recipe["start"] = f"RUN{len(before)}/best.safetensors"

    def shown(name: str) -> str:
        name = name.strip()
        if start and Path(name).resolve() == Path(start).resolve():  # an equal-weight student of what it began as
            return recipe["start"]
        return name if name in available() else Path(name).name

    recipe["teacher"] = "+".join(map(shown, recipe["teacher"].split("+")))
    teachers = {shown(name): sha256 for name, sha256 in teachers.items()}
    trimmed = {key: value for key, value in recipe.items() if key not in PLACES}
    return [*before, Training(trimmed, int(info.metadata["step"]), teachers, json.loads(info.metadata["scenes"]))]


def teachers_of(stage: Training) -> str:
    """Names and hashes."""
    return ", ".join(f"{name} (sha256 {sha256})" for name, sha256 in stage.teachers.items()) or "none"


def command_of(recipe: dict, number: int) -> str:
    """What to type, as the card shows it."""
    words = " ".join(f"{key}={value}" for key, value in recipe.items() if value != getattr(Recipe, key))
    return f"    python -m desdis.train patches=SETS validation=SETS output=RUN{number} {words}"


def places_listed(places: Sequence[str], licences: Mapping[str, str] | None) -> str:
    """The places, by licence where that is known."""
    if licences is None:
        return ", ".join(places)
    kinds = sorted({licences[place] for place in places})
    return "; ".join(f"{kind}: " + ", ".join(p for p in places if licences[p] == kind) for kind in kinds)


def read_licences(path: Path) -> dict[str, str]:
    """The columns `place` and `licence` of a CSV file. Raises UserError."""
    try:
        with open(path, newline="") as file:
            return {row["place"]: row["licence"] for row in csv.DictReader(file)}
    except (OSError, KeyError) as error:
        raise UserError(f"{path} cannot be read ({error}); it must be a CSV with columns place and licence") from error


def score_table(scores: dict[str, dict[str, float]]) -> str:
    """Markdown of named scores, one column a network."""
    lines = ["| | " + " | ".join(scores) + " |", "| --- " * (len(scores) + 1) + "|"]
    for key in next(iter(scores.values())):
        cells = " | ".join(f"{found[key]:.4f}" for found in scores.values())
        lines.append(f"| {key.replace('.', ': ').replace('_', ', ')} | {cells} |")
    return "\n".join(lines)


@command
def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m desdis.ship", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", type=Path, help="weights written by desdis.train")
    parser.add_argument("name", help="of the file; in desdis/weights the name by which desdis.load finds it")
    parser.add_argument("--validation", type=Path, nargs="+", required=True, metavar="SET", help="sets to score on")
    parser.add_argument("--places", type=Path, metavar="CSV", help="the photographs' licences: columns place, licence")
    parser.add_argument("--note", default="", help="a sentence for the card")
    parser.add_argument("--folder", type=Path, default=WEIGHTS, help="where they go (desdis/weights)")
    parser.add_argument("--overwrite", action="store_true", help="where there are weights of that name already")
    options = parser.parse_args(arguments)
    held_out = [read_patch_set(folder) for folder in options.validation]
    licences = read_licences(options.places) if options.places else None
    print(ship(options.file, options.name, held_out, options.folder, options.note, options.overwrite, licences))
    return 0


if __name__ == "__main__":
    sys.exit(main())
