"""WavLM Base, forward: against transformers and ONNX Runtime with the same weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bench import onnx_peer
from bench.case import Group, Settings
from bench.floor import floor_of
from bench.networks import Network, Setup, describe, encoder_config, lengths_of, ours, theirs, write_encoder
from bench.timing import Output, Side, Timing, Work, compare
from speechkit.train.precision import choose_dtype

EQUAL, MIXED = [10.0] * 4, [10.0, 7.0, 4.5, 2.0]
_CLOSE = 1e-4  # float32 in another order
_ROUNDED = 0.1  # bfloat16, int8


def groups(settings: Settings) -> Iterator[Group]:
    """Equal lengths, mixed lengths, and bfloat16 where this CPU has units for it."""
    folder, quick = settings.folder, settings.quick
    write_encoder(folder, encoder_config("wavlm-base", quick=quick))
    onnx_peer.export(folder)
    equal = Setup(folder=folder, seconds=lengths_of(EQUAL, quick=quick))
    mixed = replace(equal, seconds=lengths_of(MIXED, quick=quick))
    exact = _side("speechkit, float32", ours, equal)
    sides = [
        exact,
        _side("transformers, float32", theirs, equal, _CLOSE),
        _onnx("ONNX Runtime, float32", folder / onnx_peer.FLOAT32, _CLOSE, seconds=equal.seconds),
        _onnx("ONNX Runtime, products in int8", folder / onnx_peer.INT8, _ROUNDED, seconds=equal.seconds),
        floor_of(exact),
    ]
    yield _group("float32", equal, compare(sides, settings.trials))

    padded = _side("speechkit, one batch", ours, mixed)
    sides = [
        padded,
        _side("transformers, one by one", theirs, replace(mixed, alone=True), _CLOSE),
        _side("transformers, one batch", theirs, mixed),  # its group norm counts the padding: a row is another alone
        _onnx("ONNX Runtime, one by one", folder / onnx_peer.FLOAT32, _CLOSE, seconds=mixed.seconds, alone=True),
        floor_of(padded),
    ]
    yield _group("float32", mixed, compare(sides, settings.trials))

    if quick or choose_dtype("auto", torch.device("cpu")) == torch.bfloat16:
        half = replace(equal, dtype=torch.bfloat16)
        rounded = _side("speechkit, bfloat16 autocast", ours, half, _ROUNDED)
        sides = [
            rounded,
            exact,
            _side("transformers, bfloat16 autocast", theirs, half, _ROUNDED),
            _side("transformers, bfloat16 weights", theirs, replace(half, weights=True), _ROUNDED),
            floor_of(rounded),
        ]
        yield _group("bfloat16", half, compare(sides, settings.trials, expected=1))


def _side(name: str, network: Callable[[Setup], Network], setup: Setup, tolerance: float | None = None) -> Side:
    return Side(name=name, make=forward, arguments={"network": network, "setup": setup}, tolerance=tolerance)


def _onnx(name: str, path: Path, tolerance: float, **arguments: Any) -> Side:
    return Side(name=name, make=onnx_peer.onnx_forward, arguments={"path": path} | arguments, tolerance=tolerance)


def _group(what: str, setup: Setup, timings: list[Timing]) -> Group:
    return Group(what=f"{what}, {describe(setup.seconds)}", timings=timings, audio_seconds=sum(setup.seconds))


def forward(network: Callable[[Setup], Network], setup: Setup) -> Work:
    """The last states of every utterance."""
    made = network(setup)

    def work() -> Output:
        with torch.inference_mode():
            return [row for rows in made.states() for row in rows]

    return work
