"""A data directory in N parts of about equal length."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from pathlib import Path

from speechkit.data.kaldi.combine import moved
from speechkit.data.kaldi.stats import durations
from speechkit.data.kaldi.tables import DataDir, root_of
from speechkit.errors import UsageError
from speechkit.files import whole


def split(
    path: str | Path,
    num_parts: int,
    out: str | Path,
    *,
    root: Path,
    per_utterance: bool = False,
    allow_pipes: bool = False,
) -> list[DataDir]:
    """Write `OUT/1` … `OUT/N`, all of them or none; an existing folder is replaced.

    Args:
        path: the data directory.
        num_parts: N.
        out: the folder for the parts.
        root: where relative paths count from.
        per_utterance: speakers may be divided.
        allow_pipes: run the commands in `wav.scp` where lengths have to be measured.

    Raises:
        UsageError: fewer speakers (or utterances) than parts.
    """
    tables = DataDir.read(path)
    ids = tables.ids
    groups: dict[str, list[str]] = {}
    for id in ids:
        groups.setdefault(id if per_utterance else tables.utt2spk.get(id, id), []).append(id)
    if not 1 <= num_parts <= len(groups):
        what = "utterances" if per_utterance else "speakers"
        possible = not per_utterance and 1 <= num_parts <= len(ids)
        hint = f"--per-utt divides speakers, into up to {len(ids)} parts" if possible else ""
        message = f"{path}: {len(groups)} {what} cannot make {num_parts} parts"
        raise UsageError(message, hint=hint, code="data.split")
    seconds = weights(path, tables, root=root, allow_pipes=allow_pipes)
    loads = {name: sum(seconds.get(id, 0.0) for id in members) for name, members in groups.items()}
    parts = []
    for names in balanced(loads, num_parts):
        part = tables.select(id for name in names for id in groups[name])
        parts.append(moved(part, root, root_of(Path(out) / "1")))
    with whole(out) as temporary:
        for number, part in enumerate(parts, 1):
            part.write(temporary / str(number))
    return parts


def weights(path: str | Path, tables: DataDir, *, root: Path, allow_pipes: bool) -> dict[str, float]:
    """What an utterance weighs: its seconds, without audio its frames, without both one."""
    if tables.segments or tables.utt2dur or tables.wav_scp:
        return durations(path, tables, root=root, allow_pipes=allow_pipes)
    frames = tables.others.get("utt2num_frames", {})
    return {id: float(frames.get(id, 1)) for id in tables.ids}


def balanced(loads: Mapping[str, float], num_parts: int) -> list[list[str]]:
    """Names in `num_parts` lists: the heaviest first into the lightest list. None is empty.

    Args:
        loads: what each name weighs; at least `num_parts` of them.
        num_parts: number of lists.
    """
    parts: list[list[str]] = [[] for _ in range(num_parts)]
    heap = [(0.0, 0, index) for index in range(num_parts)]
    for name in sorted(loads, key=lambda name: (-loads[name], name)):
        # the number of members decides between equals, so that names without weight fill empty lists too
        load, count, index = heapq.heappop(heap)
        parts[index].append(name)
        heapq.heappush(heap, (load + loads[name], count + 1, index))
    return parts
