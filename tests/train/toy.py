"""A network of two layers, its objective, and a loader that makes its batches up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from speechkit import draws
from speechkit.data.batch import Batch
from speechkit.objectives.losses import Losses, Term

HOP = 4


class ToyModel(nn.Module):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(draws.torch_seed(0, 0, "init", "toy"))
        self.encoder = nn.Linear(HOP, 8)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(8, 1)

    def forward(self, waves: Tensor) -> Tensor:
        return self.head(self.dropout(self.encoder(waves.unflatten(1, (-1, HOP))).tanh()))[..., 0]


class ToyObjective:
    """Guess the sum of every frame."""

    def __init__(self, bad_steps: tuple[int, ...] = ()) -> None:
        self.bad_steps = bad_steps

    def counts(self, batch: Batch) -> dict[str, float]:
        return {"frames": float((batch.lengths // HOP * batch.weights).sum())}

    def __call__(self, model: ToyModel, batch: Batch, step: int) -> Losses:
        error = (model(batch.waves) - batch.waves.unflatten(1, (-1, HOP)).sum(-1)) * batch.weights[:, None]
        valid = torch.arange(error.shape[1]) < (batch.lengths // HOP)[:, None]
        total = (error.square() * valid).sum()
        if step in self.bad_steps:
            total = total * torch.nan
        small = ((error.abs() < 0.5) & valid).sum()
        terms = {"square": Term(sum=total, count="frames"), "close": Term(sum=small, count="frames", weight=0.0)}
        return Losses(terms=terms, statistics={"frames": valid.sum()})

    def measures(self, statistics: Mapping[str, Tensor]) -> dict[str, float]:
        return {"num_frames": float(statistics["frames"])}

    def example(self, model: ToyModel, batch: Batch) -> str:
        return f"first of {batch.ids[0]}: {float(model(batch.waves)[0, 0]):.3f}"


@dataclass(frozen=True)
class ToyStep:
    number: int
    batches: list[Batch]
    own: list[Batch]

    @property
    def micro_batches(self) -> list[Batch]:
        return [replace(batch, waves=None) for batch in self.batches]

    def load(self) -> Iterator[Batch]:
        return iter(self.own)


class ToyLoader:
    """Steps of `per_step` micro-batches of two or three rows."""

    wait_seconds = 0.0
    padding = 0.1

    def __init__(self, per_step: int = 2) -> None:
        self.per_step = per_step
        self.started: list[int] = []

    @property
    def micro_batches(self) -> int:
        return self.per_step

    def steps(self, start: int = 0, rank: int = 0, processes: int = 1) -> Iterator[ToyStep]:
        self.started.append(start)
        number = start
        while True:
            first = number * self.per_step
            batches = [toy_batch(n) for n in range(first, first + self.per_step)]
            yield ToyStep(number, batches, batches[rank::processes])
            number += 1


def toy_batch(number: int) -> Batch:
    rows = 2 + number % 2
    lengths = torch.tensor([24, 16, 8])[:rows]
    waves = torch.randn(rows, 24, generator=draws.generator(0, 0, "diffusion.noise", f"mb:{number}"))
    waves *= torch.arange(24) < lengths[:, None]
    return Batch(
        ids=[f"u{number}-{row}" for row in range(rows)],
        number=number,
        epoch=0,
        waves=waves,
        lengths=lengths,
        sample_rate=8,
        weights=torch.ones(rows),
    )
