"""The log of a stage, with the header and the closing lines of Kaldi's run.pl."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from speechkit.recipe.environment import Environment

_LOGGERS = ("speechkit", "py.warnings")
_STARTED = "# Started at"


@contextmanager
def stage_log(file: Path, command: str, environment: Environment) -> Iterator[logging.Logger]:
    """Append everything that speechkit logs to a file while the body runs; its logger is given."""
    file.parent.mkdir(parents=True, exist_ok=True)
    start = time.time()
    code = 1
    cpu = time.process_time()
    _append(
        file,
        [
            f"# {command}",
            f"# host {environment['host']}, python {environment['python']}, speechkit {environment['speechkit']}"
            f" {environment['commit'][:12]}{' (modified)' * environment['modified']}, torch {environment['torch']}",
            f"{_STARTED} {_date()}",
            "#",
        ],
    )
    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    with _attached(handler):
        try:
            yield logging.getLogger("speechkit.recipe.stage")
            code = 0
        finally:
            handler.close()
            seconds = time.time() - start
            _append(
                file,
                [
                    f"# Accounting: time={seconds:.0f} cpu={time.process_time() - cpu:.0f} threads=1",
                    f"# Ended (code {code}) at {_date()}, elapsed time {seconds:.0f} seconds",
                ],
            )


def tail(file: Path, count: int = 20) -> list[str]:
    """The last lines of what the newest run logged, without header and closing lines."""
    lines: list[str] = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith(_STARTED):
            lines = []
        elif not line.startswith("#"):
            lines.append(line)
    return lines[-count:]


@contextmanager
def _attached(handler: logging.Handler) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        if logger.getEffectiveLevel() > logging.INFO:  # the console's handler has a level of its own
            logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)


def _append(file: Path, lines: Sequence[str]) -> None:
    with file.open("a", encoding="utf-8") as stream:
        stream.writelines(f"{line}\n" for line in lines)


def _date() -> str:
    return time.strftime("%a %b %e %H:%M:%S %Z %Y")
