"""How far a command is, on standard error: a bar on a terminal, else a line every half minute."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

LINE_SECONDS = 30.0


class Progress:
    """Counts seconds of audio.

    Args:
        total_s: of all inputs; None when unknown.
        shown: whether anything is printed at all.
    """

    def __init__(self, total_s: float | None, *, shown: bool) -> None:
        self.total_s = total_s
        self.shown = shown
        self.done_s = 0.0
        self.started = self.printed = time.monotonic()
        self.bar: Any = None

    def __enter__(self) -> Progress:
        if self.shown and sys.stderr.isatty():
            from tqdm import tqdm

            form = "{percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s audio [{elapsed}<{remaining}, {postfix}]"
            self.bar = tqdm(total=self.total_s, bar_format=form if self.total_s else None, leave=False, file=sys.stderr)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, seconds: float) -> None:
        """Note that so many seconds of audio are done."""
        self.done_s += seconds
        if self.bar is not None:
            self.bar.set_postfix_str(f"{self.speed:.0f}x", refresh=False)
            self.bar.update(seconds)
        elif self.shown and time.monotonic() - self.printed >= LINE_SECONDS:
            self.printed = time.monotonic()
            of_total = f" of {clock(self.total_s)}" if self.total_s else ""
            print(f"{clock(self.done_s)}{of_total} audio · {self.speed:.0f}x", file=sys.stderr)

    def message(self, text: str) -> None:
        """Print a line on standard error without tearing the bar."""
        if self.bar is not None:
            self.bar.clear()
        print(text, file=sys.stderr, flush=True)

    @property
    def speed(self) -> float:
        """Seconds of audio a second."""
        return self.done_s / max(time.monotonic() - self.started, 1e-3)


def clock(seconds: float) -> str:
    """`h:mm:ss`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
