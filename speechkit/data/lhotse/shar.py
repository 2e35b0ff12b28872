"""Shar folders: cuts in lines, their audio in tars beside them, so many cuts a shard; written, indexed and read.

Shard K is `cuts.K.jsonl` (or `.gz`) and `recording.K.tar`, which holds two members a cut in the same order: the audio
file, then its description; `.nodata` and `.nometa` where a cut has no audio. Source: what lhotse 1.33 writes and reads.
"""

from __future__ import annotations

import functools
import io
import json
import logging
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar, overload

from speechkit.audio.files import encode, info, read_int16
from speechkit.data.kaldi.rxfilename import open_audio, place
from speechkit.data.lhotse import forms
from speechkit.data.lhotse.forms import Json, LhotseCut
from speechkit.data.lhotse.index import NO_RECORDING, PART, Entry, FileState, Index, Shard
from speechkit.data.utterance import Utterance
from speechkit.errors import InputError
from speechkit.files import whole
from speechkit.jobs import run_jobs

log = logging.getLogger(__name__)

Format = Literal["flac", "wav", "original"]
FORMATS: tuple[Format, ...] = ("flac", "wav", "original")

_CUTS = re.compile(r"cuts\.(\d+)\.jsonl(\.gz)?")
_RECORDING = re.compile(r"recording\.(\d+)\.tar")
_UNZIPPED_KEPT = 8  # files of cuts in memory

Unit = TypeVar("Unit")
Result = TypeVar("Result")


def is_shar(path: Path) -> bool:
    """Whether a folder has a file of cuts as in Shar."""
    return path.is_dir() and any(_CUTS.fullmatch(p.name) for p in path.iterdir())


def index_shar(folder: Path, *, nj: int = 1, digests: bool = True) -> Index:
    """Go through the shards of a folder: lines and tar headers, and all bytes for their digests.

    Args:
        folder: a Shar folder.
        nj: the number of processes.
        digests: without them nothing but lines and headers is read; such an index is not for saving.

    Raises:
        InputError: a file is missing, damaged, or does not go with the other of its shard; the cut is named.
    """
    files = [(cuts, recording, digests) for cuts, recording in _shards(folder)]
    return Index.merge(_each(_scan, files, nj), folder)


def _each(function: Callable[[Unit], Result], units: Sequence[Unit], nj: int) -> list[Result]:
    return run_jobs(function, units, nj=nj, fail_fast=True) if nj > 1 else [function(unit) for unit in units]


