"""Signals as a wish to stop, which a stage that can continue later is asked to fulfil."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

_WORDS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGUSR1: "SIGUSR1"}


class StopSignals:
    """Notes SIGINT, SIGTERM and SIGUSR1 while it is entered.

    While `gentle`, the first SIGINT or SIGTERM is only noted; otherwise, and from the second on, it ends the work at
    once, as a KeyboardInterrupt or a SystemExit with code 143. SIGUSR1 is always only noted.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.gentle = False
        self.received: int | None = None
        self._tell = tell
        self._before: dict[int, Any] = {}

    def stopping(self) -> bool:
        """Whether the run is to end."""
        return self.received is not None

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python sets no handlers
            self._before = {number: signal.signal(number, self._receive) for number in _WORDS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        first = self.received in (None, signal.SIGUSR1)
        if number == signal.SIGUSR1 or (self.gentle and first):
            self.received = number
            again = "" if number == signal.SIGUSR1 else " (again: at once)"
            self._tell(f"{_WORDS[signal.Signals(number)]}: stopping at the next safe point{again}")
        elif number == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        else:
            raise KeyboardInterrupt
