from __future__ import annotations

import io

import pytest

from speechkit.cli import progress
from speechkit.cli.progress import Progress, clock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with Progress(20.0, shown=True) as shown:
        shown(5.0)
        shown.message("speechkit: warning: x")
    assert "20 s audio" in terminal.getvalue()
    assert "speechkit: warning: x\n" in terminal.getvalue()


def test_anything_else_gets_a_line_every_half_minute(at: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(7200.0, shown=True) as shown:
        for _ in range(7):
            at[0] += 10.0
            shown(100.0)
    assert capsys.readouterr().err.splitlines() == [
        "0:05:00 of 2:00:00 audio · 10x",
        "0:10:00 of 2:00:00 audio · 10x",
    ]


def test_nothing_is_shown_when_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    with Progress(20.0, shown=False) as shown:
        shown(5.0)
    assert progress.sys.stderr.getvalue() == ""
    assert shown.done_s == 5.0


def test_hours_are_written_out() -> None:
    assert [clock(s) for s in (0, 59.6, 3725)] == ["0:00:00", "0:01:00", "1:02:05"]