def _shards(folder: Path) -> list[tuple[Path, Path]]:
    """The two files of every shard, in the order of their numbers."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such Shar folder", code="shar.missing")
    cuts: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if match := _CUTS.fullmatch(path.name):
            if match[1] in cuts:
                raise InputError(f"{path}: there is {cuts[match[1]].name} too", hint="keep one", code="shar.twice")
            cuts[match[1]] = path
    recordings = {match[1]: p for p in folder.iterdir() if (match := _RECORDING.fullmatch(p.name))}
    for number in sorted(cuts.keys() ^ recordings.keys()):
        missing = f"recording.{number}.tar" if number in cuts else f"cuts.{number}.jsonl"
        zipped = folder / f"{missing}.gz"
        hint = f"places in it cannot be found again: gunzip {zipped}" if zipped.is_file() else ""
        raise InputError(f"{folder}/{missing}: no such file", hint=hint, code="shar.missing")
    if not cuts:
        raise InputError(f"{folder}: no Shar folder: cuts.000000.jsonl is not in it", code="shar.missing")
    return [(cuts[number], recordings[number]) for number in sorted(cuts, key=lambda n: (int(n), n))]


def _scan(files: tuple[Path, Path, bool]) -> Index:
    """The index of a shard, cut by cut in both files."""
    cuts, recording, digests = files
    entries = []
    offset = 0
    members = _members(recording)
    for number, line in enumerate(forms.read_lines(cuts), 1):
        where = f"{cuts}:{number}"
        cut = forms.parse_cut(line, where)
        data, meta = next(members, None), next(members, None)
        if data is None or meta is None:
            raise InputError(f"{recording}: ends before the audio of cut '{cut['id']}'", code="shar.short")
        name = data.info.name.rpartition(".")[0]
        if name != cut["id"]:
            raise InputError(f"{recording}: has '{name}' where {where} has cut '{cut['id']}'", code="shar.order")
        entries.append(_entry(cut, where, offset, data.info, meta))
        offset += len(line)
    if (extra := next(members, None)) is not None:
        raise InputError(f"{recording}: '{extra.info.name}' belongs to no cut of {cuts.name}", code="shar.order")
    states = [FileState.of(path, digest=digests) for path in (cuts, recording)]
    return Index.of_shard(Shard(cuts=states[0], recording=states[1]), entries)


@dataclass(frozen=True, slots=True)
class _Member:
    """A file in a tar; its content where that is a description."""

    info: tarfile.TarInfo
    content: bytes


def _members(path: Path) -> Iterator[_Member]:
    """The files in a tar.

    Raises:
        InputError: it is damaged; the last member before that is named.
    """
    last = ""
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                last = member.name
                content = b""
                if member.name.endswith(".json") and (file := tar.extractfile(member)):
                    content = file.read()
                yield _Member(member, content)
    except (OSError, tarfile.TarError, EOFError) as error:
        at = f" after '{last}'" if last else ""
        raise InputError(f"{path}: damaged{at}: {error}", code="shar.short") from error


def _entry(cut: Json, where: str, offset: int, data: tarfile.TarInfo, meta: _Member) -> Entry:
    if data.name.endswith(".nodata"):
        return Entry(
            id=cut["id"],
            num_samples=0,
            sample_rate=0,
            cut_offset=offset,
            data_offset=data.offset_data,
            data_size=0,
            flags=NO_RECORDING,
        )
    try:
        recording = json.loads(meta.content)
        rate, num_samples, channels = (recording[key] for key in ("sampling_rate", "num_samples", "channel_ids"))
    except (ValueError, KeyError, TypeError) as error:
        what = f"{meta.info.name} does not describe a recording"
        raise InputError(f"{where}: cut '{cut['id']}': {what}", code="shar.meta") from error
    if cut["type"] != "MultiCut" and len(channels) > 1:
        what = f"takes one channel, its audio has {len(channels)}"
        raise InputError(f"{where}: cut '{cut['id']}' {what}", hint=forms.STORE, code="lhotse.channels")
    start, count = forms.span(cut, where, num_samples=num_samples, sample_rate=rate)
    return Entry(
        id=cut["id"],
        num_samples=count,
        sample_rate=rate,
        cut_offset=offset,
        data_offset=data.offset_data,
        data_size=data.size,
        flags=0 if (start, count) == (0, num_samples) else PART,
    )


class SharUtterances(Sequence[Utterance]):
    """The cuts of a Shar folder as utterances, each made when it is asked for.

    Cuts without audio are left out with a warning. Without an index in the folder the shards are gone through.

    Args:
        folder: a Shar folder.

    Raises:
        InputError: a shard is damaged, or the index was made for others.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        there = Index.load(self.folder)
        self.arrays = index_shar(self.folder, digests=False) if there is None else there
        self._positions = (self.arrays.flags & NO_RECORDING == 0).nonzero()[0]
        self._unzipped = functools.lru_cache(_UNZIPPED_KEPT)(_all_lines)
        if missing := len(self.arrays) - len(self._positions):
            log.warning("%s: %d cuts have no audio and are left out", self.folder, missing)

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, position: int) -> Utterance: ...

    @overload
    def __getitem__(self, position: slice) -> list[Utterance]: ...

    def __getitem__(self, position: int | slice) -> Utterance | list[Utterance]:
        if isinstance(position, slice):
            return [self[i] for i in range(*position.indices(len(self)))]
        return self.cut(position).utterance

    def cut(self, position: int) -> LhotseCut:
        """A cut with all that is known of it; its recording is its own audio."""
        index, k = self.arrays, int(self._positions[position])
        shard = index.shards[index.shard[k]]
        path = self.folder / shard.cuts.name
        start = int(index.cut_offset[k])
        where = f"{path}: byte {start}"
        cut = forms.parse_cut(self._line(path, start), where)
        if cut["id"] != index.id(k):
            hint = f"make it again: speechkit data index {self.folder}"
            raise InputError(
                f"{where}: cut '{cut['id']}', the index says '{index.id(k)}'", hint=hint, code="shar.index"
            )
        said = forms.labels(cut, where)
        rate, count = index.sample_rates[index.sr[k]], int(index.num_samples[k])
        tar = self.folder / shard.recording.name
        channels = cut.get("channel", 0)
        return LhotseCut(
            utterance=Utterance(
                id=cut["id"],
                path=place(tar.absolute(), int(index.data_offset[k]), int(index.data_size[k])),
                start=forms.first_sample(cut, where, sample_rate=rate),
                num_samples=count,
                sample_rate=rate,
                text=said.text,
                speaker=said.speaker,
            ),
            recording=cut["id"],
            channels=tuple(channels) if isinstance(channels, list) else (channels,),
            whole=not index.flags[k] & PART,
            labels=said,
        )

    def _line(self, path: Path, start: int) -> bytes:
        if path.suffix == ".gz":
            lines = self._unzipped(path)
            return lines[start : lines.find(b"\n", start) + 1 or None]
        with path.open("rb") as file:
            file.seek(start)
            return file.readline()

    def cuts(self) -> Iterator[LhotseCut]:
        """All cuts, as `cut` gives them."""
        return (self.cut(position) for position in range(len(self)))


