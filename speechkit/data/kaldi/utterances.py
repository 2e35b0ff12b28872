"""From a Kaldi data directory to utterances whose lengths come from the headers of their recordings."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from speechkit.audio.files import AudioInfo, info
from speechkit.data.kaldi.problem import Problem, escaped
from speechkit.data.kaldi.rxfilename import open_audio, parse
from speechkit.data.kaldi.spans import SegmentDroppedError, parse_times, segment_span
from speechkit.data.kaldi.tables import DataDir, Table
from speechkit.data.utterance import Utterance
from speechkit.errors import InputError

log = logging.getLogger(__name__)

CHANNELS = {"A": 0, "B": 1, "1": 0}  # "1" is tolerated for A


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A data directory with its lengths.

    Attributes:
        utterances: in byte order of their ids.
        dropped: segments left out by Kaldi's rules: too short, or beyond their recording.
        problems: what must be mended before the directory can be used.
        headers: of the recordings, by their ids.
    """

    utterances: list[Utterance]
    dropped: list[Problem]
    problems: list[Problem]
    headers: Mapping[str, AudioInfo]

    def check(self, path: str | Path) -> None:
        """Raise the first problem as an InputError that counts the others."""
        if self.problems:
            first, others = self.problems[0], len(self.problems) - 1
            more = f" (and {others} more)" if others else ""
            hint = first.hint or f"all of them: speechkit data validate --check-audio header {path}"
            message = escaped(f"{path}/{first.file}:{first.line}: {first.code} {first.message}{more}")
            raise InputError(message, hint=hint, code=first.code)


def utterances(path: str | Path, *, root: Path, allow_pipes: bool = False) -> list[Utterance]:
    """The utterances of a data directory, in byte order of their ids.

    A segment that is too short or lies beyond its recording is left out with a warning that names it.

    Args:
        path: the data directory.
        root: where relative paths in `wav.scp` count from, and where its commands run.
        allow_pipes: run the commands in `wav.scp`.

    Raises:
        InputError: a table breaks the form, a recording cannot be read, or tables disagree; the first of these is
            named by file and line, the others are counted.
    """
    measured = measure(path, root=root, allow_pipes=allow_pipes)
    for problem in measured.dropped:
        log.warning("%s/%s", path, problem)
    measured.check(path)
    return measured.utterances


def measure(path: str | Path, *, root: Path, allow_pipes: bool = False) -> Measured:
    """As `utterances`, but what is dropped and what is wrong is given back.

    Raises:
        InputError: a table breaks the form, or there is no `wav.scp`.
    """
    path = Path(path)
    tables = DataDir.read(path)
    if not tables.wav_scp:
        raise InputError(f"{path}/wav.scp: E101 no such file, or it is empty", code="E101")
    used = {value.split(" ")[0] for value in tables.segments.values()} or set(tables.wav_scp)
    headers, problems = _read_headers(path, tables.wav_scp, used, root=root, allow_pipes=allow_pipes)
    problems += _disagreements(tables)
    spans = _Spans(tables, headers, root)
    for line, id in enumerate(tables.segments or tables.wav_scp, 1):
        spans.add(id, line)
    return Measured(
        utterances=sorted(spans.found, key=lambda utterance: utterance.id),
        dropped=sorted(spans.dropped),
        problems=sorted(problems + spans.problems),
        headers=headers,
    )


