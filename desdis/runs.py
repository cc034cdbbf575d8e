"""A training's folder: opening its sets, saving its state and weights, going on where it stopped."""

import dataclasses
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from desdis import architectures
from desdis.checkpoints import load_network, metadata_json, save_network
from desdis.distributed import Ranks
from desdis.errors import UserError
from desdis.joined_sets import join
from desdis.patchsets import PatchSet, place_of, read_patch_set
from desdis.recipe import Recipe
from desdis.teacher import Teacher
from desdis.validation import require_scorable

# What may change on resuming: where things lie (not what they hold: `contents`), how often one looks, and how long it
# takes (a run is then another than one that had the new value from the start, but a sound one).
MAY_CHANGE = {"output", "patches", "validation", "device", "steps", "log_every", "validate_every", "save_every"}


def open_sets(recipe: Recipe) -> tuple[PatchSet, list[PatchSet]]:
    """The training set and the validation sets; they must not share a place, a photograph or all of their patches."""
    if not recipe.patches:
        raise UserError("no patch set: give patches=FOLDER")
    data = join(named_sets(recipe.patches))
    if recipe.teacher_sees == "clean" and recipe.turns:
        raise UserError("teacher_sees=clean needs turns=0: the stored answers are for patches that are not turned")
    held_out = named_sets(recipe.validation)
    for other in held_out:
        places = [{place_of(scene["name"]) for scene in each.manifest["scenes"]} for each in (data, other)]
        images = [{image["sha256"] for image in each.manifest.get("images", [])} for each in (data, other)]
        sources = [set(str(each.manifest.get("source_sha256")).split(" + ")) - {"None"} for each in (data, other)]
        shared = next((sorted(a & b) for a, b in (places, images, sources) if a & b), None)
        if shared:
            raise UserError(f"{other.folder} and {recipe.patches} share {shared[0]}; scenes must be apart")
    require_scorable(held_out)
    return data, held_out


def named_sets(names: str) -> list[PatchSet]:
    """The patch sets of folders joined by +; none if there is no name."""
    return [read_patch_set(Path(name.strip())) for name in names.split("+") if name.strip()]


def contents(data: PatchSet, held_out: list[PatchSet]) -> dict[str, list[list]]:
    """What the training set and the validation sets hold, wherever they lie: [hash of the source, patches] of each."""
    return {
        name: [[str(each.manifest.get("source_sha256")), len(each.point_ids)] for each in sets]
        for name, sets in (("patches", [data]), ("validation", held_out))
    }


def on_device(data: PatchSet, device: torch.device) -> Mapping[str, Any]:
    """The set's patches where batches are cut from: in the memory of a GPU that has room for them (they may take half
    of what is free), else on disk, memory-mapped."""
    size = sum(patches.nbytes for patches in data.patches.values())
    if device.type != "cuda" or size > torch.cuda.mem_get_info(device)[0] / 2:
        return data.patches
    return {orientation: copied(patches, device) for orientation, patches in data.patches.items()}


def copied(patches: Any, device: torch.device) -> torch.Tensor:
    """(N, S, S) uint8 on the device, copied in pieces so that no second copy fills the memory on the way."""
    target = torch.empty(patches.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(patches), 65536):
        target[start : start + 65536] = torch.from_numpy(patches[start : start + 65536].copy()).to(device)
    return target


def new_student(recipe: Recipe) -> nn.Module:
    """The network to train, from scratch (seeded) or from given weights."""
    with torch.random.fork_rng([]):
        torch.manual_seed(recipe.seed)
        try:
            student = architectures.build(recipe.student)
        except ValueError as error:
            raise UserError(f"student={recipe.student}: {error}") from error
    if recipe.start:
        network, info = load_network(recipe.start)
        if info.architecture != recipe.student:
            raise UserError(
                f"start={recipe.start} is {info.architecture}; give weights of {recipe.student}, or student="
            )
        student.load_state_dict(network.state_dict())
    return student


def save_state(
    output: Path, recipe: Recipe, sets: dict, step: int, best: float, student: nn.Module, average: nn.Module, optimiser
) -> None:
    """Everything a resumed run needs, atomically: a kill leaves the old file or the new one."""
    state = {
        "recipe": dataclasses.asdict(recipe), "sets": sets, "step": step, "best": best, "student": student.state_dict(),
        "average": average.state_dict(), "optimiser": optimiser.state_dict(),
    }  # fmt: skip
    unfinished = output / "state.unfinished"
    torch.save(state, unfinished)
    os.replace(unfinished, output / "state.pt")


def resume(
    recipe: Recipe, output: Path, sets: dict, student: nn.Module, average: nn.Module, optimiser, ranks: Ranks
) -> dict:
    """{"step": steps done, "best": best score so far}; loads a saved state into the networks and the optimiser. Raises
    UserError where the folder holds another training (other `contents` too), or cannot be written. The first rank's
    folder counts: only there is anything saved."""
    path, found = output / "state.pt", {"step": 0, "best": -1.0}
    if ranks.from_first(path.is_file()):
        now = dataclasses.asdict(recipe)
        try:
            state = torch.load(path, map_location="cpu", weights_only=True) if ranks.first else None
            state = ranks.from_first(state)
            then = dataclasses.asdict(Recipe()) | state["recipe"]  # a new option's default means: as it was before
            other = [key for key, value in now.items() if key not in MAY_CHANGE and then[key] != value]
            before = state.get("sets", sets)  # earlier versions did not keep them
            other += [key for key, value in sets.items() if before[key] != value]
            if not other:
                student.load_state_dict(state["student"])
                average.load_state_dict(state["average"])
                optimiser.load_state_dict(state["optimiser"])
            found = {"step": int(state["step"]), "best": float(state["best"])}
        except Exception as error:  # a broken or foreign file has many ways to fail
            raise UserError(f"{path} is damaged; move it away to start anew (weights stay)") from error
        if other:
            raise UserError(f"{output} holds a training with another {', '.join(sorted(other))}; choose another output")
    if not ranks.first:
        return found
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / "recipe.json").write_text(json.dumps(dataclasses.asdict(recipe), indent=1) + "\n")
    except OSError as error:
        raise UserError(f"output={output} cannot be written ({error.strerror}); choose another") from error
    return found


def save_weights(
    network: nn.Module,
    path: Path,
    recipe: Recipe,
    step: int,
    scores: dict[str, float],
    data: PatchSet,
    teacher: Teacher,
) -> None:
    """The weights with all that a model card needs to say how they came about."""
    metadata = metadata_json(
        recipe=dataclasses.asdict(recipe),
        step=step,
        validation=scores,
        teacher={info.name: info.sha256 for info in teacher.infos},
        patches={key: data.manifest.get(key) for key in ("count", "points", "source_sha256", "magnification")},
        scenes=[scene["name"] for scene in data.manifest["scenes"]],
        commit=commit(),
    )
    save_network(network, path, metadata)


def commit() -> str:
    """The git commit of this code, or "unknown" outside a checkout."""
    here = Path(__file__).parent
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return found.stdout.strip() if found.returncode == 0 else "unknown"
