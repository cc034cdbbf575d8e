"""Several devices or machines through torch's DistributedDataParallel, started by torchrun; else one rank of one."""

import os

import torch
from torch import distributed, nn

from desdis.errors import UserError


class Ranks:
    """Who this process is among `count`. Without torchrun's environment: rank 0 of 1, and nothing is sent anywhere."""

    def __init__(self) -> None:
        self.count, self.rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
        self.first = self.rank == 0
        if self.count > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")

    def device(self, name: str) -> torch.device:
        """The device of this rank: `auto` takes its own CUDA device where there is one."""
        if name == "auto":
            name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
        try:
            device = torch.device(name)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"device={name} cannot be used here: {str(error).splitlines()[0]}") from error
        return device

    def share(self, module: nn.Module) -> nn.Module:
        """The module with gradients averaged over the ranks."""
        return nn.parallel.DistributedDataParallel(module) if self.count > 1 else module

    def gather_pairs(self, descriptors: torch.Tensor) -> torch.Tensor:
        """(2b, D) of each rank, anchors then positives -> (2, B, D) of all ranks in their order, with gradient.

        Every rank then computes the same loss; the gradient that returns is summed over the ranks, and
        DistributedDataParallel's mean makes it that of the one large batch.
        """
        pairs = len(descriptors) // 2
        if self.count > 1:
            if descriptors.requires_grad:
                from torch.distributed.nn.functional import all_gather

                descriptors = torch.cat(all_gather(descriptors))
            else:
                parts = [torch.empty_like(descriptors) for _ in range(self.count)]
                distributed.all_gather(parts, descriptors.contiguous())
                descriptors = torch.cat(parts)
        return descriptors.unflatten(0, (-1, 2, pairs)).transpose(0, 1).flatten(1, 2)

    def wait(self) -> None:
        """Until every rank has come here."""
        if self.count > 1:
            distributed.barrier()
