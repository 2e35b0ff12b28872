"""Rules on what `wav.scp` and feature lists point at (E161–W167, E171, E413, W191 by content)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from speechkit.audio.files import AudioInfo, blocks
from speechkit.data.kaldi import rxfilename
from speechkit.data.kaldi.ark import header_at
from speechkit.data.kaldi.directory import Directory, Record
from speechkit.data.kaldi.problem import Problem
from speechkit.data.kaldi.utterances import audio_problem, read_header
from speechkit.errors import InputError

Depth = Literal["none", "stat", "header", "full"]

_BLOCK_SAMPLES = 1 << 20
_FULL_SCALE = 32767 / 32768
_MAX_CLIPPED_SHARE = 0.001


@dataclass(frozen=True, kw_only=True, slots=True)
class Recordings:
    """What was learned about the recordings.

    Attributes:
        headers: by recording, where they could be read.
        digests: by recording, of the decoded samples; only after a full check.
        problems: E161–W166, E413.
    """

    headers: dict[str, AudioInfo]
    digests: dict[str, str]
    problems: list[Problem]


def check_recordings(directory: Directory, depth: Depth, *, root: Path, allow_pipes: bool) -> Recordings:
    """Look at every recording of `wav.scp`.

    Args:
        directory: whose `wav.scp`.
        depth: `none` looks at the values only, `stat` whether the files exist, `header` at their headers, `full` at
            every sample.
        root: where relative paths count from.
        allow_pipes: run the commands; without it they are findings, except at the depths that need no audio.
    """
    recordings = Recordings(headers={}, digests={}, problems=[])
    if "wav.scp" not in directory.tables:
        return recordings
    for key, record in directory.tables["wav.scp"].first.items():
        try:
            if record.value:
                _check_recording(key, record, recordings, depth, root, allow_pipes)
        except InputError as error:
            decoding = key in recordings.headers
            recordings.problems.append(audio_problem(error, record.line, "E164" if decoding else "E163"))
    recordings.problems.extend(_check_mixture(directory, recordings.headers))
    return recordings


def _check_recording(
    key: str, record: Record, recordings: Recordings, depth: Depth, root: Path, allow_pipes: bool
) -> None:
    name = rxfilename.parse(record.value)
    if depth == "none" or (depth == "stat" and name.kind == "pipe"):
        return
    if depth == "stat":
        rxfilename.check_file(name, root)
        return
    info = read_header(record.value, root=root, allow_pipes=allow_pipes)
    recordings.headers[key] = info
    if info.warning:
        recordings.problems.append(_wav(record.line, "W164", info.warning))
    if depth == "full":
        source = rxfilename.open_audio(record.value, root=root, allow_pipes=allow_pipes)
        content = decode(source)
        recordings.digests[key] = content.digest
        if content.peak == 0:
            recordings.problems.append(_wav(record.line, "W166", "all samples are zero"))
        elif content.clipped_share > _MAX_CLIPPED_SHARE:
            share = f"{100 * content.clipped_share:.1f} % of samples at full scale"
            recordings.problems.append(_wav(record.line, "W166", share))


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """What all samples of a recording say."""

    digest: str
    peak: float
    clipped_share: float


def decode(source: Path | BinaryIO) -> Content:
    """Decode a recording to its end.

    Raises:
        InputError: it cannot be decoded, or holds NaN.
    """
    digest = hashlib.blake2b(digest_size=16)
    peak, num_clipped, num_values = 0.0, 0, 0
    for block in blocks(source, _BLOCK_SAMPLES):
        level = np.abs(block.samples)
        peak = max(peak, float(level.max(initial=0.0)))
        num_clipped += int((level >= _FULL_SCALE).sum())
        num_values += level.size
        digest.update(np.ascontiguousarray(block.samples.T).tobytes())
    return Content(digest=digest.hexdigest(), peak=peak, clipped_share=num_clipped / max(num_values, 1))


def _check_mixture(directory: Directory, headers: Mapping[str, AudioInfo]) -> Iterator[Problem]:
    """W165: what differs from the most common rate or number of channels."""
    rates = Counter(info.sample_rate for info in headers.values())
    channels = Counter(info.channels for info in headers.values())
    for key, info in headers.items():
        line = directory.tables["wav.scp"].first[key].line
        rate, num_same = rates.most_common(1)[0]
        if info.sample_rate != rate:
            most = f"{num_same:,} of {len(headers):,} files are {rate} Hz"
            yield _wav(line, "W165", f"{info.sample_rate} Hz here; {most}")
        common, num_same = channels.most_common(1)[0]
        if info.channels != common:
            most = f"{num_same:,} of {len(headers):,} files have {common}"
            yield _wav(line, "W165", f"channels: {info.channels} here; {most}")


def check_same_audio(directory: Directory) -> Iterator[Problem]:
    """W167: two utterances on one recording (and channel) without `segments`."""
    if "segments" in directory.tables or "wav.scp" not in directory.tables:
        return
    channels = directory.tables.get("reco2file_and_channel")
    seen: dict[tuple[str, str], str] = {}
    for key, record in directory.tables["wav.scp"].first.items():
        channel = channels.first[key].value.rpartition(" ")[2] if channels and key in channels.first else ""
        other = seen.setdefault((record.value, channel), key)
        if other != key and record.value:
            yield _wav(record.line, "W167", f"same audio as '{other}'")


def check_same_content(
    directory: Directory, digests: Mapping[str, str], other: Directory, other_digests: Mapping[str, str]
) -> Iterator[Problem]:
    """W191: recordings whose samples are those of a recording in another directory."""
    lines = {digest: other.tables["wav.scp"].first[key].line for key, digest in other_digests.items()}
    for key, digest in digests.items():
        if digest in lines:
            line = directory.tables["wav.scp"].first[key].line
            yield _wav(line, "W191", f"same audio as {other.path}/wav.scp:{lines[digest]}")


def check_home_paths(directory: Directory) -> Iterator[Problem]:
    """E161 in the lists other than `wav.scp`."""
    for name, table in directory.tables.items():
        if table.layout.verbatim and name != "wav.scp":
            for record in table.records:
                if record.value.startswith("~"):
                    message, hint = "'~' is not expanded", "write the full path"
                    yield Problem(file=name, line=record.line, code="E161", message=message, hint=hint)


def check_features(directory: Directory, *, root: Path) -> Iterator[Problem]:
    """E171: an object where each list says, and features of one dimension."""
    for name in ("feats.scp", "vad.scp", "cmvn.scp"):
        dimensions: dict[int, int] = {}
        for record in directory.tables[name].records if name in directory.tables else ():
            if not record.value or record.value.startswith("~"):
                continue
            try:
                shape = header_at(record.value, root=root).shape
            except InputError as error:
                yield Problem(file=name, line=record.line, code="E171", message=error.message)
                continue
            if name == "feats.scp" and shape and len(shape) == 2:
                dimensions[record.line] = shape[1]
        most = Counter(dimensions.values()).most_common(1)
        for line, dimension in dimensions.items():
            if dimension != most[0][0]:
                message = f"dimension {dimension}, others {most[0][0]}"
                yield Problem(file=name, line=line, code="E171", message=message)


def _wav(line: int, code: str, message: str) -> Problem:
    return Problem(file="wav.scp", line=line, code=code, message=message)
