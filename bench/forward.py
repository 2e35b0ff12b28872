"""WavLM Base, forward: against transformers and ONNX Runtime with the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from bench import onnx_peer
from bench.case import Group, Settings
from bench.floor import floor_of
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
from speechkit.train.precision import autocast, choose_dtype

EQUAL, MIXED = [10.0] * 4, [10.0, 7.0, 4.5, 2.0]
_CLOSE = 1e-4  # float32 in another order
_ROUNDED = 0.1  # bfloat16, int8


def groups(settings: Settings) -> Iterator[Group]:
    """Equal lengths, mixed lengths, and bfloat16 where this CPU has units for it."""
    folder, share = settings.folder, 0.1 if settings.quick else 1.0
    write_encoder(folder, encoder_config("wavlm-base", quick=settings.quick))
    onnx_peer.export(folder)
    equal, mixed = ([share * length for length in lengths] for lengths in (EQUAL, MIXED))
    at_once: dict[str, Any] = {"folder": folder, "seconds": equal}
    ours = Side(name="speechkit, float32", make=forward, arguments=at_once)
    theirs = Side(name="transformers, float32", make=their_forward, arguments=at_once, tolerance=_CLOSE)
    sides = [
        ours,
        theirs,
        _onnx("ONNX Runtime, float32", folder / onnx_peer.FLOAT32, _CLOSE, seconds=equal),
        _onnx("ONNX Runtime, products in int8", folder / onnx_peer.INT8, _ROUNDED, seconds=equal),
        floor_of(ours),
    ]
    yield Group(what=f"float32, {describe(equal)}", timings=compare(sides, settings.trials), audio_seconds=sum(equal))

    padded: dict[str, Any] = {"folder": folder, "seconds": mixed}
    alone = padded | {"alone": True}
    ours_mixed = Side(name="speechkit, one batch", make=forward, arguments=padded)
    sides = [
        ours_mixed,
        Side(name="transformers, one by one", make=their_forward, arguments=alone, tolerance=_CLOSE),
        # its group norm counts the padding, so a row is not what it is alone
        Side(name="transformers, one batch", make=their_forward, arguments=padded),
        _onnx("ONNX Runtime, one by one", folder / onnx_peer.FLOAT32, _CLOSE, seconds=mixed, alone=True),
        floor_of(ours_mixed),
    ]
    yield Group(what=f"float32, {describe(mixed)}", timings=compare(sides, settings.trials), audio_seconds=sum(mixed))

    if settings.quick or choose_dtype("auto", torch.device("cpu")) == torch.bfloat16:
        half = at_once | {"dtype": torch.bfloat16}
        rounded = Side(name="speechkit, bfloat16 autocast", make=forward, arguments=half, tolerance=_ROUNDED)
        sides = [
            rounded,
            ours,
            Side(
                name="transformers, bfloat16 autocast", make=their_forward, arguments=half, tolerance=_ROUNDED
            ),
            Side(
                name="transformers, bfloat16 weights", make=their_forward, tolerance=_ROUNDED,
                arguments=half | {"weights": True},
            ),
            floor_of(rounded),
        ]  # fmt: skip
        timings = compare(sides, settings.trials, expected=1)
        yield Group(what=f"bfloat16, {describe(equal)}", timings=timings, audio_seconds=sum(equal))


def _onnx(name: str, path: Path, tolerance: float, **arguments: Any) -> Side:
    return Side(name=name, make=onnx_peer.onnx_forward, arguments={"path": path} | arguments, tolerance=tolerance)


def forward(
    folder: Path,
    seconds: list[float],
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    *,
    compiled: bool = False,
) -> Work:
    """Ours, in one padded batch."""
    model = our_model(folder, device, compiled=compiled)
    waves, lengths = batches(seconds, device=device)[0]
    frames = model.num_frames(lengths)

    def work() -> Output:
        with torch.inference_mode(), autocast(dtype, waves.device):
            states = model(waves, lengths)
        return valid_rows(states.output, frames)

    return work


def their_forward(
    folder: Path,
    seconds: list[float],
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    *,
    weights: bool = False,
    alone: bool = False,
    compiled: bool = False,
) -> Work:
    """Theirs, in one padded batch or one by one; in `dtype` by autocast, or with weights of that type."""
    model = their_model(folder, device, dtype if weights else torch.float32, compiled=compiled)
    given = []
    for waves, lengths in batches(seconds, alone=alone, device=device):
        waves_given = waves.to(dtype) if weights else waves
        given.append((waves_given, attention_mask(waves, lengths), model._get_feat_extract_output_lengths(lengths)))

    def work() -> Output:
        rows = []
        for waves, mask, frames in given:
            with torch.inference_mode(), autocast(torch.float32 if weights else dtype, waves.device):
                states = model(waves, attention_mask=mask).last_hidden_state
            rows += valid_rows(states, frames)
        return rows

    return work
