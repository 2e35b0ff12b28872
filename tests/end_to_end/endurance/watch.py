"""A command in a process of its own, watched from outside: how much memory and how many files it holds."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.end_to_end.commands import environment

PERIOD_SECONDS = 0.02
PAGE_MIB = os.sysconf("SC_PAGESIZE") / 2**20


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A process at a moment.

    Attributes:
        done: lines in the file that tells how far it is.
        mib: resident memory.
        handles: open files.
    """

    done: int
    mib: float
    handles: int


def watch(words: Sequence[object], lines: Path, out: Path) -> list[Sample]:
    """Run `speechkit WORDS` to its end and look at it all the time.

    Args:
        words: of the command line.
        lines: a file that gets a line for everything that is done.
        out: where standard output goes.
    """
    samples, seen = [], Lines(lines)
    command = [sys.executable, "-m", "speechkit", *map(str, words)]
    with out.open("wb") as output, out.with_suffix(".err").open("wb") as errors:
        process = subprocess.Popen(command, stdout=output, stderr=errors, env=environment())
        while process.poll() is None:
            samples.append(Sample(done=seen.count(), mib=resident(process.pid), handles=handles(process.pid)))
            time.sleep(PERIOD_SECONDS)
    assert process.returncode == 0, out.with_suffix(".err").read_text()
    return samples


class Lines:
    """Counts the lines of a file that grows."""

    def __init__(self, path: Path) -> None:
        self.path, self.lines, self.position = path, 0, 0

    def count(self) -> int:
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self.position)
                new = file.read()
            self.lines += new.count(b"\n")
            self.position += len(new)
        return self.lines


def resident(pid: int) -> float:
    """In MiB; 0 of a process that has just ended."""
    text = Path(f"/proc/{pid}/statm").read_text().split()
    return int(text[1]) * PAGE_MIB if text else 0.0


def handles(pid: int) -> int:
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:  # it has just ended
        return 0


def check_level(samples: Iterable[Sample], early: range, late: range, what: str) -> None:
    """Memory is as in the beginning but for 5 %, and so are open files; the figures are printed."""
    early_samples, late_samples = ([s for s in samples if s.done in part] for part in (early, late))
    before, after = (statistics.median(s.mib for s in part) for part in (early_samples, late_samples))
    files = [[min(s.handles for s in part), max(s.handles for s in part)] for part in (early_samples, late_samples)]
    print(
        f"\n{what} {early.start} to {early.stop}: {before:.0f} MiB, {files[0]} files; "
        f"{late.start} to {late.stop}: {after:.0f} MiB ({after / before:.3f}), {files[1]} files",
        end="",
    )
    assert after <= 1.05 * before
    assert files[1][1] <= files[0][1]
