"""The processes that train one network together, each on its part of every batch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from training.device import choose_device

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """This process among those of one training."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether it is this one that writes, and reports."""
        return self.rank == 0

    def share_out(self, items: list[T]) -> list[T]:
        """This process's part."""
        return items[self.rank :: self.world]

    def sum(self, values: Tensor) -> Tensor:
        """Over all processes, on each of them."""
        if self.world > 1:
            distributed.all_reduce(values)
        return values

    def collect(self, part: list[T]) -> list[T]:
        """On each process, the parts of all, in the order in which `share_out` took them."""
        if self.world == 1:
            return part
        parts: list[list[T]] = [[] for _ in range(self.world)]
        distributed.all_gather_object(parts, part)
        return [parts[k % self.world][k // self.world] for k in range(sum(map(len, parts)))]

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            distributed.barrier()

    def join(self, network: nn.Module) -> nn.Module:
        """The network with gradients that are means over the processes."""
        if self.world == 1:
            return network
        devices = [self.device.index] if self.device.type == "cuda" else None
        # Learned latents of other molecules have no part in a batch.
        is_sparse = any(isinstance(part, nn.ParameterList) for part in network.modules())
        return DistributedDataParallel(
            network, device_ids=devices, broadcast_buffers=False, find_unused_parameters=is_sparse
        )


@contextmanager
def assemble_team(device: str) -> Iterator[Team]:
    """This process alone, or with those that torchrun started: RANK, WORLD_SIZE … in the environment say so."""
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    chosen = choose_device(device)
    if world == 1:
        yield Team(chosen)
        return
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Team(chosen, rank, world)
    finally:
        distributed.destroy_process_group()
