"""On a CUDA device: large encoders in bfloat16, and features on the device; nothing where there is none.

The floor is one bfloat16 product with as many floating-point operations as the work's convolutions, products and
attention have. WavLM's class in transformers knows no SDPA; HuBERT's takes it, for the same network without the bias.
Both sides run as they are and with their layers compiled.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench import loader
from bench.case import Group, Settings
from bench.forward import forward
from bench.networks import Setup, describe, encoder_config, lengths_of, ours, theirs, write_encoder
from bench.timing import FLOOR, Output, Side, Work, compare
from bench.train_step import step

_PRESETS = ("wavlm-large", "hubert-large")
_ROUNDED, _ROUNDED_GRADIENTS = 0.1, 0.2  # bfloat16 on both sides
_SIDE = 8192  # rows and columns of the product, enough to fill a device


def groups(settings: Settings) -> Iterator[Group]:
    """Forward and training step of each preset, then features of an epoch."""
    if not torch.cuda.is_available():
        return
    works = (("forward", forward, _ROUNDED), ("training step", step, _ROUNDED_GRADIENTS))
    for preset in _PRESETS:
        folder = settings.folder / preset
        write_encoder(folder, encoder_config(preset, quick=settings.quick))
        seconds = lengths_of([15.0] * 16, quick=settings.quick)
        setup = Setup(folder=folder, seconds=seconds, dtype=torch.bfloat16, device="cuda")
        for name, make, tolerance in works:
            sides = [
                Side(
                    name=f"{who}, compiled" if compiled else who,
                    make=make,
                    arguments={"network": network, "setup": replace(setup, compiled=compiled)},
                    tolerance=tolerance,
                )
                for who, network in (("speechkit", ours), ("transformers", theirs))
                for compiled in (True, False)
            ]
            floor = {"make": make, "arguments": {"network": ours, "setup": setup}}
            timings = compare([*sides, Side(name=FLOOR, make=one_product, arguments=floor)], settings.trials)
            what = f"{preset}, {name}, bfloat16 autocast, {describe(seconds)}"
            yield Group(what=what, timings=timings, audio_seconds=sum(seconds))
    yield _features(settings)


def _features(settings: Settings) -> Group:
    """Speed perturbation and filter banks on the device, against workers that do it on CPUs."""
    index = loader.record(settings.folder / "long", *((8, 1, 2) if settings.quick else (400, 2, 16)))
    given = {"index": index, "batch_seconds": 200.0, "device": "cuda"}
    cores = os.cpu_count() or 1
    ours = [
        Side(name=f"device loader, {n} workers", make=loader.our_features, arguments=given | {"workers": n})
        for n in (4, 0)
    ]
    theirs = [
        Side(
            name=f"DataLoader and torchaudio, {n} workers",
            make=loader.their_features,
            arguments=given | {"workers": n},
            tolerance=loader.CLOSE,
        )
        for n in sorted({max(1, cores // 2), cores})
    ]
    timings = compare([*ours, *theirs], settings.trials)
    return Group(what=loader.WHAT, timings=timings, audio_seconds=loader.seconds_of(index))


def one_product(make: Callable[..., Work], arguments: Mapping[str, Any]) -> Work:
    """One product of as many operations as the work that `make` gives."""
    work = make(**arguments)
    with FlopCounterMode(display=False) as counter:
        work()
    del work
    torch.cuda.reset_peak_memory_stats()
    inner = 64 * max(1, round(counter.get_total_flops() / (2 * _SIDE**2 * 64)))  # others take slower kernels
    left = torch.randn(_SIDE, inner, dtype=torch.bfloat16, device="cuda")
    right = torch.randn(inner, _SIDE, dtype=torch.bfloat16, device="cuda")

    def product() -> Output:
        torch.mm(left, right)
        return []

    return product