def _all_lines(path: Path) -> bytes:
    return b"".join(forms.read_lines(path))


@dataclass(frozen=True, kw_only=True, slots=True)
class _ToWrite:
    """One shard to write."""

    number: int
    folder: Path
    utterances: Sequence[Utterance]
    fields: Mapping[str, Json]
    format: Format
    allow_pipes: bool


def write_shar(
    out: str | Path,
    utterances: Sequence[Utterance],
    fields: Mapping[str, Json],
    *,
    shard_size: int = 1000,
    format: Format = "flac",
    nj: int = 1,
    allow_pipes: bool = False,
) -> Index:
    """Write a Shar folder with its index, whole or not at all; of a long recording each cut has its own samples only.

    Args:
        out: the folder.
        utterances: what to store, in this order.
        fields: what else their supervisions say, by id, of `forms.supervision_fields`.
        shard_size: cuts a shard.
        format: `flac` and `wav` hold the 16 bits that training reads: one channel, or the mean of all. `original` keeps
            the file as it is for an utterance that is all of it, and is `flac` for the others.
        nj: the number of processes.
        allow_pipes: run commands that recordings come from.

    Raises:
        InputError: an utterance cannot be read, or is not as long as it should be; it is named.
        OutputError: the folder cannot be written.
    """
    starts = range(0, len(utterances), shard_size)
    with whole(out) as temporary:
        temporary.mkdir()
        shards = []
        for number, start in enumerate(starts):
            part = utterances[start : start + shard_size]
            shards.append(
                _ToWrite(
                    number=number,
                    folder=temporary,
                    utterances=part,
                    fields={u.id: fields[u.id] for u in part if u.id in fields},
                    format=format,
                    allow_pipes=allow_pipes,
                )
            )
        index = Index.merge(_each(_write, shards, nj), Path(out))
        index.save(temporary)
    return index


def _write(shard: _ToWrite) -> Index:
    cuts = shard.folder / f"cuts.{shard.number:06}.jsonl"
    recording = shard.folder / f"recording.{shard.number:06}.tar"
    sources = functools.lru_cache(1)(functools.partial(open_audio, allow_pipes=shard.allow_pipes))
    with cuts.open("wb") as lines, tarfile.open(recording, "w") as tar:
        for utterance in shard.utterances:
            try:
                ending, content, channels = _audio(utterance, shard.format, sources(utterance.path))
            except InputError as error:
                message = f"utterance '{utterance.id}': {error.message}"
                raise InputError(message, hint=error.hint, code=error.code) from error
            stored = forms.recording_json(
                utterance.id,
                "shar",
                "",
                num_samples=utterance.num_samples,
                sample_rate=utterance.sample_rate,
                channels=channels,
            )
            _add(tar, f"{utterance.id}.{ending}", content)
            _add(tar, f"{utterance.id}.json", forms.as_line(stored))
            own = replace(utterance, start=0, channel=None)
            lines.write(forms.as_line(forms.cut_json(own, stored, shard.fields.get(utterance.id, {}))))
    return _scan((cuts, recording, True))


def _audio(utterance: Utterance, format: Format, source: Path | io.BytesIO) -> tuple[str, bytes | memoryview, int]:
    """Ending, bytes and number of channels of what to store for an utterance."""
    if format == "original":
        header = info(source)
        if utterance.channel is None and (utterance.start, utterance.num_samples) == (0, header.num_samples):
            if isinstance(source, Path):
                return source.suffix.removeprefix(".") or "original", source.read_bytes(), header.channels
            return "original", source.getbuffer(), header.channels
        format = "flac"
    samples, rate = read_int16(
        source, start=utterance.start, num_samples=utterance.num_samples, channel=utterance.channel
    )
    if (len(samples), rate) != (utterance.num_samples, utterance.sample_rate):
        found, promised = f"{len(samples)} samples at {rate} Hz", f"{utterance.num_samples} at {utterance.sample_rate}"
        raise InputError(f"{utterance.path}: {found}, its list says {promised} Hz", code="audio.length")
    return format, encode(utterance.path, samples, rate, format), 1


def _add(tar: tarfile.TarFile, name: str, content: bytes | memoryview) -> None:
    member = tarfile.TarInfo(name)  # no time, no owner: the same data give the same bytes
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
