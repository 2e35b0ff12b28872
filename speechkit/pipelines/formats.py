"""Transcripts as txt, json, jsonl, srt, vtt, tsv, ctm, rttm, stm and TextGrid, and back.

Times are milliseconds, rounded half to even; text is stripped, UTF-8, with plain line ends.
"""

from __future__ import annotations

import json
from typing import Any

from speechkit.errors import InputError, UsageError
from speechkit.pipelines.subtitles import Layout, milliseconds, parse_subtitles, srt, vtt
from speechkit.pipelines.textgrid import parse_textgrid, textgrid
from speechkit.pipelines.transcript import Segment, Transcript, Word

FORMATS = ("txt", "json", "srt", "vtt", "tsv", "ctm", "rttm", "stm", "textgrid", "jsonl")
CONCATENABLE = frozenset({"txt", "ctm", "rttm", "stm", "jsonl"})  # several transcripts make one valid file


def render(
    transcript: Transcript, format: str, *, file: str = "audio", channel: str = "1", layout: Layout | None = None
) -> str:
    """Write a transcript in one of `FORMATS`.

    Args:
        transcript: what to write.
        format: its name.
        file: the recording's name in ctm, rttm and stm.
        channel: the channel there.
        layout: lines, cues and speaker labels of txt, srt and vtt.

    Raises:
        UsageError: rttm of a transcript without speakers.
        ValueError: no such format.
    """
    layout = layout or Layout()
    file = "_".join(file.split())
    match format:
        case "txt":
            return _txt(transcript, layout)
        case "json":
            return json.dumps(as_json(transcript), ensure_ascii=False, indent=1) + "\n"
        case "jsonl":
            return json_line(transcript)
        case "srt":
            return srt(transcript, layout)
        case "vtt":
            return vtt(transcript, layout)
        case "tsv":
            return _tsv(transcript)
        case "ctm":
            return _ctm(transcript, file, channel)
        case "rttm":
            return _rttm(transcript, file, channel)
        case "stm":
            return _stm(transcript, file, channel)
        case "textgrid":
            return textgrid(transcript)
    raise ValueError(f"no such format: {format!r}; there are {', '.join(FORMATS)}")


def parse(text: str, format: str, *, name: str = "transcript") -> Transcript:
    """Read json, srt, vtt, tsv or a TextGrid.

    Raises:
        InputError: the text is not in that format; `name` is named.
    """
    match format:
        case "json":
            return _parse_json(text, name)
        case "srt" | "vtt":
            return parse_subtitles(text, name)
        case "tsv":
            return _parse_tsv(text, name)
        case "textgrid":
            return parse_textgrid(text, name)
    raise ValueError(f"{format!r} is not read as one transcript")


def as_json(transcript: Transcript) -> dict[str, Any]:
    """The transcript as plain values: whisper's keys and a few more."""
    value: dict[str, Any] = {
        "text": transcript.text.strip(),
        "language": transcript.language,
        "duration": round(transcript.duration_s, 3),
        "model": transcript.model,
        "segments": [_segment_json(i, segment) for i, segment in enumerate(transcript.segments)],
    }
    if transcript.speakers:
        value["speakers"] = transcript.speakers
    return value


def json_line(transcript: Transcript) -> str:
    """The line of `--jsonl` for an input that went well."""
    value = as_json(transcript)
    line: dict[str, Any] = {"input": transcript.input, "ok": True}
    line |= {key: value[key] for key in ("duration", "text", "segments")}
    if transcript.warnings:
        line["warnings"] = list(transcript.warnings)
    return json.dumps(line, ensure_ascii=False) + "\n"


def _segment_json(number: int, segment: Segment) -> dict[str, Any]:
    value: dict[str, Any] = {"id": number, "start": round(segment.start, 3), "end": round(segment.end, 3)}
    value["text"] = segment.text.strip()
    if segment.speaker:
        value["speaker"] = segment.speaker
    value |= {
        "avg_logprob": round(segment.avg_logprob, 6),
        "no_speech_prob": round(segment.no_speech_prob, 6),
        "compression_ratio": round(segment.compression_ratio, 6),
        "temperature": round(segment.temperature, 6),
        "words": [_word_json(word) for word in segment.words],
    }
    return value


