"""lhotse's JSON forms: cuts, recordings and supervisions, one object a line, read and written without lhotse.

Nothing else knows how lhotse spells them. A cut is an utterance here. Source: what lhotse 1.33 writes and reads.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from speechkit.data.kaldi.tables import DataDir, layout_of
from speechkit.data.utterance import Utterance
from speechkit.errors import InputError

Json = dict[str, Any]

_WITH_A_PLACE = ("utt2spk", "text", "segments", "wav.scp", "reco2file_and_channel")
_GZIP = b"\x1f\x8b"
STORE = "let lhotse store the audio: cuts.save_audios('FOLDER', format='flac').to_file('cuts.jsonl.gz')"


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """What the supervisions of a cut say.

    Attributes:
        text: None when there is none; those of several supervisions are joined in the order of their times.
        speaker: "" when unknown, or when there are several.
        values: by the table of a data directory that has a place for them.
        left: what has no place in a data directory.
        joined: there are several supervisions.
    """

    text: str | None
    speaker: str
    values: Mapping[str, str]
    left: frozenset[str]
    joined: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class LhotseCut:
    """A cut whose audio can be read.

    Attributes:
        utterance: with the value of `wav.scp` for its path, and the channel counted in that file.
        recording: its id.
        channels: numbers of its channels in the recording.
        whole: it is all of its recording.
        labels: what else is known.
    """

    utterance: Utterance
    recording: str
    channels: tuple[int, ...]
    whole: bool
    labels: Labels


def supervision_fields(tables: DataDir) -> tuple[dict[str, Json], list[str]]:
    """What the supervisions of a data directory say beside text and speaker, by utterance.

    Language and gender have fields of their own; other tables of utterances go to `custom` by their names.

    Returns:
        The fields, and the names of the tables that have no place.
    """
    found: dict[str, Json] = {id: {} for id in tables.ids}
    left = []
    for name, table in tables.tables().items():
        if name == "spk2gender":
            for id, speaker in tables.utt2spk.items():
                if speaker in table:
                    found[id]["gender"] = table[speaker]
        elif name == "utt2lang" or _in_custom(name):
            for id, value in table.items():
                if id in found:
                    fields = found[id] if name == "utt2lang" else found[id].setdefault("custom", {})
                    fields["language" if name == "utt2lang" else name] = value
        elif name not in _WITH_A_PLACE and not _is_derived(name):
            left.append(name)
    return found, left


def _is_derived(name: str) -> bool:
    layout = layout_of(name)
    return layout is not None and layout.derived


def _in_custom(name: str) -> bool:
    layout = layout_of(name)
    if layout is None or layout.key != "utterance" or layout.verbatim or layout.derived:
        return False
    return name not in (*_WITH_A_PLACE, "utt2lang")


def recording_json(
    id: str, kind: Literal["file", "command", "shar"], place: str, *, num_samples: int, sample_rate: int, channels: int
) -> Json:
    """A recording out of one source.

    Args:
        id: its id.
        kind: `shar` is the member before it in a tar.
        place: the path or command; "" for Shar.
        num_samples: of each channel.
        sample_rate: Hz.
        channels: how many.
    """
    numbers = list(range(channels))
    return {
        "id": id,
        "sources": [{"type": kind, "channels": numbers, "source": place}],
        "sampling_rate": sample_rate,
        "num_samples": num_samples,
        "duration": num_samples / sample_rate,
        "channel_ids": numbers,
    }


def cut_json(utterance: Utterance, recording: Json, fields: Json) -> Json:
    """A cut with its recording, and a supervision if anything is known of it.

    Args:
        utterance: a span of this recording.
        recording: of `recording_json`.
        fields: of `supervision_fields`.
    """
    numbers = recording["channel_ids"]
    several = utterance.channel is None and len(numbers) > 1
    channel = numbers if several else utterance.channel or 0
    start = utterance.start / utterance.sample_rate
    span = {"start": start, "duration": utterance.duration_s, "channel": channel}
    supervision: Json = {"id": utterance.id, "recording_id": recording["id"], **span, "start": 0.0}
    known = {"text": utterance.text, "speaker": utterance.speaker or None, **fields}
    known = {name: value for name, value in known.items() if value is not None}
    return {
        "id": utterance.id,
        **span,
        "supervisions": [supervision | known] if known else [],
        "recording": recording,
        "type": "MultiCut" if several else "MonoCut",
    }


def as_line(value: Json) -> bytes:
    """An object as a line of a manifest."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8") + b"\n"


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a manifest, gzipped or plain.

    Raises:
        InputError: it cannot be read to its end.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == _GZIP
            file.seek(0)
            yield from gzip.GzipFile(fileobj=file) if zipped else file
    except (OSError, EOFError, zlib.error) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or str(error) or "damaged"
        raise InputError(f"{path}: cannot read: {reason}", code="lhotse.read") from error


