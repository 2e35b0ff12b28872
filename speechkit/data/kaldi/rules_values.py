"""Rules on the values of small tables: numbers, genders, warps, channels (E151, E153, W153)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from speechkit.data.kaldi.directory import Directory, Record
from speechkit.data.kaldi.problem import Problem
from speechkit.data.kaldi.spans import number

_DURATIONS = ("utt2dur", "reco2dur")
_COUNTS = ("utt2num_frames", "utt2num_samples")
_WARPS = ("utt2warp", "spk2warp")
_INTEGER = re.compile(r"-?\d+", re.ASCII)


def check_values(directory: Directory) -> Iterator[Problem]:
    """All rules on values."""
    for name, table in directory.tables.items():
        for record in table.records:
            if table.has_fields(record) and (found := _wrong(name, record)):
                code, message = found
                yield Problem(file=name, line=record.line, code=code, message=message)


def _wrong(name: str, record: Record) -> tuple[str, str] | None:
    value = record.fields[-1 if name == "reco2file_and_channel" else 0] if record.fields else ""
    if name in _DURATIONS:
        return _wrong_duration(value)
    if name in _COUNTS:
        return _wrong_count(value)
    if name in _WARPS and not 0.5 < number(value) < 1.5:
        return "E153", f"warp '{value}' must lie between 0.5 and 1.5"
    if name == "spk2gender" and value not in ("m", "f"):
        return "E153", f"gender '{value}' must be m or f"
    if name == "reco2file_and_channel" and value == "1":
        return "W153", "channel '1' is taken for A"
    if name == "reco2file_and_channel" and value not in ("A", "B"):
        return "E153", f"channel '{value}' must be A or B"
    return None


def _wrong_duration(value: str) -> tuple[str, str] | None:
    seconds = number(value)
    if math.isnan(seconds):
        return "E151", f"duration '{value}' is not a number"
    return None if seconds > 0 else ("E151", f"duration '{value}' is not positive")


def _wrong_count(value: str) -> tuple[str, str] | None:
    if not _INTEGER.fullmatch(value):
        return "E151", f"'{value}' is not an integer"
    return None if int(value) > 0 else ("E151", f"number '{value}' is not positive")