def _word_json(word: Word) -> dict[str, Any]:
    value: dict[str, Any] = {"word": word.text, "start": round(word.start, 3), "end": round(word.end, 3)}
    value["probability"] = round(word.probability, 6)
    return value | ({"speaker": word.speaker} if word.speaker else {})


def _parse_json(text: str, name: str) -> Transcript:
    try:
        value = json.loads(text)
        segments = tuple(_segment_from(s) for s in value["segments"])
        return Transcript(
            text=value["text"],
            segments=segments,
            duration_s=value.get("duration", segments[-1].end if segments else 0.0),
            language=value.get("language") or "",
            model=value.get("model") or "",
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{name}: not a transcript in JSON: {error!r}", code="format.parse") from error


def _segment_from(value: dict[str, Any]) -> Segment:
    words = value.get("words") or []
    return Segment(
        start=value["start"],
        end=value["end"],
        text=value["text"],
        speaker=value.get("speaker", ""),
        avg_logprob=value.get("avg_logprob", 0.0),
        no_speech_prob=value.get("no_speech_prob", 0.0),
        temperature=value.get("temperature", 0.0),
        words=tuple(
            Word(
                text=w["word"],
                start=w["start"],
                end=w["end"],
                probability=w.get("probability", 1.0),
                speaker=w.get("speaker", ""),
            )
            for w in words
        ),
    )


def _txt(transcript: Transcript, layout: Layout) -> str:
    labels = (f"[{s.speaker}]: " if layout.speaker_labels and s.speaker else "" for s in transcript.segments)
    return "".join(f"{label}{s.text.strip()}\n" for label, s in zip(labels, transcript.segments, strict=True))


def _tsv(transcript: Transcript) -> str:
    lines = ["start\tend\ttext\n"]
    for s in transcript.segments:
        text = s.text.strip().replace("\t", " ")
        lines.append(f"{milliseconds(s.start)}\t{milliseconds(s.end)}\t{text}\n")
    return "".join(lines)


def _parse_tsv(text: str, name: str) -> Transcript:
    header, *lines = text.removesuffix("\n").split("\n")
    if header != "start\tend\ttext":
        raise InputError(f"{name}:1: expected start, end and text, found {header!r}", code="format.parse")
    segments = []
    for number, line in enumerate(lines, 2):
        try:
            start, end, shown = line.split("\t", 2)
            segments.append(Segment(start=int(start) / 1000, end=int(end) / 1000, text=shown))
        except ValueError as error:
            raise InputError(f"{name}:{number}: not start, end and text: {line!r}", code="format.parse") from error
    return Transcript(text=" ".join(s.text for s in segments), segments=tuple(segments))


def _ctm(transcript: Transcript, file: str, channel: str) -> str:
    words = (word for word in transcript.words if word.text.strip())
    return "".join(
        f"{file} {channel} {_span(w.start, w.end)} {'_'.join(w.text.split())} {w.probability:.2f}\n" for w in words
    )


def _rttm(transcript: Transcript, file: str, channel: str) -> str:
    if any(not segment.speaker for segment in transcript.segments):
        raise UsageError(
            f"{file}: rttm says who spoke when, and this transcript has no speakers",
            hint="choose another format: ctm, stm, json, …",
            code="format.speakers",
        )
    return "".join(
        f"SPEAKER {file} {channel} {_span(s.start, s.end)} <NA> <NA> {'_'.join(s.speaker.split())} <NA> <NA>\n"
        for s in transcript.segments
    )


def _stm(transcript: Transcript, file: str, channel: str) -> str:
    lines = []
    for s in transcript.segments:
        times = f"{milliseconds(s.start) / 1000:.3f} {milliseconds(s.end) / 1000:.3f}"
        lines.append(
            f"{file} {channel} {'_'.join(s.speaker.split()) or file} {times} {' '.join(s.text.split())}".rstrip()
        )
    return "".join(line + "\n" for line in lines)


def _span(start: float, end: float) -> str:
    first, last = milliseconds(start), milliseconds(end)
    return f"{first / 1000:.3f} {(last - first) / 1000:.3f}"
