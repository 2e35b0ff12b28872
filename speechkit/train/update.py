"""One optimizer step: the sums of several micro-batches over their common counts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from speechkit import draws
from speechkit.data.batch import Batch
from speechkit.errors import ModelError
from speechkit.objectives.losses import Losses
from speechkit.objectives.objective import Objective
from speechkit.train.optimizer import Optimizer
from speechkit.train.precision import autocast
from speechkit.train.world import ALONE, World


class Step(Protocol):
    """The micro-batches of an optimizer step: those of all processes, of which this one loads its own."""

    @property
    def number(self) -> int:
        """Of the step, from 0."""

    @property
    def micro_batches(self) -> Sequence[Batch]:
        """Lengths, labels and draws of all of them, without waves."""

    def load(self) -> Iterator[Batch]:
        """The whole micro-batches of this process, one at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """What a step made of its micro-batches.

    Attributes:
        loss: what was minimized.
        sums: of every term.
        counts: what divides the sum of every term.
        gradient_norm: before clipping.
        batch: the last micro-batch of this process.
    """

    loss: float
    sums: dict[str, float]
    counts: dict[str, float]
    gradient_norm: float
    batch: Batch

    @property
    def finite(self) -> bool:
        """Whether the step was applied: its loss and its gradient are numbers."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)


def add_counts(objective: Objective[Any], batches: Iterable[Batch]) -> dict[str, float]:
    """The counts of several micro-batches, added."""
    total: dict[str, float] = {}
    for batch in batches:
        for name, count in objective.counts(batch).items():
            total[name] = total.get(name, 0.0) + count
    return total


class Updater:
    """Makes optimizer steps. Dropout is drawn from the address of each micro-batch."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective[Any],
        optimizer: Optimizer,
        *,
        dtype: torch.dtype,
        seed: int,
        world: World = ALONE,
    ) -> None:
        self.model = model
        self.objective = objective
        self.optimizer = optimizer
        self.dtype = dtype
        self.device = next(model.parameters()).device
        self.seed = seed
        self.world = world

    def __call__(self, step: Step, learning_rate: float) -> Update:
        """Make a step; without effect when its loss or gradient is not finite.

        Raises:
            ModelError: the device has too little memory.
        """
        counts = add_counts(self.objective, step.micro_batches)
        sums: dict[str, Tensor] = {}
        batch, losses = step.micro_batches[0], Losses(terms={})
        for batch in step.load():
            losses = self._backward(batch, step.number, counts)
            for name, term in losses.terms.items():
                sums[name] = sums[name] + term.sum.detach() if name in sums else term.sum.detach()
        totals = torch.stack([s.float() for s in sums.values()])
        self.world.add([totals])
        self.optimizer.add_gradients(self.world)
        norm = self.optimizer.clip_gradients()
        gradient_norm, *values = torch.cat([norm.float()[None], totals]).tolist()
        terms = losses.terms.values()
        divisors = [max(counts[term.count], 1.0) for term in terms]
        update = Update(
            loss=sum(v * t.weight / d for v, t, d in zip(values, terms, divisors, strict=True) if t.weight),
            sums=dict(zip(sums, values, strict=True)),
            counts={name: counts[term.count] for name, term in losses.terms.items()},
            gradient_norm=gradient_norm,
            batch=batch,
        )
        if update.finite:
            self.optimizer.step(learning_rate)
        self.optimizer.zero_grad()
        return update

    def _backward(self, batch: Batch, step: int, counts: dict[str, float]) -> Losses:
        torch.manual_seed(draws.torch_seed(self.seed, batch.epoch, "dropout", f"mb:{batch.number}"))
        try:
            with autocast(self.dtype, self.device):
                losses = self.objective(self.model, batch, step)
            losses.total(counts).backward()
        except torch.OutOfMemoryError as error:
            seconds = seconds_of(batch)
            raise ModelError(
                f"step {step}: out of memory with {len(batch.ids)} utterances of {seconds:.0f} s in all",
                hint=f"lower batch_seconds, to {seconds / 2:.0f} say, and raise the micro-batches of a step",
                code="model.memory",
            ) from error
        return losses


def seconds_of(batch: Batch) -> float:
    """The audio of a micro-batch, in seconds; 0 when it has none."""
    if batch.lengths is None or not batch.sample_rate:
        return 0.0
    return float(batch.lengths.sum()) / batch.sample_rate
