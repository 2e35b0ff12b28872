"""Praat's TextGrid, long text form: tiers of segments and words that tile the recording."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from speechkit.errors import InputError
from speechkit.pipelines.subtitles import overlapping
from speechkit.pipelines.transcript import Segment, Transcript, Word

_ITEM = re.compile(r"^ {4}item \[\d+\]:", re.MULTILINE)
_NAME = re.compile(r'^\s*name = "((?:[^"]|"")*)"', re.MULTILINE)
_INTERVAL = re.compile(r'xmin = (\S+)\s+xmax = (\S+)\s+text = "((?:[^"]|"")*)"')


def textgrid(transcript: Transcript) -> str:
    """The transcript as a TextGrid; tiers for each speaker when segments overlap."""
    duration = max([transcript.duration_s, *(s.end for s in transcript.segments)])
    tiers = list(_tiers(transcript))
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {_number(duration)}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, items) in enumerate(tiers, 1):
        intervals = _tile(items, duration)
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{_quoted(name)}"']
        lines += [
            "        xmin = 0",
            f"        xmax = {_number(duration)}",
            f"        intervals: size = {len(intervals)}",
        ]
        for i, (start, end, text) in enumerate(intervals, 1):
            lines += [f"        intervals [{i}]:", f"            xmin = {_number(start)}"]
            lines += [f"            xmax = {_number(end)}", f'            text = "{_quoted(text)}"']
    return "\n".join(lines) + "\n"


def parse_textgrid(text: str, name: str = "TextGrid") -> Transcript:
    """Read the tiers `segments` and `words`, of every speaker.

    Raises:
        InputError: it is no long TextGrid.
    """
    if '"TextGrid"' not in text or not _ITEM.search(text):
        raise InputError(f"{name}: not a TextGrid in Praat's long text form", code="format.parse")
    tiers: dict[str, list[tuple[float, float, str]]] = {}
    for item in _ITEM.split(text)[1:]:
        match = _NAME.search(item)
        found = ((float(a), float(b), t.replace('""', '"')) for a, b, t in _INTERVAL.findall(item))
        tiers[match[1].replace('""', '"') if match else ""] = [interval for interval in found if interval[2]]
    segments = []
    for tier, intervals in tiers.items():
        kind, _, speaker = tier.partition(":")
        if kind == "segments":
            words = [Word(text=" " + t, start=a, end=b) for a, b, t in tiers.get(f"words{tier[len(kind) :]}", [])]
            segments += [_with_words(Segment(start=a, end=b, text=t, speaker=speaker), words) for a, b, t in intervals]
    segments.sort(key=lambda s: (s.start, s.end))
    duration = re.search(r"^xmax = (\S+)", text, re.MULTILINE)
    joined = " ".join(s.text for s in segments)
    return Transcript(text=joined, segments=tuple(segments), duration_s=float(duration[1]) if duration else 0.0)


def _with_words(segment: Segment, words: Sequence[Word]) -> Segment:
    return replace(segment, words=tuple(w for w in words if segment.start <= w.start < segment.end))


def _tiers(transcript: Transcript) -> Iterator[tuple[str, list[tuple[float, float, str]]]]:
    speakers = transcript.speakers if overlapping(transcript.segments) else []
    for speaker in speakers or [""]:
        mine = [s for s in transcript.segments if not speaker or s.speaker == speaker]
        suffix = f":{speaker}" if speaker else ""
        yield f"segments{suffix}", [(s.start, s.end, s.text) for s in mine]
        words = [(w.start, w.end, w.text) for s in mine for w in s.words]
        if words:
            yield f"words{suffix}", words


def _tile(items: Iterable[tuple[float, float, str]], duration: float) -> list[tuple[float, float, str]]:
    intervals, at = [], 0.0
    for start, end, text in items:
        start = max(start, at)
        if _number(end) == _number(start) or end < start:
            continue  # an interval must have a length
        if _number(start) != _number(at):
            intervals.append((at, start, ""))
        intervals.append((start, end, " ".join(text.split())))
        at = end
    if _number(at) != _number(duration):
        intervals.append((at, duration, ""))
    return intervals


def _number(seconds: float) -> str:
    """`%g`, and beyond its six digits still the millisecond."""
    return f"{seconds:g}" if seconds < 1000 else f"{round(seconds, 3):.10g}"


def _quoted(text: str) -> str:
    return text.replace('"', '""')