class _Spans:
    """Turns segments, or whole recordings, into utterances and keeps what cannot be turned."""

    def __init__(self, tables: DataDir, headers: Mapping[str, AudioInfo], root: Path) -> None:
        self.tables = tables
        self.headers = headers
        self.root = root
        self.file = "segments" if tables.segments else "wav.scp"
        self.found: list[Utterance] = []
        self.dropped: list[Problem] = []
        self.problems: list[Problem] = []

    def add(self, id: str, line: int) -> None:
        fields = self.tables.segments[id].split(" ") if self.tables.segments else [id]
        if self.tables.segments and len(fields) not in (3, 4):
            self._problem(line, "E107", f"expected 4 fields, found {len(fields) + 1}")
        elif fields[0] not in self.tables.wav_scp:
            self._problem(line, "E123", f"segment of unknown recording '{fields[0]}'")
        elif header := self.headers.get(fields[0]):
            self._add(id, fields, line, header)

    def _add(self, id: str, fields: list[str], line: int, header: AudioInfo) -> None:
        start, length = 0, header.num_samples
        try:
            if len(fields) > 1:
                start_s, end_s = parse_times(fields[1], fields[2])
                if start_s < 0:
                    self._problem(line, "E133", f"start {fields[1]} is negative")
                    return
                start, length = segment_span(start_s, end_s, header.num_samples, header.sample_rate)
            channel = self._channel(fields, header.channels)
        except SegmentDroppedError as drop:
            self.dropped.append(Problem(file=self.file, line=line, code=drop.code, message=f"'{id}' {drop}"))
            return
        except ValueError as error:
            self._problem(line, "E131", str(error))
            return
        self.found.append(
            Utterance(
                id=id,
                path=parse(self.tables.wav_scp[fields[0]]).resolved(self.root),
                start=start,
                num_samples=length,
                sample_rate=header.sample_rate,
                channel=channel,
                text=self.tables.text.get(id),
                speaker=self.tables.utt2spk.get(id, ""),
            )
        )

    def _channel(self, fields: list[str], num_channels: int) -> int | None:
        """The channel in the file; None takes all of them, or the only one, whatever the tables call it."""
        if len(fields) == 4:
            name = fields[3]
        else:
            name = self.tables.reco2file_and_channel.get(fields[0], "").rpartition(" ")[2]
        if not name or num_channels == 1:
            return None
        channel = int(name) if len(fields) == 4 and name.isdecimal() else CHANNELS.get(name)
        if channel is None or channel >= num_channels:
            raise ValueError(f"channel '{name}' of a recording with {num_channels} channels")
        return channel

    def _problem(self, line: int, code: str, message: str) -> None:
        self.problems.append(Problem(file=self.file, line=line, code=code, message=message))


def _read_headers(
    path: Path, wav_scp: Table, used: set[str], *, root: Path, allow_pipes: bool
) -> tuple[dict[str, AudioInfo], list[Problem]]:
    headers, problems = {}, []
    for line, (id, value) in enumerate(wav_scp.items(), 1):
        if id not in used:
            continue
        try:
            headers[id] = read_header(value, root=root, allow_pipes=allow_pipes)
        except InputError as error:
            problems.append(audio_problem(error, line))
        else:
            if headers[id].warning:
                log.warning("%s/wav.scp:%d: %s", path, line, headers[id].warning)
    return headers, problems


def read_header(value: str, *, root: Path, allow_pipes: bool) -> AudioInfo:
    """The header of the recording that a value of `wav.scp` names.

    Raises:
        InputError: it cannot be read, or holds no samples.
    """
    return info(open_audio(value, root=root, allow_pipes=allow_pipes))


def audio_problem(error: InputError, line: int, code: str = "E163") -> Problem:
    """The finding for a recording that cannot be read; `code` is for what has no code of its own."""
    own = error.code.startswith("E")
    message = error.message if own else f"cannot read: {error.message}"
    return Problem(file="wav.scp", line=line, code=error.code if own else code, message=message, hint=error.hint)


def _disagreements(tables: DataDir) -> list[Problem]:
    """Utterances that one of wav.scp or segments, utt2spk and text has and another lacks."""
    ids = tables.segments or tables.wav_scp
    source = "segments" if tables.segments else "wav.scp"
    problems = []
    for name, table in (("utt2spk", tables.utt2spk), ("text", tables.text)):
        if table:
            problems += _missing(name, table, source, ids)
    primary = "utt2spk" if tables.utt2spk else "text"
    return problems + _missing(source, ids, primary, tables.utt2spk or tables.text)


def _missing(name: str, table: Iterable[str], source: str, ids: Iterable[str]) -> list[Problem]:
    there = set(table)
    return [
        Problem(file=name, line=0, code="E122", message=f"utterance '{id}' is in {source}:{line} but not here")
        for line, id in enumerate(ids, 1)
        if id not in there
    ]
