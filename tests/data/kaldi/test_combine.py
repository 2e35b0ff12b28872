"""Directories put together, cut down and moved."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechkit.data.kaldi.combine import combine, moved, subset
from speechkit.data.kaldi.tables import DataDir
from speechkit.errors import InputError, UsageError

A = DataDir(wav_scp={"a-1": "1.wav"}, utt2spk={"a-1": "a"}, text={"a-1": "x"}, spk2gender={"a": "f"})
B = DataDir(
    wav_scp={"r": "r.wav"},
    segments={"b-1": "r 0 1", "b-2": "r 1 2"},
    utt2spk={"b-1": "b", "b-2": "b"},
    text={"b-1": "y", "b-2": "z"},
)


def test_tables_are_joined_and_those_not_all_have_are_named() -> None:
    tables, left = combine([("A", A), ("B", B)])
    assert tables == DataDir(
        wav_scp={"a-1": "1.wav", "r": "r.wav"},
        segments={"a-1": "a-1 0 -1", "b-1": "r 0 1", "b-2": "r 1 2"},
        utt2spk={"a-1": "a", "b-1": "b", "b-2": "b"},
        text={"a-1": "x", "b-1": "y", "b-2": "z"},
    )
    assert left == ["spk2gender"]


def test_the_same_record_twice_is_one_and_two_values_are_an_error() -> None:
    assert combine([("A", A), ("A", A)]) == (A, [])
    other = DataDir(wav_scp={"a-1": "2.wav"}, utt2spk={"a-1": "a"}, text={"a-1": "x"}, spk2gender={"a": "f"})
    with pytest.raises(InputError, match=r"C/wav.scp: 'a-1' has another value .*: '2.wav' and '1.wav'"):
        combine([("A", A), ("C", other)])


def test_a_subset_is_taken_by_number_by_ids_or_by_speakers() -> None:
    tables, _ = combine([("A", A), ("B", B)])
    assert subset(tables, first=2).ids == ["a-1", "b-1"]
    assert subset(tables, ids=["b-2", "a-1"]).ids == ["a-1", "b-2"]
    assert subset(tables, speakers=1) == tables.select(["a-1"])


def test_what_is_not_there_cannot_be_taken() -> None:
    for wanted in ({"first": 3}, {"first": 0}, {"speakers": 2}):
        with pytest.raises(UsageError):
            subset(B, **wanted)
    with pytest.raises(InputError, match="1 ids are not in the directory, such as 'x'"):
        subset(B, ids=["b-1", "x"])
    with pytest.raises(InputError, match="no ids"):
        subset(B, ids=[])


def test_paths_become_absolute_only_where_they_would_mean_something_else(tmp_path: Path) -> None:
    tables = DataDir(
        wav_scp={"a": "1.wav", "b": "cat 1.wav |", "c": "/x/1.wav", "d": "w.ark:7"},
        others={"feats.scp": {"a": "f.ark:5[0:3]"}},
    )
    assert moved(tables, tmp_path, tmp_path) == tables
    assert moved(tables, tmp_path, tmp_path / "there") == DataDir(
        wav_scp={"a": f"{tmp_path}/1.wav", "b": "cat 1.wav |", "c": "/x/1.wav", "d": f"{tmp_path}/w.ark:7"},
        others={"feats.scp": {"a": f"{tmp_path}/f.ark:5[0:3]"}},
    )
