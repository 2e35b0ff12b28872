"""What a training tells: rows of metrics.jsonl, and one line for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from speechkit.allocator import resident_mib
from speechkit.files import unwritable, write_text
from speechkit.train.tensorboard import Board
from speechkit.train.update import Update

_ABOUT_THE_RUN = {
    "learning_rate",
    "gradient_norm",
    "epoch",
    "audio_hours",
    "audio_seconds_per_second",
    "wait_share",
    "padding_share",
    "memory_mib",
    "skipped",
}


@dataclass(kw_only=True, slots=True)
class Window:
    """Sums of the steps since the last row."""

    steps: int = 0
    loss: float = 0.0
    gradient_norm: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    audio_seconds: float = 0.0
    wait_seconds: float = 0.0

    def add(self, update: Update, *, seconds: float, audio_seconds: float, wait_seconds: float) -> None:
        """Take in a step; the time of one that was skipped counts, its losses do not."""
        self.seconds += seconds
        self.audio_seconds += audio_seconds
        self.wait_seconds += wait_seconds
        if not update.finite:
            return
        self.steps += 1
        self.loss += update.loss
        self.gradient_norm += update.gradient_norm
        for name, value in update.sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0.0) + update.counts[name]

    def values(self) -> dict[str, float]:
        """The mean loss and gradient norm of the steps, every term over its count, and the rates."""
        steps, seconds = max(self.steps, 1), max(self.seconds, 1e-9)
        return {
            "loss": self.loss / steps,
            **{name: total / max(self.counts[name], 1.0) for name, total in self.sums.items()},
            "gradient_norm": self.gradient_norm / steps,
            "audio_seconds_per_second": self.audio_seconds / seconds,
            "wait_share": self.wait_seconds / seconds,
        }


class Metrics:
    """The file metrics.jsonl: an object a line, `kind` being `train` or `valid`, `step` the steps made.

    Beside it lies `tensorboard/` with the same rows; see `Board`.
    """

    def __init__(self, path: Path, step: int) -> None:
        """Go on after `step`: rows of later steps, made by a run that was killed, are dropped."""
        self.path = path
        rows = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        rows = [row for row in rows if _step_of(row) <= step]
        write_text(path, "".join(row + "\n" for row in rows))
        self._board = Board(path.with_name("tensorboard"), map(json.loads, rows))

    def write(self, kind: str, step: int, values: Mapping[str, float | str]) -> None:
        """Append a row.

        Raises:
            OutputError: the disk is full.
        """
        row = {"kind": kind, "step": step} | dict(values)
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            self._board.write(row)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def close(self) -> None:
        """Write what is left for TensorBoard."""
        self._board.close()


def line(values: Mapping[str, float | str], seconds_left: float) -> str:
    """One line for people: the losses of a training, its speed and the time left."""
    numbers = {name: value for name, value in values.items() if not isinstance(value, str)}
    losses = [f"{name} {value:.3g}" for name, value in numbers.items() if name not in _ABOUT_THE_RUN]
    parts = [
        *losses,
        f"lr {numbers['learning_rate']:.1e}",
        f"norm {numbers['gradient_norm']:.2g}",
        f"{numbers['audio_seconds_per_second']:,.0f} s audio/s",
        f"wait {numbers['wait_share']:.1%}",
        f"pad {numbers['padding_share']:.1%}",
        f"{numbers['memory_mib']:,.0f} MiB",
        f"{_clock(seconds_left)} left",
    ]
    if numbers["skipped"]:
        parts.append(f"{numbers['skipped']:.0f} skipped")
    return " · ".join(parts + [value for value in values.values() if isinstance(value, str)])


def validation_line(values: Mapping[str, float | str]) -> str:
    """One line for people about a validation."""
    shown = [value if isinstance(value, str) else f"{name} {value:.4g}" for name, value in values.items()]
    return " · ".join(["validated", *shown])


def memory_mib(device: torch.device) -> float:
    """Resident memory of this process, or what is allocated on a CUDA device at most, in MiB."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else resident_mib()


def _step_of(row: str) -> float:
    """The step of a row; infinite for one that a killed run left half-written."""
    try:
        return int(json.loads(row)["step"])
    except json.JSONDecodeError:
        return float("inf")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
