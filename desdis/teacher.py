"""The frozen teacher: any network, or several, asked for its descriptors of the student's patches."""

import os
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from desdis import augment, runtimes
from desdis.architectures import DIMENSIONS
from desdis.checkpoints import load_network
from desdis.errors import UserError
from desdis.joined_sets import Joined
from desdis.patchsets import PatchSet, cut_pairs
from desdis.recipe import Recipe, mixed

ASKED = 4096  # patches at a time


class Teacher:
    """One frozen network or several; the cosine of the concatenated descriptors is the mean of their cosines."""

    def __init__(self, recipe: Recipe, data: PatchSet, device: torch.device) -> None:
        names = [name.strip() for name in recipe.teacher.split("+") if name.strip()]
        loaded = [load_network(name) for name in names]
        self.describers = [frozen(network.to(device), recipe, device) for network, _ in loaded]
        self.infos = [info for _, info in loaded]
        self.recipe, self.device, self.answers = recipe, device, {}
        if self.describers and recipe.teacher_sees == "clean":
            parts = data.parts or (data,)
            self.answers = {name: Joined([self.precomputed(part, name) for part in parts]) for name in data.patches}

    def precomputed(self, data: PatchSet, orientation: str) -> np.ndarray:
        """(N, D) float16 answers for the clean patches, computed once a set and teacher and kept beside the set."""
        orientation = orientation if orientation in data.patches else "oriented"
        count, source = len(data.point_ids), str(data.manifest.get("source_sha256"))[:12]
        key = "-".join([*(info.sha256[:12] for info in self.infos), self.recipe.precision, source, str(count)])
        path = data.folder / f"teacher-{key}-{orientation}.npy"
        if not path.is_file():
            unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
            with open(unfinished, "wb") as file:
                np.save(file, self.answers_for(data.patches[orientation], data.margin))
            os.replace(unfinished, path)
        answers = np.load(path, mmap_mode="r")
        if len(answers) != count:
            raise UserError(f"{path} holds {len(answers)} answers for {count} patches; remove it")
        return answers

    def answers_for(self, patches: np.ndarray, margin: float) -> np.ndarray:
        """(N, S, S) uint8 to (N, D) float16."""
        answers = np.empty((len(patches), DIMENSIONS * len(self.describers)), np.float16)
        for begin in range(0, len(patches), ASKED):
            raw = torch.tensor(patches[begin : begin + ASKED], device=self.device)
            answers[begin : begin + ASKED] = self.ask(augment.plain(raw, margin)).cpu().numpy()
        return answers

    def describe(self, patches: torch.Tensor, rows: np.ndarray, upright: np.ndarray) -> torch.Tensor | None:
        """(2B, D) unit descriptors: of these patches, or the stored ones of these rows (B, 2)."""
        if not self.describers or self.recipe.regulariser == self.recipe.imitation == 0:
            return None
        if self.answers:
            taught = cut_pairs(self.answers, rows, upright)
            return F.normalize(torch.from_numpy(taught).to(self.device).float(), dim=1)
        return self.ask(patches)

    @torch.no_grad()
    def ask(self, patches: torch.Tensor) -> torch.Tensor:
        """(N, 1, 32, 32) to (N, D) unit descriptors."""
        parts = [described(patches) for described in self.describers]
        return torch.cat(parts, dim=1) / len(parts) ** 0.5


def frozen(network: nn.Module, recipe: Recipe, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """The network as a function of (N, 1, 32, 32) patches. Nothing is learnt through it: where a training may round to
    bfloat16 on a CPU, the runtimes that round serve, int8 too. What is learnt is the same (docs/distillation.md)."""
    if device.type == "cpu" and recipe.precision == "bfloat16":
        for name in ("int8", "bf16"):
            try:
                runtime = runtimes.make(network, name)
            except UserError:  # not on this processor, or not for this network
                continue
            return lambda patches: torch.from_numpy(runtime(patches[:, 0].numpy()))

    def described(patches: torch.Tensor) -> torch.Tensor:
        with mixed(recipe, device):
            return network(patches).float()

    return described
