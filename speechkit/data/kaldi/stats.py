"""How much a data directory holds: hours, utterances, speakers, words, and how long the utterances are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from speechkit.data.kaldi.spans import END_OF_RECORDING, number, parse_times
from speechkit.data.kaldi.tables import DataDir, Table
from speechkit.data.kaldi.utterances import utterances
from speechkit.errors import InputError

EDGES_SECONDS = (0, 1, 2, 5, 10, 15, 20, 30)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stats:
    """Figures of one data directory; times in seconds.

    Attributes:
        histogram: utterances from each of EDGES_SECONDS up to the next, the last one without end.
    """

    num_utterances: int
    num_speakers: int
    num_words: int
    hours: float
    shortest_s: float
    mean_s: float
    median_s: float
    longest_s: float
    histogram: tuple[int, ...]


def stats(path: str | Path, *, root: Path, allow_pipes: bool = False) -> Stats:
    """The figures of a data directory.

    Raises:
        InputError: a table breaks the form, the directory is empty, or recordings that had to be measured cannot be.
    """
    tables = DataDir.read(path)
    seconds = sorted(durations(path, tables, root=root, allow_pipes=allow_pipes).values())
    if not seconds:
        raise InputError(f"{path}: no utterances", code="data.empty")
    counts = [0] * len(EDGES_SECONDS)
    for value in seconds:
        counts[sum(value >= edge for edge in EDGES_SECONDS) - 1] += 1
    middle = len(seconds) // 2
    return Stats(
        num_utterances=len(seconds),
        num_speakers=len(set(tables.utt2spk.values())),
        num_words=sum(len(text.split(" ")) for text in tables.text.values() if text),
        hours=math.fsum(seconds) / 3600,
        shortest_s=seconds[0],
        mean_s=math.fsum(seconds) / len(seconds),
        median_s=(seconds[middle] + seconds[~middle]) / 2,
        longest_s=seconds[-1],
        histogram=tuple(counts),
    )


def durations(path: str | Path, tables: DataDir, *, root: Path, allow_pipes: bool = False) -> dict[str, float]:
    """Seconds of every utterance: by `segments`, else by `utt2dur`, else measured from headers.

    Raises:
        InputError: as `kaldi.utterances`, where it has to measure.
    """
    for known in (_by_segments(tables.segments), {} if tables.segments else _by_utt2dur(tables.utt2dur)):
        if known and known.keys() >= set(tables.ids):
            return known
    return {u.id: u.duration_s for u in utterances(path, root=root, allow_pipes=allow_pipes)}


def _by_segments(segments: Table) -> dict[str, float]:
    """Nothing when a segment has no end of its own or its times make no sense."""
    known = {}
    for id, value in segments.items():
        fields = value.split(" ")
        try:
            start, end = parse_times(fields[1], fields[2])
        except (ValueError, IndexError):
            return {}
        if end == END_OF_RECORDING:
            return {}
        known[id] = round(end - start, 6)
    return known


def _by_utt2dur(utt2dur: Table) -> dict[str, float]:
    known = {id: number(value) for id, value in utt2dur.items()}
    return known if all(seconds > 0 for seconds in known.values()) else {}
