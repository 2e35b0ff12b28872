"""How a long command tells how it goes: lines, and a bar on a terminal."""

from __future__ import annotations

import sys
import time

_LINE_SECONDS = 30.0


class Console:
    """Tells on standard error how a run goes, and on standard output what came out."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def line(self, text: str) -> None:
        """Say what is happening."""
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)

    def result(self, text: str) -> None:
        """Say what came out."""
        print(text, flush=True)

    def bar(self, label: str, unit: str) -> _Bar | _Lines:
        """A bar on a terminal, else a line every half minute."""
        if sys.stderr.isatty() and not self._quiet:
            return _Bar(label, unit)
        return _Lines(self, label, unit)


class _Bar:
    def __init__(self, label: str, unit: str) -> None:
        from tqdm import tqdm

        self._bar = tqdm(desc=label, unit=f" {unit}", leave=False, dynamic_ncols=True)

    def update(self, done: int, total: int, text: str) -> None:
        self._bar.total = total
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


class _Lines:
    def __init__(self, console: Console, label: str, unit: str) -> None:
        self._console, self._label, self._unit = console, label, unit
        self._printed = time.monotonic()

    def update(self, done: int, total: int, text: str) -> None:
        if time.monotonic() - self._printed >= _LINE_SECONDS:
            self._printed = time.monotonic()
            text = f", {text}" if text else ""
            self._console.line(f"{self._label}: {self._unit} {done} of {total}{text}")

    def close(self) -> None:
        """Nothing is left open."""