def parse_cut(line: bytes, where: str) -> Json:
    """A cut of one recording.

    Args:
        line: of a manifest.
        where: file and line, for messages.

    Raises:
        InputError: it is no cut, or one that is made of several.
    """
    try:
        cut = json.loads(line)
        kind, id = cut.get("type"), cut.get("id")
    except (ValueError, AttributeError) as error:
        raise InputError(f"{where}: not a cut of lhotse: no JSON object", code="lhotse.form") from error
    if kind is None and ("sources" in cut or "recording_id" in cut):
        what = "recording" if "sources" in cut else "supervision"
        hint = "put both together: lhotse cut simple -r recordings.jsonl.gz -s supervisions.jsonl.gz cuts.jsonl.gz"
        raise InputError(f"{where}: a {what}, not a cut", hint=hint, code="lhotse.form")
    if kind not in ("MonoCut", "MultiCut", "Cut"):
        raise InputError(f"{where}: '{id}' is a {kind}, not a piece of a recording", hint=STORE, code="lhotse.kind")
    if not isinstance(id, str) or id.split() != [id]:
        raise InputError(f"{where}: {id!r} cannot be the id of an utterance: spaces in it", code="lhotse.id")
    return cut


def span(cut: Json, where: str, *, sample_rate: int, num_samples: int) -> tuple[int, int]:
    """First sample and number of samples of a cut.

    Args:
        cut: of `parse_cut`.
        where: file and line, for messages.
        sample_rate: of its recording, in Hz.
        num_samples: of its recording.

    Raises:
        InputError: it has no times, or they lie outside its recording by more than a sample.
    """
    start, count = (_samples(cut, key, where, sample_rate) for key in ("start", "duration"))
    if start < 0 or count < 1 or start + count > num_samples + 1:  # start and duration are rounded each
        times = f"{start} to {start + count}"
        raise InputError(
            f"{where}: cut '{cut['id']}' takes samples {times} of a recording of {num_samples}", code="lhotse.span"
        )
    return start, min(count, num_samples - start)


def first_sample(cut: Json, where: str, *, sample_rate: int) -> int:
    """Where a cut begins in its recording.

    Raises:
        InputError: it does not say.
    """
    return _samples(cut, "start", where, sample_rate)


def _samples(cut: Json, key: str, where: str, sample_rate: int) -> int:
    try:
        return math.floor(cut[key] * sample_rate + 0.5)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: cut '{cut['id']}' has no {key} in seconds", code="lhotse.form") from error


def labels(cut: Json, where: str) -> Labels:
    """What the supervisions of a cut say.

    Raises:
        InputError: they are none.
    """
    left = {f"custom '{key}' of cuts" for key in cut.get("custom") or {}}
    left |= {"features"} if cut.get("features") else set()
    try:
        supervisions = sorted(cut.get("supervisions") or [], key=lambda s: s.get("start", 0))
        texts = [s["text"] for s in supervisions if s.get("text") is not None]
        text = " ".join(" ".join(texts).split()) if texts else None
        values: dict[str, set[str]] = {"speaker": set(), "utt2lang": set(), "spk2gender": set()}
        for s in supervisions:
            custom = s.get("custom") or {}
            left |= {f"custom '{key}' of supervisions" for key in custom if not _in_custom(key)}
            left |= {"alignments"} if s.get("alignment") else set()
            known = {key: str(value) for key, value in custom.items() if _in_custom(key)}
            known |= {"speaker": s.get("speaker"), "utt2lang": s.get("language"), "spk2gender": _gender(s)}
            for key, value in known.items():
                if value:
                    values.setdefault(key, set()).add(value)
    except (AttributeError, TypeError) as error:
        raise InputError(f"{where}: the supervisions of cut '{cut['id']}' are none", code="lhotse.form") from error
    one = {key: min(found) for key, found in values.items() if len(found) == 1}
    speaker = one.pop("speaker", "")
    if speaker.split() != [speaker] and speaker:
        raise InputError(f"{where}: '{speaker}' cannot be the id of a speaker: spaces in it", code="lhotse.id")
    left |= {name_of(key) for key, found in values.items() if len(found) > 1}
    bad = {key for key, value in one.items() if not _fits(key, value)}
    left |= {name_of(key) for key in bad}
    return Labels(
        text=text,
        speaker=speaker,
        values={key: value for key, value in one.items() if key not in bad},
        left=frozenset(left),
        joined=len(supervisions) > 1,
    )


