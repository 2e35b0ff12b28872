"""The processes that train together: who they are, and what they tell each other.

They are started by `torchrun` or `speechkit run --ngpu N`, which set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and
MASTER_PORT. W is the number of processes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from speechkit.errors import UsageError

T = TypeVar("T")

_BUCKET_BYTES = 64 << 20
_TIMEOUT = timedelta(hours=2)  # the others wait while process 0 validates


@dataclass(frozen=True, slots=True)
class World:
    """This process among those that train together.

    Attributes:
        rank: its number; process 0 writes, validates and reports.
        size: W.
    """

    rank: int = 0
    size: int = 1

    def check(self, micro_batches: int) -> None:
        """See that the micro-batches of a step can be shared out evenly.

        Raises:
            UsageError: they cannot.
        """
        if micro_batches % self.size:
            fitting = ", ".join(str(n) for n in range(1, micro_batches + 1) if micro_batches % n == 0)
            raise UsageError(
                f"{self.size} processes cannot share {micro_batches} micro-batches of a step",
                hint=f"start {fitting} of them, or change micro_batches",
                code="train.processes",
            )

    def agree(self, step: int, folder: Path) -> None:
        """See that the others go on at the same step as process 0.

        Raises:
            UsageError: this one does not.
        """
        first = self.of_first(step)
        if step != first:
            raise UsageError(
                f"{folder}: process 0 goes on at step {first}, process {self.rank} finds step {step}",
                hint="all processes must see the same folder of the experiment",
                code="train.processes",
            )

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one type and device by their sums over all processes."""
        if self.size == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            dist.all_reduce(flat)
            parts = flat.split([tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def of_first(self, value: T) -> T:
        """What process 0 has."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether it holds for one of the processes."""
        if self.size == 1:
            return flag
        total = torch.tensor(float(flag), device=device)
        dist.all_reduce(total)
        return bool(total)


ALONE = World()


def join(device: torch.device) -> World:
    """Meet the other processes, if there are any; `device` is where the network is."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    if not dist.is_initialized():
        # it keeps the group of the time of its import as a default: imported later (AdamW's first step does it), the
        # group outlives `leave`, and a thread of gloo that frees a tensor while Python ends aborts the process
        import torch.distributed.nn  # noqa: F401

        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    return World(dist.get_rank(), dist.get_world_size())


def leave() -> None:
    """Part from the other processes and end the threads of the group; a process that ends before may be aborted."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _buckets(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    buckets: list[list[Tensor]] = []
    room = 0
    for tensor in tensors:
        if tensor.nbytes > room or not buckets:
            buckets.append([])
            room = _BUCKET_BYTES
        buckets[-1].append(tensor)
        room -= tensor.nbytes
    return buckets
