"""A training step of WavLM Base: forward, backward, AdamW; against transformers with the same weights and targets.

The loss is the mean product of the states and fixed random targets over the frames of each utterance, summed; nothing
is dropped or masked, so that gradients can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from bench.case import Group, Settings
from bench.floor import floor_of
from bench.forward import EQUAL, MIXED
from bench.networks import Network, Setup, describe, encoder_config, lengths_of, ours, theirs, write_encoder
from bench.timing import Output, Side, Timing, Work, compare
from speechkit import draws
from speechkit.allocator import keep_memory

_CLOSE = 1e-3  # gradients in float32, added in another order


def groups(settings: Settings) -> Iterator[Group]:
    """Equal and mixed lengths."""
    write_encoder(settings.folder, encoder_config("wavlm-base", quick=settings.quick))
    equal = Setup(folder=settings.folder, seconds=lengths_of(EQUAL, quick=settings.quick))
    mixed = replace(equal, seconds=lengths_of(MIXED, quick=settings.quick))
    first = _side("speechkit", ours, equal)
    sides = [first, _side("transformers", theirs, equal, _CLOSE), floor_of(first)]
    yield _group(equal, compare(sides, settings.trials))

    first = _side("speechkit, one batch", ours, mixed)
    sides = [
        first,
        _side("transformers, one by one", theirs, replace(mixed, alone=True), _CLOSE),
        _side("transformers, one batch", theirs, mixed),  # its group norm counts the padding
        floor_of(first),
    ]
    yield _group(mixed, compare(sides, settings.trials))


def _side(name: str, network: Callable[[Setup], Network], setup: Setup, tolerance: float | None = None) -> Side:
    return Side(name=name, make=step, arguments={"network": network, "setup": setup}, tolerance=tolerance)


def _group(setup: Setup, timings: list[Timing]) -> Group:
    return Group(what=f"float32, {describe(setup.seconds)}", timings=timings, audio_seconds=sum(setup.seconds))


def step(network: Callable[[Setup], Network], setup: Setup) -> Work:
    """A training step, ours with the memory settings of our trainings; gradients of several batches are added."""
    if network is ours:
        keep_memory()
    made = network(setup)
    made.model.train()
    adam = torch.optim.AdamW(made.model.parameters(), lr=1e-5, fused=True)

    def work() -> Output:
        losses: list[Tensor] = []
        for rows in made.states():
            new = [(row * _target(len(losses) + n, row)).mean() for n, row in enumerate(rows)]
            torch.stack(new).sum().backward()
            losses += [loss.detach() for loss in new]
        output = [torch.stack(losses), *(weight.grad.clone() for weight in made.watched if weight.grad is not None)]
        adam.step()
        adam.zero_grad()
        return output

    return work


def _target(number: int, row: Tensor) -> Tensor:
    """The target of an utterance `(F, D)`, the same for every side."""
    return _numbers(number, *row.shape, row.device)


@lru_cache
def _numbers(number: int, frames: int, width: int, device: torch.device) -> Tensor:
    generator = draws.generator(0, draws.EVALUATION, "sample", f"target {number}")
    return torch.randn(frames, width, generator=generator).to(device)
