"""Subtitles: cues from segments or from words, written as SubRip (srt) and WebVTT (vtt), and read back.

Source of the line splitting: openai/whisper, whisper/utils.py (its options keep their names).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from speechkit.errors import InputError
from speechkit.pipelines.transcript import Segment, Transcript, Word

_WIDE = 1000  # characters of a line when no width is given
_LONG_PAUSE = 3.0  # seconds from word to word that break a cue when both width and count are given
_TIMES = re.compile(r"^((?:\d+:)?\d+:\d+[.,]\d+)[ \t]+-->[ \t]+((?:\d+:)?\d+:\d+[.,]\d+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How text is laid out in lines and cues.

    Attributes:
        max_line_width: characters of a line.
        max_line_count: lines of a cue.
        max_words_per_line: words of a cue; without effect when both width and count are given.
        highlight_words: one cue a word, with that word underlined.
        speaker_labels: whether speakers are written.
    """

    max_line_width: int | None = None
    max_line_count: int | None = None
    max_words_per_line: int | None = None
    highlight_words: bool = False
    speaker_labels: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Cue:
    """What is shown from one moment to another; times in milliseconds."""

    start: int
    end: int
    text: str
    speaker: str = ""


def milliseconds(seconds: float) -> int:
    """Seconds as milliseconds, half to even."""
    return round(seconds * 1000)


def srt(transcript: Transcript, layout: Layout) -> str:
    """The transcript as SubRip."""
    blocks = []
    for number, cue in enumerate(_cues(transcript.segments, layout), 1):
        label = f"[{cue.speaker}]: " if layout.speaker_labels and cue.speaker else ""
        blocks.append(
            f"{number}\n{_clock(cue.start, ',', True)} --> {_clock(cue.end, ',', True)}\n{label}{cue.text}\n\n"
        )
    return "".join(blocks)


def vtt(transcript: Transcript, layout: Layout) -> str:
    """The transcript as WebVTT."""
    blocks = ["WEBVTT\n\n"]
    for cue in _cues(transcript.segments, layout):
        label = f"<v {cue.speaker}>" if layout.speaker_labels and cue.speaker else ""
        blocks.append(f"{_clock(cue.start, '.', False)} --> {_clock(cue.end, '.', False)}\n{label}{cue.text}\n\n")
    return "".join(blocks)


def parse_subtitles(text: str, name: str = "subtitles") -> Transcript:
    """Read srt or vtt: a segment a cue.

    Raises:
        InputError: there is text without a line of times.
    """
    segments = []
    for block in re.split(r"\n[ \t]*\n+", text.replace("\r\n", "\n").removeprefix("\ufeff").strip("\n")):
        match = _TIMES.search(block)
        if match:
            speaker, shown = _speaker_of(block[match.end() :].partition("\n")[2].strip("\n"))
            segments.append(Segment(start=_seconds(match[1]), end=_seconds(match[2]), text=shown, speaker=speaker))
        elif block.strip() and not block.startswith(("WEBVTT", "NOTE", "STYLE", "REGION")):
            raise InputError(f"{name}: not subtitles: {block.splitlines()[0]!r} has no times", code="format.parse")
    return Transcript(text=" ".join(s.text for s in segments), segments=tuple(segments))


def _speaker_of(text: str) -> tuple[str, str]:
    match = re.match(r"<v ([^>]+)>|\[(SPEAKER_\d+)\]: ", text)
    return ((match[1] or match[2]), text[match.end() :]) if match else ("", text)


def _clock(ms: int, point: str, hours: bool) -> str:
    rest, thousandth = divmod(ms, 1000)
    minutes, seconds = divmod(rest, 60)
    hour, minute = divmod(minutes, 60)
    shown = f"{hour:02d}:" if hours or hour else ""
    return f"{shown}{minute:02d}:{seconds:02d}{point}{thousandth:03d}"


def _seconds(clock: str) -> float:
    *hours, minutes, seconds = clock.replace(",", ".").split(":")
    whole = int(hours[0]) * 60 + int(minutes) if hours else int(minutes)
    return round(whole * 60 + float(seconds), 3)


def _cues(segments: Sequence[Segment], layout: Layout) -> Iterator[Cue]:
    if not segments or not segments[0].words:
        for s in segments:
            text = s.text.strip().replace("-->", "->")
            yield Cue(start=milliseconds(s.start), end=milliseconds(s.end), text=text, speaker=s.speaker)
        return
    for speaker, words in _words_of_cues(segments, layout):
        if layout.highlight_words:
            yield from _highlighted(words, speaker)
        else:
            text = "".join(word.text for word in words)
            yield Cue(start=milliseconds(words[0].start), end=milliseconds(words[-1].end), text=text, speaker=speaker)


def _words_of_cues(segments: Sequence[Segment], layout: Layout) -> Iterator[tuple[str, list[Word]]]:
    """Words gathered into cues; a word that begins a further line of its cue carries the line break."""
    width, count = layout.max_line_width or _WIDE, layout.max_line_count
    keep = layout.max_line_width is None or count is None
    cue: list[Word] = []
    speaker, lines, length, before = "", 1, 0, 0.0
    for segment in segments:
        for position, word in enumerate(segment.words):
            forced = keep and position % (layout.max_words_per_line or len(segment.words)) == 0
            paused = not keep and bool(cue) and word.start - before > _LONG_PAUSE
            text = word.text
            if length and length + len(text) <= width and not forced and not paused:
                length += len(text)
            else:
                text = text.strip()
                if cue and (forced or (count is not None and (paused or lines >= count))):
                    yield speaker, cue
                    cue, lines = [], 1
                elif length:
                    lines, text = lines + 1, "\n" + text
                length = len(text.strip())
            speaker = speaker if cue else segment.speaker
            cue.append(Word(text=text, start=word.start, end=word.end))
            before = word.start
    if cue:
        yield speaker, cue


def _highlighted(words: Sequence[Word], speaker: str) -> Iterator[Cue]:
    texts = [word.text for word in words]
    plain = "".join(texts)
    last = milliseconds(words[0].start)
    for position, word in enumerate(words):
        start, end = milliseconds(word.start), milliseconds(word.end)
        if start != last:
            yield Cue(start=last, end=start, text=plain, speaker=speaker)
        inner = word.text.strip()
        marked = word.text.replace(inner, f"<u>{inner}</u>", 1) if inner else word.text
        yield Cue(
            start=start, end=end, text="".join([*texts[:position], marked, *texts[position + 1 :]]), speaker=speaker
        )
        last = end


def overlapping(segments: Sequence[Segment]) -> bool:
    """Whether a segment begins before the one before it has ended."""
    ordered = sorted(segments, key=lambda s: (s.start, s.end))
    return any(milliseconds(b.start) < milliseconds(a.end) for a, b in pairwise(ordered))
