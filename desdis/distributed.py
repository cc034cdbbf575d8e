"""Several devices or machines through torch's DistributedDataParallel, started by torchrun; else one rank of one."""

import os
import re
from typing import Any

import torch
from torch import distributed, nn

from desdis.errors import UserError


class Ranks:
    """Who this process is among `count`, and its device. Without torchrun's environment: rank 0 of 1, and nothing is
    sent anywhere."""

    def __init__(self, device: str = "auto") -> None:
        self.count, self.rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
        self.first = self.rank == 0
        self.device = device_called(device)
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        if self.count > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if self.device.type == "cuda" else "gloo")

    def share(self, module: nn.Module) -> nn.Module:
        """The module with gradients averaged over the ranks."""
        return nn.parallel.DistributedDataParallel(module) if self.count > 1 else module

    def gather_pairs(self, descriptors: torch.Tensor) -> torch.Tensor:
        """(2b, D) of each rank, anchors then positives -> (2, B, D) of all ranks in their order, with gradient.

        Every rank then computes the same loss, and the gradient of its own descriptors; that times the ranks, averaged
        by DistributedDataParallel over the networks, is the gradient of the one large batch.
        """
        pairs = len(descriptors) // 2
        if self.count > 1:
            here = descriptors.detach().contiguous()
            parts = [torch.empty_like(here) for _ in range(self.count)]
            distributed.all_gather(parts, here)
            if descriptors.requires_grad:
                descriptors.register_hook(lambda gradient: gradient * self.count)
                parts[self.rank] = descriptors
            descriptors = torch.cat(parts)
        return descriptors.unflatten(0, (-1, 2, pairs)).transpose(0, 1).flatten(1, 2)

    def from_first(self, value: Any) -> Any:
        """The first rank's value, on every rank: what it read from its disk, which the others may not share."""
        if self.count == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, device=self.device)
        return box[0]

    def wait(self) -> None:
        """Until every rank has come here."""
        if self.count > 1:
            distributed.barrier()


def device_called(name: str) -> torch.device:
    """This process's device: its own GPU for `cuda`, and for `auto` where there is one. Raises UserError."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if name == "cuda" else name)
        torch.zeros(1, device=device).item()
    except Exception as error:  # each kind of device has its own
        reason = re.split(r"\. |\n", str(error))[0]
        raise UserError(f"device={name} cannot be used here: {reason}; give cpu, cuda or auto") from error
    return device
