"""Figures of a data directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechkit.data.kaldi.stats import Stats, stats
from speechkit.errors import InputError
from tests.data.datadirs import PLAIN, SEGMENTED, make, tone

EXPECTED = Stats(
    num_utterances=3,
    num_speakers=2,
    num_words=5,
    hours=4.75 / 3600,
    shortest_s=1.5,
    mean_s=4.75 / 3,
    median_s=1.5,
    longest_s=1.75,
    histogram=(0, 3, 0, 0, 0, 0, 0, 0),
)


def test_lengths_come_from_segments_first(tmp_path: Path) -> None:
    path = make(tmp_path, {**SEGMENTED, "utt2dur": "s01-u1 9\ns01-u2 9\ns02-u1 9\n"})
    assert stats(path, root=tmp_path) == EXPECTED


def test_lengths_come_from_utt2dur_without_segments(tmp_path: Path) -> None:
    path = make(tmp_path, {**PLAIN, "utt2dur": "s01-u1 1.5\ns01-u2 1.5\ns02-u1 1.75\n"})
    assert stats(path, root=tmp_path) == EXPECTED


@pytest.mark.parametrize(
    "files", [PLAIN, {**SEGMENTED, "segments": "s01-u1 r1 0 -1\ns01-u2 r2 0 -1\ns02-u1 r3 0 -1\n"}]
)
def test_lengths_are_measured_otherwise(tmp_path: Path, files: dict[str, str]) -> None:
    for name, seconds in (("a", 1.5), ("b", 1.5), ("c", 1.75)):
        tone(tmp_path / f"{name}.wav", seconds)
    if "segments" in files:
        files = {**files, "wav.scp": "r1 a.wav\nr2 b.wav\nr3 c.wav\n"}
    assert stats(make(tmp_path / "d", files), root=tmp_path) == EXPECTED


def test_each_bin_begins_with_its_edge(tmp_path: Path) -> None:
    seconds = [0.5, 1.0, 1.99, 2.0, 5.0, 10, 15, 20, 30, 3000]
    ids = [f"u{n:02}" for n in range(len(seconds))]
    files = {
        "utt2spk": "".join(f"{id} {id}\n" for id in ids),
        "utt2dur": "".join(f"{id} {s}\n" for id, s in zip(ids, seconds, strict=True)),
    }
    assert stats(make(tmp_path, files), root=tmp_path).histogram == (1, 2, 1, 1, 1, 1, 1, 2)


def test_a_directory_without_utterances_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        stats(tmp_path, root=tmp_path)
