"""A training step of WavLM Base: forward, backward, AdamW; against transformers with the same weights and targets.

The loss is the mean product of the states and fixed random targets over the frames of each utterance, summed; nothing
is dropped or masked, so that gradients can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.case import Group, Settings
from bench.floor import floor_of
from bench.forward import EQUAL, MIXED
from bench.networks import (
    attention_mask,
    batches,
    describe,
    encoder_config,
    our_model,
    their_model,
    valid_rows,
    write_encoder,
)
from bench.timing import Output, Side, Work, compare
from speechkit import draws
from speechkit.allocator import keep_memory
from speechkit.train.precision import autocast

_CLOSE = 1e-3  # gradients in float32, added in another order


def groups(settings: Settings) -> Iterator[Group]:
    """Equal and mixed lengths."""
    write_encoder(settings.folder, encoder_config("wavlm-base", quick=settings.quick))
    share = 0.1 if settings.quick else 1.0
    equal, mixed = ([share * length for length in lengths] for lengths in (EQUAL, MIXED))
    padded: dict[str, Any] = {"folder": settings.folder, "seconds": equal}
    ours = Side(name="speechkit", make=our_step, arguments=padded)
    theirs = Side(name="transformers", make=their_step, arguments=padded, tolerance=_CLOSE)
    timings = compare([ours, theirs, floor_of(ours)], settings.trials)
    yield Group(what=f"float32, {describe(equal)}", timings=timings, audio_seconds=sum(equal))

    padded = padded | {"seconds": mixed}
    ours = Side(name="speechkit, one batch", make=our_step, arguments=padded)
    sides = [
        ours,
        Side(
            name="transformers, one by one",
            make=their_step,
            arguments=padded | {"alone": True},
            tolerance=_CLOSE,
        ),
        Side(name="transformers, one batch", make=their_step, arguments=padded),  # its group norm counts the padding
        floor_of(ours),
    ]
    timings = compare(sides, settings.trials)
    yield Group(what=f"float32, {describe(mixed)}", timings=timings, audio_seconds=sum(mixed))


def our_step(
    folder: Path,
    seconds: list[float],
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    *,
    compiled: bool = False,
) -> Work:
    """Ours, in one padded batch, with the memory settings of our trainings."""
    keep_memory()
    model = our_model(folder, device, compiled=compiled).train()
    waves, lengths = batches(seconds, device=device)[0]
    frames = model.num_frames(lengths)

    def forward() -> Iterator[list[Tensor]]:
        with autocast(dtype, waves.device):
            states = model(waves, lengths.to(waves.device))  # as the loader gives them
        yield valid_rows(states.output, frames)

    watched = [model.front_end.convs[1].weight, model.transformer.layers[0].fc1.weight]
    return step(forward, list(model.parameters()), watched)


def their_step(
    folder: Path,
    seconds: list[float],
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    *,
    alone: bool = False,
    compiled: bool = False,
) -> Work:
    """Theirs, in one padded batch, or one by one with their gradients added."""
    model = their_model(folder, device, compiled=compiled).train()
    given = [
        (waves, attention_mask(waves, lengths), model._get_feat_extract_output_lengths(lengths))
        for waves, lengths in batches(seconds, alone=alone, device=device)
    ]

    def forward() -> Iterator[list[Tensor]]:
        for waves, mask, frames in given:
            with autocast(dtype, waves.device):
                states = model(waves, attention_mask=mask).last_hidden_state
            yield valid_rows(states, frames)

    encoder = model.encoder.layers[0].feed_forward
    watched = [model.feature_extractor.conv_layers[1].conv.weight, encoder.intermediate_dense.weight]
    return step(forward, list(model.parameters()), watched)


def step(
    forward: Callable[[], Iterator[list[Tensor]]], parameters: Sequence[Tensor], watched: Sequence[Tensor]
) -> Work:
    """A training step.

    Args:
        forward: gives the states `(F, D)` of utterances, batch by batch.
        parameters: that are trained.
        watched: whose gradients are the output, besides the loss.
    """
    adam = torch.optim.AdamW(parameters, lr=1e-5, fused=True)

    def work() -> Output:
        losses: list[Tensor] = []
        for rows in forward():
            new = [(row * _target(len(losses) + n, row)).mean() for n, row in enumerate(rows)]
            torch.stack(new).sum().backward()
            losses += [loss.detach() for loss in new]
        output = [torch.stack(losses), *(parameter.grad.clone() for parameter in watched if parameter.grad is not None)]
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
