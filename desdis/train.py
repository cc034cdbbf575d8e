"""Training: the whole method in one loop. A patch set and a teacher come in, weights and a log go out.

    python -m desdis.train --config configs/train/desdis-32.yaml patches=SET validation=SET [KEY=VALUE ...]

In the output folder: recipe.json, log.csv (and TensorBoard events where that is installed), state.pt (everything that a
resumed run needs), best.safetensors (by validation) and last.safetensors. The same command goes on where a killed run
stopped. Several devices: `torchrun --nproc-per-node N -m desdis.train ...`; negatives are shared among all of them.
"""

import argparse
import copy
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from desdis import augment, losses, mining
from desdis.distributed import Ranks
from desdis.errors import UserError, command
from desdis.patchsets import batches, cut_pairs, draw_pairs, draw_upright
from desdis.progress import Log, Progress
from desdis.recipe import Recipe, mixed, options_table, read_recipe
from desdis.runs import contents, new_student, on_device, open_sets, resume, save_state, save_weights
from desdis.teacher import Teacher
from desdis.validation import validate


def train(recipe: Recipe) -> Path:
    """Run (or go on with) a training; returns the file of the best weights. Raises UserError, also on NaN."""
    ranks = Ranks(recipe.device)
    device = ranks.device
    pairs_here, rest = divmod(recipe.batch, ranks.count)
    if rest:
        raise UserError(f"batch={recipe.batch} cannot be shared by {ranks.count} processes; give a multiple of them")
    output = Path(recipe.output)
    data, held_out = open_sets(recipe)
    sets = contents(data, held_out)
    patches_here = on_device(data, device)
    # Channels last: wide networks learn a fifth faster on a CPU.
    student = new_student(recipe).to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    average = copy.deepcopy(student).eval()
    optimiser = torch.optim.AdamW(student.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    state = resume(recipe, output, sets, student, average, optimiser, ranks)
    teacher = Teacher(recipe, data, device)
    embed = ranks.share(Embedder(student))
    log = Log(output, state["step"]) if ranks.first else None
    generator = torch.Generator(device)
    with Progress(recipe.steps, state["step"], quiet=not ranks.first) as progress:
        progress.announce(
            f"{recipe.student} from {len(data.point_ids):,} patches of {len(data.points):,} points, teacher "
            f"{recipe.teacher or 'none'}, on {device}: "
            + (f"steps {state['step']} to {recipe.steps}" if state["step"] < recipe.steps else "finished before")
        )

        for step, points in batches(data, recipe.batch, recipe.chunk, recipe.seed, state["step"], recipe.steps):
            # 1. A batch of matching pairs. Everything random is seeded by (seed, step, rank): resuming needs no memory.
            seeds = np.random.default_rng([recipe.seed, step, ranks.rank])
            generator.manual_seed(int(seeds.integers(2**62)))
            mine = points[ranks.rank * pairs_here : (ranks.rank + 1) * pairs_here]
            rows = draw_pairs(data, mine, recipe.hard_views, seeds)
            upright = draw_upright(data, rows, recipe.upright, seeds)
            raw = torch.as_tensor(cut_pairs(patches_here, rows, upright)).to(device, non_blocking=True)

            # 2. Both networks describe it; the teacher sees the same patches, or what they were before the jitter.
            patches, turns = augment.augment(raw, recipe, data.margin, generator)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(recipe, step)
            student.train()
            with torch.random.fork_rng([device] if device.type == "cuda" else []), mixed(recipe, device):
                torch.manual_seed(int(seeds.integers(2**62)))  # dropout
                embedding = embed(patches)
            shown = augment.resample(raw[:, None].float(), turns) if recipe.teacher_sees == "turned" else patches
            taught = teacher.describe(shown, rows, upright)

            # 3. The loss over the pairs of all devices; points whose patches overlap are no negatives of each other.
            anchors, positives = ranks.gather_pairs(embedding.float())
            if taught is not None:
                taught = ranks.gather_pairs(taught)
            same = None
            if recipe.false_reach:
                reach = recipe.false_reach * float(data.manifest.get("magnification", 1)) * data.point_sizes[points]
                place = (data.points[points], reach, data.point_scenes[points])
                same = mining.same_surface(*(torch.from_numpy(np.asarray(x)).to(device) for x in place))
                if same.all(dim=1).any():
                    raise UserError(f"step {step}: a point overlaps its whole batch; give a larger batch, or chunk=1")
            loss, parts = desdis_loss(anchors, positives, taught, same, recipe, step)
            require_finite("the loss", [loss], step, output)

            # 4. One step of the optimiser, and of the running average of the weights.
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            update_average(average, student, min(recipe.average, (1 + step) / (10 + step)))
            done = step + 1
            validates = bool(held_out) and (done % recipe.validate_every == 0 or done == recipe.steps)
            saves = done % recipe.save_every == 0 or done == recipe.steps
            if validates or saves:  # a finite loss does not say that what it leaves behind is finite
                kept = [*student.state_dict().values(), *average.state_dict().values()]
                require_finite("a weight", kept, step, output)

            # 5. What a person wants to see, and what a killed run needs.
            progress.step(done)
            if log is None:  # another rank than the first
                continue
            log.add(parts, recipe.batch)
            if done % recipe.log_every == 0 or done == recipe.steps:
                progress.say(done, log.write_means(done, learning_rate(recipe, step)))
            if validates:
                scores = validate(average, held_out, device)
                log.write(done, scores)
                progress.say(done, scores)
                if scores["score"] > state["best"]:
                    state["best"] = scores["score"]
                    save_weights(average, output / "best.safetensors", recipe, done, scores, data, teacher)
            if saves:
                save_weights(average, output / "last.safetensors", recipe, done, {}, data, teacher)
                save_state(output, recipe, sets, done, state["best"], student, average, optimiser)
    ranks.wait()  # until the first has saved
    best = output / "best.safetensors"
    return best if best.is_file() else output / "last.safetensors"


def desdis_loss(
    anchors: torch.Tensor,
    positives: torch.Tensor,
    taught: torch.Tensor | None,
    same: torch.Tensor | None,
    recipe: Recipe,
    step: int,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The paper's loss on raw embeddings (B, D) of matching pairs, and what the recipe adds to it.

    taught: (2, B, D') the teacher's unit descriptors; same: (B, B) pairs of points that are no negatives of each other.
    Returns the loss and its unweighted parts (detached) for the log.
    """
    a, p = F.normalize(anchors, dim=1), F.normalize(positives, dim=1)
    positive, pairs = mining.cosines(a, p, recipe.four_ways)
    forbidden = mining.forbidden_pairs(pairs.detach(), same)
    chosen = mining.hardest(pairs, forbidden)
    negative = mining.pick(pairs, chosen)

    # The triplet loss, with the hardest negative of the batch.
    triplet = losses.TRIPLETS[recipe.triplet](losses.distance(positive), losses.distance(negative), recipe.margin)
    terms = {"triplet": (recipe.triplet_weight, triplet)}

    # The teacher-student regulariser: the same pairs, as the teacher sees them.
    regulariser = recipe.regulariser * min(1.0, (step + 1) / max(1, recipe.regulariser_warmup))
    if taught is not None and regulariser > 0:
        taught_positive, taught_pairs = mining.cosines(taught[0], taught[1], recipe.four_ways)
        if recipe.held == "all":
            held = [pairs[~forbidden], taught_pairs[~forbidden]]
        else:
            if recipe.held == "teachers":
                chosen = mining.hardest(taught_pairs, forbidden)
            held = [mining.pick(pairs, chosen), mining.pick(taught_pairs, chosen)]
        measured = [losses.measured(x, recipe.measure) for x in (positive, held[0], taught_positive, held[1])]
        terms["regulariser"] = (regulariser, losses.teacher_student_regulariser(*measured))

    # Beyond the paper: the teacher's descriptors themselves, fading; the second-order and other terms.
    imitation = recipe.imitation * max(0.0, 1 - step / (recipe.imitation_end * recipe.steps + 1e-9))
    if taught is not None and imitation > 0:
        mean = F.normalize(taught.sum(dim=0), dim=1).expand_as(taught)
        target = {"own": taught, "partner": taught.flip(0), "mean": mean}[recipe.imitated]
        terms["imitation"] = (imitation, losses.imitation(a, target[0]) + losses.imitation(p, target[1]))
    if recipe.contrast:
        terms["contrast"] = (recipe.contrast, losses.contrast(positive, pairs, forbidden, recipe.temperature))
    if recipe.second_order:
        terms["second_order"] = (recipe.second_order, losses.second_order_similarity(a, p))
    if recipe.norm_agreement:
        terms["norms"] = (recipe.norm_agreement, losses.norm_agreement(anchors, positives))
    if recipe.decorrelation:
        terms["correlation"] = (recipe.decorrelation, losses.decorrelation(torch.cat([a, p])))

    loss = torch.stack([weight * value for weight, value in terms.values()]).sum()
    parts = {"loss": loss, **{name: value for name, (_, value) in terms.items()}}
    parts |= {"positive": losses.distance(positive).mean(), "negative": losses.distance(negative).mean()}
    return loss, {name: value.detach() for name, value in parts.items()}


def require_finite(what: str, numbers: Iterable[torch.Tensor], step: int, output: Path) -> None:
    """Raises UserError, with the saved weights to go on from, where one of the tensors is not finite throughout."""
    if all(torch.isfinite(tensor).all() for tensor in numbers):
        return
    saved = [output / name for name in ("last.safetensors", "best.safetensors") if (output / name).is_file()]
    start = f", start={saved[0]}" if saved else ""
    raise UserError(
        f"{what} is not finite at step {step}; run again with another output{start} and a lower learning_rate"
    )


def learning_rate(recipe: Recipe, step: int) -> float:
    """Rises over `warmup` steps; after the share `steady` of all steps it falls, by half a cosine or a line, to 0 at
    the end (where the warmup is longer, it falls while it rises)."""
    rise = min(1.0, (step + 1) / max(1, recipe.warmup))
    fallen = max(0.0, step / recipe.steps - recipe.steady) / max(1 - recipe.steady, 1e-9)
    left = 1 - fallen if recipe.schedule == "linear" else 0.5 * (1 + float(np.cos(np.pi * fallen)))
    return recipe.learning_rate * rise * left


@torch.no_grad()
def update_average(average: nn.Module, student: nn.Module, decay: float) -> None:
    """average <- decay average + (1 - decay) student; batch-norm statistics too, counters copied."""
    for kept, new in zip(average.state_dict().values(), student.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - decay)
        else:
            kept.copy_(new)


class Embedder(nn.Module):
    """A network whose forward stops before the division by the norm, since some losses need the norm."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        return self.network.embed(patches)  # pyright: ignore[reportCallIssue]


@command
def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m desdis.train",
        description="Train a descriptor network on a patch set, with or without a teacher.",
        epilog="options, as KEY=VALUE or in the file:\n" + options_table(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="recipe: lines of `key: value`")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="single options, stronger than the file's")
    options = parser.parse_intermixed_args(arguments)
    recipe = read_recipe(options.config, options.words)
    best = train(recipe)
    if Ranks(recipe.device).first:
        print(best)
    return 0


if __name__ == "__main__":
    sys.exit(main())
