"""From Kaldi data directories to lhotse's manifests and back, with a word on what the other cannot hold."""

from __future__ import annotations

import gzip
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from speechkit.audio.recording import AudioInfo
from speechkit.data.kaldi.rxfilename import parse
from speechkit.data.kaldi.tables import DataDir, Table
from speechkit.data.kaldi.utterances import Measured
from speechkit.data.lhotse.forms import (
    STORE,
    Json,
    LhotseCut,
    as_line,
    cut_json,
    name_of,
    recording_json,
    supervision_fields,
)
from speechkit.data.utterance import Utterance
from speechkit.errors import InputError
from speechkit.files import whole

MANIFESTS = ("recordings", "supervisions", "cuts")


def write_manifests(out: str | Path, tables: DataDir, measured: Measured) -> list[str]:
    """Write `recordings.jsonl.gz`, `supervisions.jsonl.gz` and `cuts.jsonl.gz` to a folder, whole or not at all.

    Args:
        out: the folder.
        tables: a data directory.
        measured: the same, with its lengths.

    Returns:
        Names of tables that have no place in them.

    Raises:
        InputError: a recording lies in an archive, which lhotse cannot read.
    """
    fields, left = supervision_fields(tables)
    recordings: dict[str, Json] = {}
    cuts = []
    for utterance in measured.utterances:
        id = tables.segments[utterance.id].split(" ")[0] if tables.segments else utterance.id
        if id not in recordings:
            recordings[id] = _on_disk(id, utterance.path, measured.headers[id])
        cuts.append(cut_json(utterance, recordings[id], fields[utterance.id]))
    supervisions = [s | {"start": cut["start"]} for cut in cuts for s in cut["supervisions"]]
    with whole(out) as temporary:
        temporary.mkdir()
        for name, objects in zip(MANIFESTS, (recordings.values(), supervisions, cuts), strict=True):
            # without name and time, so that the same data gives the same bytes
            with (temporary / f"{name}.jsonl.gz").open("wb") as file, gzip.GzipFile("", "wb", 6, file, 0) as lines:
                for each in objects:
                    lines.write(as_line(each))
    return left


def _on_disk(id: str, path: str, header: AudioInfo) -> Json:
    name = parse(path)
    if name.kind not in ("path", "pipe"):
        hint = "store the audio with the cuts: speechkit data to-shar"
        raise InputError(f"recording '{id}' lies at {path}, which lhotse cannot read", hint=hint, code="lhotse.source")
    return recording_json(
        id,
        "command" if name.kind == "pipe" else "file",
        name.target if name.kind == "pipe" else os.path.abspath(path),  # noqa: PTH100 links stay
        num_samples=header.num_samples,
        sample_rate=header.sample_rate,
        channels=header.channels,
    )


def data_dir(cuts: Iterable[LhotseCut]) -> tuple[DataDir, list[str]]:
    """The data directory of cuts, and a line for everything that it cannot hold.

    There are no `segments` where every cut is a recording of its own that has its id.

    Raises:
        InputError: two cuts have the same id, there is no cut, or a channel has no name in Kaldi.
    """
    found: dict[str, LhotseCut] = {}
    for cut in cuts:
        if cut.utterance.id in found:
            raise InputError(f"two cuts have the id '{cut.utterance.id}'", code="lhotse.id")
        found[cut.utterance.id] = cut
    if not found:
        raise InputError("no cut with audio", code="lhotse.missing")
    keys = _recording_keys(found.values())
    with_segments = any(not cut.whole or keys[id] != id for id, cut in found.items())
    tables: dict[str, Table] = {
        "wav.scp": {keys[id]: cut.utterance.path for id, cut in found.items()},
        "segments": {id: f"{keys[id]} {_times(cut.utterance)}" for id, cut in found.items() if with_segments},
        "utt2spk": {id: cut.utterance.speaker or id for id, cut in found.items()},
        "reco2file_and_channel": _channels(found, keys),
    }
    notes = []
    texts = {id: cut.utterance.text for id, cut in found.items() if cut.utterance.text is not None}
    if texts:
        tables["text"] = {id: texts.get(id, "") for id in found}
        notes += _count([id for id in found if id not in texts], "without text", "the transcript is empty")
    notes += _count([id for id, cut in found.items() if cut.labels.joined], "of several supervisions", "texts joined")
    mixed = [id for id, cut in found.items() if len(cut.channels) > 1]
    notes += _count(mixed, "of several channels", "these will be averaged")
    left = set().union(*(cut.labels.left for cut in found.values()))
    left |= _add_values(tables, found)
    if left:
        notes.append(f"left out, for want of a place: {', '.join(sorted(left))}")
    return DataDir.of(tables), notes


def _count(ids: Sequence[str], what: str, so: str) -> list[str]:
    return [f"{len(ids):,} {'cuts' if len(ids) > 1 else 'cut'} {what}, such as '{ids[0]}': {so}"] if ids else []


def _recording_keys(cuts: Iterable[LhotseCut]) -> dict[str, str]:
    """What a recording is called, by cut: its id, with its channels where it is used with different ones."""
    used: dict[str, set[tuple[int, ...]]] = {}
    cuts = list(cuts)
    for cut in cuts:
        used.setdefault(cut.recording, set()).add(cut.channels)
    return {
        cut.utterance.id: cut.recording
        if len(used[cut.recording]) == 1
        else f"{cut.recording}-{'_'.join(map(str, cut.channels))}"
        for cut in cuts
    }


def _channels(found: Mapping[str, LhotseCut], keys: Mapping[str, str]) -> Table:
    """`reco2file_and_channel`, where a channel of a file with several is taken."""
    table = {}
    for id, cut in found.items():
        channel = cut.utterance.channel
        if channel is not None and channel > 1:
            what = f"cut '{id}' takes channel {channel} of a file; Kaldi has names for 0 and 1 only"
            raise InputError(what, hint=STORE, code="lhotse.channels")
        if channel is not None:
            table[keys[id]] = f"{cut.recording} {'AB'[channel]}"
    if table:  # Kaldi wants all recordings in it
        alone = {keys[id]: f"{cut.recording} A" for id, cut in found.items() if len(cut.channels) == 1}
        table = alone | table
    return table


def _times(utterance: Utterance) -> str:
    rate = utterance.sample_rate
    return f"{_seconds(utterance.start, rate)} {_seconds(utterance.start + utterance.num_samples, rate)}"


def _seconds(num_samples: int, rate: int) -> str:
    """The shortest decimal number, from two places on, that names this sample."""
    places = 2
    while math.floor(float(text := f"{num_samples / rate:.{places}f}") * rate + 0.5) != num_samples:
        places += 1
    return text


def _add_values(tables: dict[str, Table], found: Mapping[str, LhotseCut]) -> set[str]:
    """Add the tables that all cuts, or speakers, have one value for; name the others."""
    left = set()
    for name in sorted(set().union(*(cut.labels.values for cut in found.values()))):
        keys = tables["utt2spk"] if name == "spk2gender" else {id: id for id in found}
        values: dict[str, set[str]] = {}
        for id, cut in found.items():
            values.setdefault(keys[id], set()).update({cut.labels.values[name]} if name in cut.labels.values else ())
        if all(len(each) == 1 for each in values.values()):
            tables[name] = {key: min(each) for key, each in values.items()}
        else:
            left.add(f"{name_of(name)} (not all have one)")
    return left
