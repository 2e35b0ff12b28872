"""What is measured as a Markdown table, and the page that keeps the last table of every case."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from bench.case import Group
from bench.timing import FLOOR, Timing

HEAD = ("what", "who", "median s", "spread s", "time / ours", "× real time", "floor / time", "peak MiB", "difference")
LEGEND = """\
# Side by side

Written by `make bench` (`make bench CASES=forward` for one case). All sides of a case did the same work in turns, each
in a process of its own that keeps its data; outputs were compared before anything was timed.

- time / ours: how many times as long as speechkit a side takes.
- × real time: seconds of audio, padding not counted, in a second.
- floor / time: the share of a side's time that speechkit's convolutions, matrix products and attention kernels alone
  take; on a GPU, one product of as many operations.
- peak MiB: the most that the process held, weights and libraries included, or allocated on a GPU; without the processes
  that a side starts.
- difference: ‖output − expected‖ / ‖expected‖, or the share of texts that differ; expected is what speechkit gives, in
  float32 where types differ. In brackets what was allowed.
"""


def table(groups: Sequence[Group]) -> str:
    """The groups one below the other."""
    rows = [list(HEAD), ["---", "---", *["---:"] * (len(HEAD) - 2)]]
    for group in groups:
        rows += _rows(group)
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def page(old: str, cases: Sequence[str], sections: Mapping[str, str]) -> str:
    """The page with new sections in place of those of the same cases; other cases keep theirs.

    Args:
        old: text of the page, empty where there is none.
        cases: all there are, in their order.
        sections: what is new, by case.
    """
    parts = re.split(r"^## (\S+)\n", old, flags=re.MULTILINE)[1:]
    known = dict(zip(parts[::2], (part.strip() for part in parts[1::2]), strict=True)) | dict(sections)
    return "\n".join([LEGEND, *(f"## {case}\n\n{known[case].strip()}\n" for case in cases if case in known)])


def _rows(group: Group) -> list[list[str]]:
    ours = group.timings[0].median
    floor = next((t.median for t in group.timings if t.name == FLOOR), None)
    rows = []
    for timing in group.timings:
        least, most = min(timing.seconds), max(timing.seconds)
        rows.append(
            [
                group.what,
                timing.name,
                _number(timing.median),
                f"{_number(least)}–{_number(most)}",
                f"{timing.median / ours:.2f}",
                f"{group.audio_seconds / timing.median:,.1f}" if group.audio_seconds and timing.name != FLOOR else "",
                "" if floor is None else f"{floor / timing.median:.0%}",
                f"{timing.memory_mib:,.0f}",
                _difference(timing),
            ]
        )
    return rows


def _difference(timing: Timing) -> str:
    if timing.difference is None:
        return ""
    return f"{timing.difference:.1g}" + ("" if timing.tolerance is None else f" ({timing.tolerance:g})")


def _number(seconds: float) -> str:
    return f"{seconds:.3g}" if seconds < 100 else f"{seconds:.0f}"
