"""Parts of equal length."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechkit.data.kaldi.split import balanced, split
from speechkit.data.kaldi.tables import DataDir
from speechkit.data.kaldi.validate import ValidateOptions, validate
from speechkit.errors import UsageError
from tests.data.datadirs import SEGMENTED, make

LOADS = st.dictionaries(st.text("abc", min_size=1, max_size=3), st.floats(0, 100), min_size=1, max_size=12)


@given(LOADS, st.data())
def test_parts_hold_every_name_once_and_none_is_empty(loads: dict[str, float], data: st.DataObject) -> None:
    parts = balanced(loads, data.draw(st.integers(1, len(loads))))
    assert sorted(name for part in parts for name in part) == sorted(loads)
    assert all(parts)
    weights = [sum(loads[name] for name in part) for part in parts]
    assert max(weights) - min(weights) <= max(loads.values()) + 1e-9


def test_the_longest_goes_first_into_the_lightest_part() -> None:
    loads = {"a": 5.0, "b": 4.0, "c": 3.0, "d": 3.0, "e": 3.0}
    assert balanced(loads, 2) == [["a", "d"], ["b", "c", "e"]]


def test_speakers_stay_whole_and_parts_validate(tmp_path: Path) -> None:
    path = make(tmp_path / "d", SEGMENTED)
    split(path, 2, path / "split2", root=tmp_path)
    parts = [DataDir.read(path / "split2" / n) for n in ("1", "2")]
    assert [part.utt2spk for part in parts] == [{"s01-u1": "s01", "s01-u2": "s01"}, {"s02-u1": "s02"}]
    assert [part.segments["s02-u1"] for part in parts[1:]] == ["r2 0.25 2.00"]
    for number in (1, 2):
        problems = validate(path / f"split2/{number}", ValidateOptions())
        assert {p.code for p in problems} == {"W181"}


def test_too_few_speakers_name_the_way_out(tmp_path: Path) -> None:
    path = make(tmp_path / "d", SEGMENTED)
    with pytest.raises(UsageError, match="2 speakers cannot make 3 parts") as caught:
        split(path, 3, tmp_path / "out", root=tmp_path)
    assert "--per-utt" in caught.value.hint
    assert not (tmp_path / "out").exists()
    split(path, 3, tmp_path / "out", root=tmp_path, per_utterance=True)
    assert [DataDir.read(tmp_path / "out" / n).ids for n in "123"] == [["s02-u1"], ["s01-u1"], ["s01-u2"]]
    with pytest.raises(UsageError, match="3 utterances cannot make 4 parts"):
        split(path, 4, tmp_path / "more", root=tmp_path, per_utterance=True)
    for number in (0, 4):
        with pytest.raises(UsageError) as caught:
            split(path, number, tmp_path / "more", root=tmp_path)
        assert caught.value.hint == ""


def test_relative_paths_keep_their_meaning_in_parts_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = make(tmp_path / "egs/data/train", SEGMENTED)
    split(path, 1, path / "split1", root=tmp_path / "egs")
    assert DataDir.read(path / "split1/1").wav_scp["r1"] == "a.wav"
    split(path, 1, tmp_path / "out", root=tmp_path / "egs")
    assert DataDir.read(tmp_path / "out/1").wav_scp["r1"] == str(tmp_path / "egs/a.wav")


def test_without_audio_frames_decide(tmp_path: Path) -> None:
    files = {"utt2spk": "a a\nb b\nc c\n", "utt2num_frames": "a 10\nb 90\nc 70\n"}
    split(make(tmp_path / "d", files), 2, tmp_path / "out", root=tmp_path)
    assert [DataDir.read(tmp_path / "out" / n).ids for n in "12"] == [["b"], ["a", "c"]]
