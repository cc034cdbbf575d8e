"""What the teacher is worth: the same small training with one thing changed at a time, several seeds, mean and spread.

    python -m desdis.ablation --config configs/train/ablation.yaml patches=SET validation=SET output=runs/ablation
        [KEY=VALUE ...] [--seeds 3] [--only NAME ...]

Every run has its own folder under `output`; runs that are done are read, a killed one goes on. Prints and writes
table.md: final validation scores of the averaged weights (the last ones, not the best: nothing is picked).
"""

import argparse
import csv
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from desdis.checkpoints import load_network
from desdis.errors import UserError, command
from desdis.recipe import Recipe, read_recipe
from desdis.runs import named_sets
from desdis.train import train
from desdis.validation import validate

# What each variant changes in the recipe at hand, whose own name is "desdis".
VARIANTS: dict[str, dict[str, object]] = {
    "desdis": {},
    "no teacher (lambda 0)": {"teacher": "", "regulariser": 0.0, "imitation": 0.0},
    "imitation (lambda infinite)": {"triplet_weight": 0.0, "regulariser": 1.0},
    "descriptors held too": {"imitation": 2.0},
    "measure cosine": {"measure": "cosine"},
    "measure squared distance": {"measure": "squared"},
    "lambda 0.3": {"regulariser": 0.3},
    "lambda 1": {"regulariser": 1.0},
    "lambda 10": {"regulariser": 10.0},
    "lambda 30": {"regulariser": 30.0},
    "held: teacher's hardest": {"held": "teachers"},
    "held: all of the batch": {"held": "all"},
    "teacher sees clean patches": {"teacher_sees": "clean", "turns": 0.0},
    "all pairs turned and flipped": {"turns": 1.0},
    "negatives in four ways": {"four_ways": True},
    "sosnet triplet + second order": {"triplet": "sosnet", "second_order": 1.0},
    "hynet triplet": {"triplet": "hynet", "margin": 1.2, "four_ways": True},
    "no mask of overlapping points": {"false_reach": 0.0},
    "hard views": {"hard_views": 4},
    "scenes mixed": {"chunk": 1},
    "oriented patches only": {"upright": 0.0},
    "no average of the weights": {"average": 0.0},
    "decorrelated output": {"decorrelation": 1.0},
    "linear schedule": {"schedule": "linear"},
    "constant learning rate": {"steady": 1.0},
}
SHOWN = ("score", "ratio", "retrieval")  # of the scores of every validation set; see desdis.validation


def runs(base: Recipe, names: list[str], seeds: int) -> Iterator[tuple[str, Recipe]]:
    """(variant, recipe) seed by seed, so that a run that is stopped has all variants with fewer seeds."""
    for seed in range(seeds):
        for name in names:
            slug = "".join(letter if letter.isalnum() else "-" for letter in name)
            folder = f"{base.output}/{slug}-{seed}"
            yield name, dataclasses.replace(base, **VARIANTS[name], seed=seed, output=folder)  # type: ignore[arg-type]


def final_scores(folder: Path) -> dict[str, float]:
    """The last validation in a run's log."""
    with open(folder / "log.csv", newline="") as file:
        rows = [(int(row["step"]), row["name"], float(row["value"])) for row in csv.DictReader(file)]
    last = max((step for step, name, _ in rows if name == "score"), default=-1)
    return {name: value for step, name, value in rows if step == last}


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: mean and, with several seeds, half the spread (max - min) / 2 of every shown score."""
    keys = [key for key in next(iter(results.values()))[0] if key.rpartition(".")[2].startswith(SHOWN)]
    lines = ["| variant | seeds | " + " | ".join(keys) + " |", "| --- " * (len(keys) + 2) + "|"]
    for name, found in results.items():
        cells = []
        for key in keys:
            values = np.array([scores[key] for scores in found if key in scores])
            spread = f" ± {np.ptp(values) / 2:.4f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.4f}{spread}" if len(values) else "")
        lines.append(f"| {name} | {len(found)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


@command
def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m desdis.ablation", description=(__doc__ or "").split("\n")[0],
        usage="%(prog)s [-h] [--config FILE] [KEY=VALUE ...] [--seeds SEEDS] [--only NAME ...]",
    )  # fmt: skip
    parser.add_argument("--config", type=Path, metavar="FILE", help="recipe that every variant starts from")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="trainings of each variant (3)")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME", help="variants")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="options as of desdis.train")
    options = parser.parse_intermixed_args(arguments)
    base = read_recipe(options.config, options.words)
    held_out = named_sets(base.validation)
    if not held_out:
        raise UserError("nothing to compare by: give validation=SET")
    if not base.teacher or options.seeds < 1:
        raise UserError("nothing to compare: give teacher=NAME and --seeds of 1 or more")
    results = {}
    for name in base.teacher.split("+"):
        network, _ = load_network(name.strip())
        results[f"the teacher, {name.strip()}"] = [validate(network, held_out, torch.device("cpu"))]
    for name, recipe in runs(base, options.only, options.seeds):
        train(recipe)
        results.setdefault(name, []).append(final_scores(Path(recipe.output)))
        text = table(results)
        (Path(base.output) / "table.md").write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
