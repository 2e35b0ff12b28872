"""What a case is told, and what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.timing import Timing


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What the command line says.

    Attributes:
        trials: turns of each side.
        quick: tiny networks and little audio, to see that all works; its times mean nothing.
        folder: for what a case writes; it is thrown away.
        model: a CTC model that `transcribe` times besides its own.
        recordings: what that model reads, a folder.
    """

    trials: int
    quick: bool
    folder: Path
    model: Path | None = None
    recordings: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Sides that did the same.

    Attributes:
        what: they did.
        timings: ours first.
        audio_seconds: that each worked on; 0 where it is no audio.
    """

    what: str
    timings: Sequence[Timing]
    audio_seconds: float = 0.0
