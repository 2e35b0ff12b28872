"""Rules on times: segments in their recordings, durations that disagree (E131–W135, E152)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from speechkit.audio.files import AudioInfo
from speechkit.data.kaldi.directory import Directory, Record
from speechkit.data.kaldi.problem import Problem
from speechkit.data.kaldi.spans import END_OF_RECORDING, MAX_OVERSHOOT_SECONDS, MIN_SEGMENT_SECONDS, number, parse_times

_MAX_DISAGREEMENT_SECONDS = 0.05
_MIN_OVERLAP_SECONDS = 0.001


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A segment whose times make sense; the end is resolved where the recording's length is known."""

    id: str
    record: Record
    recording: str
    channel: str
    start: float
    end: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Duration:
    """How long an utterance is, and the line that says so."""

    seconds: float
    file: str
    line: int


def recording_seconds(directory: Directory, headers: Mapping[str, AudioInfo]) -> dict[str, float]:
    """Lengths of the recordings: those measured, else those of `reco2dur`."""
    seconds = {}
    if table := directory.tables.get("reco2dur"):
        stated = {key: number(record.fields[0]) for key, record in table.first.items() if record.fields}
        seconds = {key: value for key, value in stated.items() if value > 0}
    return {**seconds, **{key: info.duration_s for key, info in headers.items()}}


def read_segments(directory: Directory, recordings: Mapping[str, float]) -> list[Segment]:
    """The segments whose fields are all right, in the order of the file."""
    segments = []
    for record in _segment_records(directory):
        try:
            start, end = parse_times(record.fields[1], record.fields[2])
        except ValueError:
            continue
        recording = record.fields[0]
        known = end if end != END_OF_RECORDING else recordings.get(recording)
        channel = record.fields[3] if len(record.fields) > 3 else ""
        if start >= 0:
            segments.append(
                Segment(id=record.key, record=record, recording=recording, channel=channel, start=start, end=known)
            )
    return segments


def utterance_durations(
    directory: Directory, headers: Mapping[str, AudioInfo], segments: list[Segment]
) -> dict[str, Duration]:
    """By utterance: the length by `segments`, else as measured, else by `utt2dur`."""
    if "segments" in directory.tables:
        known = [(s, s.end) for s in segments if s.end is not None and s.end > s.start]
        return {
            s.id: Duration(seconds=round(end - s.start, 6), file="segments", line=s.record.line) for s, end in known
        }
    durations = {}
    if table := directory.tables.get("utt2dur"):
        for key, record in table.first.items():
            if record.fields and (seconds := number(record.fields[0])) > 0:
                durations[key] = Duration(seconds=seconds, file="utt2dur", line=record.line)
    if table := directory.tables.get("wav.scp"):
        for key, info in headers.items():
            seconds = info.duration_s
            durations[key] = Duration(seconds=seconds, file="wav.scp", line=table.first[key].line)
    return durations


def check_segments(directory: Directory, segments: list[Segment], recordings: Mapping[str, float]) -> Iterator[Problem]:
    """E131, E132, E133, W135."""
    for record in _segment_records(directory):
        try:
            parse_times(record.fields[1], record.fields[2])
        except ValueError as error:
            yield _segment(record.line, "E131", str(error))
        if number(record.fields[1]) < 0:
            yield _segment(record.line, "E133", f"start {record.fields[1]} is negative")
    for segment in segments:
        seconds = recordings.get(segment.recording)
        if seconds is None or segment.end is None:
            continue
        what = f"but recording '{segment.recording}' lasts {seconds:.3f} s"
        if segment.start >= seconds:
            yield _segment(segment.record.line, "E132", f"starts at {segment.record.fields[1]} s {what}")
        elif round(segment.end - seconds, 6) > MAX_OVERSHOOT_SECONDS:
            yield _segment(segment.record.line, "E132", f"ends at {segment.record.fields[2]} s {what}")
    yield from _check_overlaps(directory, segments)


def check_durations(
    directory: Directory,
    durations: Mapping[str, Duration],
    headers: Mapping[str, AudioInfo],
    max_seconds: float | None,
) -> Iterator[Problem]:
    """W134, E152."""
    for duration in durations.values():
        if duration.seconds < MIN_SEGMENT_SECONDS or (max_seconds and duration.seconds > max_seconds):
            kind = "segment" if duration.file == "segments" else "utterance"
            message = f"{kind} lasts {duration.seconds:.3f} s"
            yield Problem(file=duration.file, line=duration.line, code="W134", message=message)
    measured = {key: info.duration_s for key, info in headers.items()}
    yield from _check_stated(directory, "reco2dur", measured, "audio")
    if "segments" in directory.tables:
        by_segments = {key: duration.seconds for key, duration in durations.items()}
        yield from _check_stated(directory, "utt2dur", by_segments, "segments")
    else:
        yield from _check_stated(directory, "utt2dur", measured, "audio")


def _check_stated(directory: Directory, name: str, actual: Mapping[str, float], by: str) -> Iterator[Problem]:
    for record in directory.tables[name].records if name in directory.tables else ():
        seconds = number(record.fields[0]) if record.fields else 0.0
        if seconds > 0 and record.key in actual:
            difference = abs(seconds - actual[record.key])
            if round(difference, 6) > _MAX_DISAGREEMENT_SECONDS:
                message = f"{seconds:.2f} s here, {actual[record.key]:.2f} s by {by}"
                yield Problem(file=name, line=record.line, code="E152", message=message)


def _check_overlaps(directory: Directory, segments: list[Segment]) -> Iterator[Problem]:
    voices: dict[tuple[str, str, str], list[Segment]] = {}
    for segment in segments:
        speaker = directory.value("utt2spk", segment.id)
        if speaker and segment.end is not None:
            voices.setdefault((speaker, segment.recording, segment.channel), []).append(segment)
    for voice in voices.values():
        voice.sort(key=lambda s: (s.start, s.end))
        longest = voice[0]
        for segment in voice[1:]:
            overlap = min(longest.end or 0.0, segment.end or 0.0) - segment.start
            if overlap > _MIN_OVERLAP_SECONDS:
                yield _segment(segment.record.line, "W135", f"overlaps '{longest.id}' by {overlap:.2f} s")
            longest = max(longest, segment, key=lambda s: s.end or 0.0)


def _segment_records(directory: Directory) -> list[Record]:
    table = directory.tables.get("segments")
    return [record for record in table.records if table.has_fields(record)] if table else []


def _segment(line: int, code: str, message: str) -> Problem:
    return Problem(file="segments", line=line, code=code, message=message)
