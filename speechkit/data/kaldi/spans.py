"""From the seconds of `segments` to samples, by the rules of Kaldi's extract-segments."""

from __future__ import annotations

import math
import re

MIN_SEGMENT_SECONDS = 0.1
MAX_OVERSHOOT_SECONDS = 0.5
END_OF_RECORDING = -1.0

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class SegmentDroppedError(ValueError):
    """A segment that Kaldi leaves out; `code` is that of the validation rule."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def number(text: str) -> float:
    """A finite decimal number, or NaN for anything else."""
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    return value if math.isfinite(value) else math.nan


def parse_times(start: str, end: str) -> tuple[float, float]:
    """Start and end in seconds; the end may be -1, the end of the recording.

    Raises:
        ValueError: one of them is no number, or the end is not after the start; the message quotes them.
    """
    times = number(start), number(end)
    for name, text, seconds in zip(("start", "end"), (start, end), times, strict=True):
        if math.isnan(seconds):
            raise ValueError(f"{name} '{text}' is not a number")
    if times[1] != END_OF_RECORDING and times[1] <= times[0]:
        raise ValueError(f"end {end} is not after start {start}")
    return times


def segment_span(start_s: float, end_s: float, num_samples: int, sample_rate: int) -> tuple[int, int]:
    """First sample and number of samples of a segment; an end a little beyond the recording is clipped.

    Args:
        start_s: not negative.
        end_s: later than the start, or -1 for the end of the recording.
        num_samples: of the recording.
        sample_rate: of the recording, in Hz.

    Raises:
        SegmentDroppedError: shorter than 0.1 s, starting beyond the recording or ending more than 0.5 s beyond it.
    """
    start = math.floor(start_s * sample_rate + 0.5)
    end = num_samples if end_s == END_OF_RECORDING else math.floor(end_s * sample_rate + 0.5)
    seconds = num_samples / sample_rate
    if start >= num_samples:
        raise SegmentDroppedError("E132", f"starts at {start_s:g} s but the recording lasts {seconds:.3f} s")
    if end - num_samples > MAX_OVERSHOOT_SECONDS * sample_rate:
        raise SegmentDroppedError("E132", f"ends at {end_s:g} s but the recording lasts {seconds:.3f} s")
    length = min(end, num_samples) - start
    if length < MIN_SEGMENT_SECONDS * sample_rate:
        raise SegmentDroppedError("W134", f"lasts {length / sample_rate:.3f} s, less than {MIN_SEGMENT_SECONDS:g} s")
    return start, length
