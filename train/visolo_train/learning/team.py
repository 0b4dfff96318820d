"""The processes that train together, as started by torchrun; without it, a team of one."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from visolo_core.errors import VisoloError

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Team:
    """One process and its place among all."""

    rank: int = 0
    size: int = 1
    device: torch.device = _CPU
    made_group: bool = False
    """whether this made the group of processes, rather than what started them"""

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.rank == 0

    def sum(self, numbers: Tensor) -> Tensor:
        """The sum over all processes, the same in each."""
        if self.size > 1:
            dist.all_reduce(numbers)
        return numbers

    def agrees(self, number: int) -> bool:
        """Whether a number is the same in every process."""
        if self.size == 1:
            return True
        bounds = torch.tensor([number, -number], dtype=torch.int64, device=self.device)
        dist.all_reduce(bounds, dist.ReduceOp.MAX)
        return int(bounds[0]) == -int(bounds[1])

    def wait(self) -> None:
        """Wait until every process gets here."""
        if self.size > 1:
            dist.barrier()

    def leave(self) -> None:
        """Leave the process group, if this made it."""
        if self.made_group:
            dist.destroy_process_group()


def join(device: str = "auto") -> Team:
    """Join the team with the rank that torchrun's environment gives this process, or with those
    that are in a process group already.

    Args:
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``.

    Raises:
        VisoloError: if CUDA is requested but absent.
    """
    has_cuda = torch.cuda.is_available()
    if device not in ("auto", "cpu", "cuda"):
        raise VisoloError(f"device '{device}' is unknown: choose auto, cpu or cuda")
    if device == "cuda" and not has_cuda:
        raise VisoloError("device 'cuda' was requested, but PyTorch sees no GPU here")
    place = _CPU
    if has_cuda and device != "cpu":
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(place)
    made_group = not dist.is_initialized()
    if made_group and "WORLD_SIZE" not in os.environ:
        return Team(device=place)
    if made_group:
        dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    return Team(dist.get_rank(), dist.get_world_size(), place, made_group)
