"""Put trained weights into the library: half precision where it costs nothing, and a model card beside them.

    python -m desdis.ship runs/desdis-32/best.safetensors desdis-32 --validation SET...

Writes desdis/weights/NAME.safetensors and NAME.md. The card says all that the file knows of its making, and what both
precisions and the authors' network of the same width score on the validation sets.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from desdis.checkpoints import OFFICIAL, WEIGHTS, NetworkInfo, file_sha256, load_network, save_network
from desdis.errors import UserError, command
from desdis.patchsets import PatchSet, read_patch_set
from desdis.recipe import Recipe
from desdis.validation import validate

PLACES = ("patches", "validation", "output", "device")  # of a recipe: where things lay, nobody else's business
MOST_LOST = 0.0005  # of the validation score, by half precision
CARD = """# {name}

A local descriptor: grey patches of 32x32 pixels (half-width 9 sigma of the detection) to 128 numbers of unit length.
The network is the light student of Liu and Dong's Descriptor Distillation (IJCV 2024); these weights were trained from
scratch by this project.

| | |
| --- | --- |
| file | {name}.safetensors, {precision}, {bytes} bytes, sha256 {sha256} |
| architecture | {architecture}, {parameters} parameters |
| teacher | {teacher} |
| patches | {count} of {points} points from {places} places, sha256 of the set's sources {source} |
| pairs seen | {pairs} |
| seed, commit | {seed}, {commit} |

Scores on validation places that no training saw (`tracks`: patches of those places' reconstructions, which the authors'
network matched; `planes`: their photographs warped by homographies; see docs/distillation.md):

{scores}

Made by

{commands}
{note}
**Places**: {scenes}. Their sources and licences are listed in docs/distillation.md.

**Intended use**: matching photographs of a rigid scene for structure from motion and localisation, on oriented frames
or upright ones (the training mixed both). **Limits**: not invariant to strong blur, to inverted contrast, nor to view
changes beyond some 40 degrees; repeated structure looks alike. Trained mostly on buildings, statues, objects and some
aerial views by daylight; thermal, medical or underwater pictures were not seen. People are no subject of the training.
"""


def ship(file: Path, name: str, held_out: Sequence[PatchSet], folder: Path = WEIGHTS, note: str = "") -> Path:
    """Write weights and card into `folder`; returns the weights' path."""
    network, info = load_network(file)
    if "recipe" not in info.metadata:
        raise UserError(f"{file} was not written by desdis.train: its making is unknown, so it cannot be shipped")
    target = folder / f"{name}.safetensors"
    device = torch.device("cpu")
    stages = trainings(info)
    *earlier, (recipe, _) = stages
    scores = {"trained, float32": validate(network, held_out, device)}
    metadata = {**info.metadata, "recipe": json.dumps(recipe), "earlier": json.dumps(earlier)}
    save_network(network, target, metadata, half=True)
    shipped, _ = load_network(target)
    scores["as shipped"] = validate(shipped, held_out, device)
    halved = scores["as shipped"]["score"] > scores["trained, float32"]["score"] - MOST_LOST
    if not halved:
        save_network(network, target, metadata)
        scores["as shipped"] = scores["trained, float32"]
    if info.architecture in OFFICIAL:
        authors, _ = load_network(f"official/{info.architecture}")
        scores[f"the authors' {info.architecture}"] = validate(authors, held_out, device)
    patches = json.loads(info.metadata["patches"])
    teachers = json.loads(info.metadata["teacher"])
    scenes = sorted({scene.split(".")[0] for scene in json.loads(info.metadata["scenes"])})  # not its second models
    card = CARD.format(
        name=name, precision="float16" if halved else "float32", bytes=target.stat().st_size,
        sha256=file_sha256(target), architecture=info.architecture, parameters=info.parameters,
        teacher=", ".join(f"{key} (sha256 {value})" for key, value in teachers.items()) or "none",
        count=patches["count"], points=patches["points"], places=len(scenes), source=patches["source_sha256"],
        pairs=", then ".join(f"{steps * r['batch']} ({steps} steps of {r['batch']})" for r, steps in stages),
        seed=recipe["seed"], commit=info.metadata["commit"], scores=score_table(scores),
        commands="\n".join(command_of(r, number) for number, (r, _) in enumerate(stages, 1)), scenes=", ".join(scenes),
        note=f"\n{note}\n" if note else "",
    )  # fmt: skip
    target.with_suffix(".md").write_text(card)
    return target


def trainings(info: NetworkInfo) -> list[tuple[dict, int]]:
    """The recipes behind weights, first to last, without what is nobody else's business, and the steps they ran."""
    recipe = json.loads(info.metadata["recipe"])
    before = [(earlier, steps) for earlier, steps in json.loads(info.metadata.get("earlier", "[]"))]
    if recipe["start"]:
        if not before:
            _, first = load_network(recipe["start"])
            if "recipe" not in first.metadata:
                raise UserError(f"{recipe['start']}, where the training started, is of unknown making; not shipped")
            before = trainings(first)
        recipe["start"] = f"RUN{len(before)}/best.safetensors"
    return [*before, ({key: value for key, value in recipe.items() if key not in PLACES}, int(info.metadata["step"]))]


def command_of(recipe: dict, number: int) -> str:
    """What to type, as the card shows it."""
    words = " ".join(f"{key}={value}" for key, value in recipe.items() if value != getattr(Recipe, key))
    return f"    python -m desdis.train patches=SET validation=SET output=RUN{number} {words}"


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
    parser.add_argument("name", help="under which desdis.load will find them")
    parser.add_argument("--validation", type=Path, nargs="+", required=True, metavar="SET", help="sets to score on")
    parser.add_argument("--note", default="", help="a sentence for the card")
    parser.add_argument("--folder", type=Path, default=WEIGHTS, help="where they go (desdis/weights)")
    options = parser.parse_args(arguments)
    held_out = [read_patch_set(folder) for folder in options.validation]
    print(ship(options.file, options.name, held_out, options.folder, options.note))
    return 0


if __name__ == "__main__":
    sys.exit(main())