def _gender(supervision: Json) -> str:
    return str(supervision.get("gender") or "")[:1].lower()


def _fits(table: str, value: str) -> bool:
    layout = layout_of(table)
    assert layout is not None
    if table == "spk2gender":
        return value in ("m", "f")
    return " ".join(value.split()) == value and (layout.max_fields is None or " " not in value)


def name_of(key: str) -> str:
    """What a message calls the field that a table of a data directory comes from."""
    return {"speaker": "several speakers of a cut", "utt2lang": "language", "spk2gender": "gender"}.get(
        key, f"custom '{key}' of supervisions"
    )


def manifest(path: Path) -> Path:
    """The manifest of cuts that a path means: itself, or the one in a folder.

    Raises:
        InputError: there is none.
    """
    if not path.is_dir():
        return path
    for name in ("cuts.jsonl.gz", "cuts.jsonl"):
        if (path / name).is_file():
            return path / name
    raise InputError(f"{path}: neither a Shar folder nor one with cuts.jsonl.gz", code="lhotse.missing")


def read_cuts(path: Path) -> Iterator[LhotseCut]:
    """The cuts of a manifest.

    Raises:
        InputError: a line is no cut, or its audio cannot be named in a data directory.
    """
    for number, line in enumerate(read_lines(path), 1):
        where = f"{path}:{number}"
        cut = parse_cut(line, where)
        yield _in_file(cut, where)


def _in_file(cut: Json, where: str) -> LhotseCut:
    who = f"{where}: cut '{cut['id']}'"
    recording = cut.get("recording")
    if not recording:
        raise InputError(f"{who} has no recording", code="lhotse.source")
    try:
        if recording.get("transforms"):
            names = ", ".join(t["name"] for t in recording["transforms"])
            raise InputError(f"{who} changes its recording: {names}", hint=STORE, code="lhotse.transforms")
        rate, num_samples = recording["sampling_rate"], recording["num_samples"]
        channel = cut.get("channel", 0)
        channels = tuple(channel) if isinstance(channel, list) else (channel,)
        path, file_channel = _place(recording["sources"], channels, who)
        id = recording["id"]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{who} has a recording that is none of lhotse's", code="lhotse.form") from error
    if not isinstance(id, str) or id.split() != [id]:
        raise InputError(f"{who}: {id!r} cannot be the id of a recording: spaces in it", code="lhotse.id")
    start, count = span(cut, where, num_samples=num_samples, sample_rate=rate)
    said = labels(cut, where)
    return LhotseCut(
        utterance=Utterance(
            id=cut["id"],
            path=path,
            start=start,
            num_samples=count,
            sample_rate=rate,
            channel=file_channel,
            text=said.text,
            speaker=said.speaker,
        ),
        recording=id,
        channels=channels,
        whole=count == num_samples,
        labels=said,
    )


def _place(sources: Sequence[Json], channels: tuple[int, ...], who: str) -> tuple[str, int | None]:
    """The value of `wav.scp` for these channels of a recording, and the channel in that file."""
    for source in sources:
        in_file = source["channels"]
        if not set(channels) <= set(in_file):
            continue
        if len(channels) not in (1, len(in_file)):
            numbers = ", ".join(map(str, channels))
            what = f"takes channels {numbers} of a file with {len(in_file)}: one or all can be taken"
            raise InputError(f"{who} {what}", hint=STORE, code="lhotse.channels")
        channel = None if len(channels) == len(in_file) else in_file.index(channels[0])
        kind, place = source["type"], source["source"]
        if kind == "command":
            return f"{place} |", channel
        if kind != "file":
            raise InputError(
                f"{who} has audio of the type '{kind}', which is no file", hint=STORE, code="lhotse.source"
            )
        return os.path.abspath(place), channel  # noqa: PTH100 links stay
    raise InputError(f"{who} takes channels of several files", hint=STORE, code="lhotse.channels")
