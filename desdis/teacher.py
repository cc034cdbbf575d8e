"""The frozen teacher: any network, or several, asked for its descriptors of the student's patches."""

import os

import numpy as np
import torch
import torch.nn.functional as F

from desdis.checkpoints import load_network
from desdis.joined_sets import Joined
from desdis.patchsets import PatchSet
from desdis.recipe import Recipe, mixed
from desdis.validation import describe


class Teacher:
    """One frozen network or several; the cosine of the concatenated descriptors is the mean of their cosines."""

    def __init__(self, recipe: Recipe, data: PatchSet, device: torch.device) -> None:
        names = [name.strip() for name in recipe.teacher.split("+") if name.strip()]
        loaded = [load_network(name) for name in names]
        self.networks = [network.to(device) for network, _ in loaded]
        self.infos = [info for _, info in loaded]
        self.recipe, self.device, self.answers = recipe, device, {}
        if self.networks and recipe.teacher_sees == "clean":
            parts = data.parts or (data,)
            self.answers = {name: Joined([self.precomputed(part, name) for part in parts]) for name in data.patches}

    @torch.no_grad()
    def precomputed(self, data: PatchSet, orientation: str) -> np.ndarray:
        """(N, D) float16 answers for the clean patches, computed once a set and teacher and kept beside the set."""
        orientation = orientation if orientation in data.patches else "oriented"
        key = "-".join(info.sha256[:12] for info in self.infos)
        path = data.folder / f"teacher-{key}-{orientation}.npy"
        if not path.is_file():
            unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
            with open(unfinished, "wb") as file:
                np.save(file, self.ask_in_chunks(data, orientation))
            os.replace(unfinished, path)
        return np.load(path, mmap_mode="r")

    def ask_in_chunks(self, data: PatchSet, orientation: str) -> np.ndarray:
        with mixed(self.recipe, self.device):
            parts = [
                describe(network, data.patches[orientation], data.margin, self.device) for network in self.networks
            ]
        return (np.concatenate(parts, axis=1) / np.sqrt(len(parts))).astype(np.float16)

    @torch.no_grad()
    def describe(self, patches: torch.Tensor, rows: np.ndarray, upright: np.ndarray) -> torch.Tensor | None:
        """(2B, D) unit descriptors: of these patches, or the stored ones of these rows (B, 2)."""
        if not self.networks or self.recipe.regulariser == self.recipe.imitation == 0:
            return None
        if self.answers:
            rows, upright = rows.T.reshape(-1), np.tile(upright, 2)
            taught = self.answers["oriented"][rows]
            if upright.any():
                taught[upright] = self.answers["upright"][rows[upright]]
            return F.normalize(torch.from_numpy(taught).to(self.device).float(), dim=1)
        with mixed(self.recipe, self.device):
            parts = [network(patches).float() for network in self.networks]
        return torch.cat(parts, dim=1) / len(parts) ** 0.5
