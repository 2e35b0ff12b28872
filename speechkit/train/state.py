"""Checkpoints to continue a training from: folders `step-00001000` that are whole, or passed over.

A folder holds model.safetensors, optimizer.safetensors, average.safetensors (where the weights are averaged) and
state.json with the digests of the others.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from speechkit.checkpoints.weights import write_safetensors
from speechkit.config import plain
from speechkit.errors import UsageError
from speechkit.files import remove, sha256, whole, write_json
from speechkit.train.settings import TrainSettings

log = logging.getLogger(__name__)

_KEPT = 2  # the newest, and the one before it in case the newest is damaged


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """Weights that were kept: after how many steps, and the value that ranks them (None without validation)."""

    step: int
    value: float | None


@dataclass(kw_only=True, slots=True)
class TrainState:
    """Where a training stands. All that is drawn is addressed, so there are no generators to remember.

    Attributes:
        step: optimizer steps made, and the next one's number.
        max_steps: of the whole training, decided once.
        dtype: `float32` or `bfloat16`, decided once.
        seconds: spent in steps.
        audio_seconds: seen.
        skipped: steps left out because a loss or gradient was not finite.
        snapshots: weights kept so far.
        window: sums since the last row of metrics.jsonl.
        settings: of the training, for comparison.
    """

    max_steps: int
    dtype: str
    settings: dict[str, Any]
    step: int = 0
    seconds: float = 0.0
    audio_seconds: float = 0.0
    skipped: list[int] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    window: dict[str, Any] = field(default_factory=dict)


def comparable(settings: TrainSettings, seed: int) -> dict[str, Any]:
    """What a continued training must share with its beginning, as JSON has it."""
    shared: dict[str, Any] = plain(settings, decisive=True)
    return shared | {"seed": seed}


def save_checkpoint(folder: Path, state: TrainState, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write `folder/step-NNNNNNNN` and remove all but it and the one before.

    Those of later steps go too: the training went on from the newest whole one, so they are damaged.

    Args:
        folder: the folder of all checkpoints.
        state: where the training stands.
        tensors: by the name of their file (without `.safetensors`), by name.

    Raises:
        OutputError: the folder cannot be written to, or the disk is full.
    """
    with whole(folder / f"step-{state.step:08d}") as temporary:
        temporary.mkdir()
        digests = {}
        for name, content in tensors.items():
            file = temporary / f"{name}.safetensors"
            write_safetensors(file, content)
            digests[file.name] = sha256(file)
        write_json(temporary / "state.json", asdict(state) | {"digests": digests, "torch": torch.__version__})
    found = _checkpoints(folder)
    written = found.index(folder / f"step-{state.step:08d}")
    for other in found[:written] + found[written + _KEPT :]:
        remove(other)


def load_checkpoint(
    folder: Path, settings: Mapping[str, Any], *, tidy: bool = True
) -> tuple[TrainState, dict[str, dict[str, Tensor]]] | None:
    """Read the newest whole checkpoint of a folder; None when there is none.

    Damaged ones are passed over with a warning.

    Args:
        folder: the folder of all checkpoints.
        settings: what `comparable` says of the training now.
        tidy: remove what a killed run left half-written.

    Raises:
        UsageError: the training began with other settings.
    """
    for leftover in folder.glob(".step-*") if tidy else ():
        remove(leftover)
    for path in _checkpoints(folder):
        try:
            state, tensors = _read(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s is damaged (%s): it is passed over", path, error)
            continue
        _compare(path, state.settings, settings)
        return state, tensors
    return None


def planned_steps(folder: Path) -> int | None:
    """Steps of the whole training that the newest checkpoint of a folder belongs to; None where there is none."""
    for path in _checkpoints(folder):
        try:
            return int(json.loads((path / "state.json").read_text(encoding="utf-8"))["max_steps"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # damaged
    return None


def _read(path: Path) -> tuple[TrainState, dict[str, dict[str, Tensor]]]:
    fields = json.loads((path / "state.json").read_text(encoding="utf-8"))
    digests = fields.pop("digests")
    fields.pop("torch")
    for name, digest in digests.items():
        if sha256(path / name) != digest:
            raise ValueError(f"{name} is not what was written")
    fields["snapshots"] = [Snapshot(**s) for s in fields["snapshots"]]
    return TrainState(**fields), {Path(name).stem: load_file(path / name) for name in digests}


def _checkpoints(folder: Path) -> list[Path]:
    """The newest first."""
    return sorted(folder.glob("step-*"), reverse=True)


def _compare(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            raise UsageError(
                f"{path}: the training began with train.{key}={before.get(key)}, now it is {now.get(key)}",
                hint="go back to that setting, or train in another folder (--tag)",
                code="train.settings",
            )
