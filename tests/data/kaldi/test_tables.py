"""Reading and writing of the tables of a data directory."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechkit.data.kaldi.tables import DataDir, read_table, root_of, write_table
from speechkit.errors import InputError
from tests.data.datadirs import SEGMENTED, contents, make

IDS = st.text(st.characters(exclude_categories=("Z", "C"), exclude_characters="/"), min_size=1, max_size=6)
WORDS = st.lists(IDS, max_size=4).map(" ".join)


def test_a_value_keeps_everything_after_the_first_space(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes("a sox x.wav  -t wav - |\nb x\u00a0y\u3000z\u2028w\n".encode())
    assert read_table(tmp_path / "t") == {"a": "sox x.wav  -t wav - |", "b": "x\u00a0y\u3000z\u2028w"}


def test_tables_are_written_in_byte_order(tmp_path: Path) -> None:
    write_table(tmp_path / "t", {"1_2": "b", "A-2": "", "13_1": "a", "A-10": "c", "é": "d", "😀": "e", "\uff21": "f"})
    lines = (tmp_path / "t").read_bytes().split(b"\n")[:-1]
    assert lines == sorted(lines)
    assert lines[:4] == [b"13_1 a", b"1_2 b", b"A-10 c", b"A-2"]


@given(st.dictionaries(IDS, WORDS))
def test_a_table_comes_back_as_it_was_written(table: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_table(Path(folder) / "t", table)
        assert read_table(Path(folder) / "t") == table


@given(st.dictionaries(IDS, st.tuples(IDS, WORDS, IDS), min_size=1, max_size=8))
def test_a_data_directory_comes_back_as_it_was_written(utterances: dict[str, tuple[str, str, str]]) -> None:
    tables = DataDir(
        wav_scp={id: path for id, (_, _, path) in utterances.items()},
        text={id: text for id, (_, text, _) in utterances.items()},
        utt2spk={id: speaker for id, (speaker, _, _) in utterances.items()},
        others={"utt2lang": dict.fromkeys(utterances, "de"), "text.lc.rm.en": dict.fromkeys(utterances, "hi there")},
    )
    with tempfile.TemporaryDirectory() as folder:
        tables.write(folder)
        assert DataDir.read(folder) == tables
        assert read_table(Path(folder) / "spk2utt") == tables.spk2utt


@pytest.mark.parametrize(
    ("content", "line", "code"),
    [
        (b"a x\nb \xff\n", 2, "E103"),
        (b"a x\nb y", 2, "E104"),
        (b"a x\r\nb y\n", 1, "E104"),
        (b"a\tx\n", 1, "E106"),
        (b"a x\n\nb y\n", 2, "E106"),
        (b"a x\nb y\na x\n", 3, "E109"),
    ],
)
def test_a_broken_line_is_named_by_file_and_line(tmp_path: Path, content: bytes, line: int, code: str) -> None:
    (tmp_path / "text").write_bytes(content)
    with pytest.raises(InputError, match=rf"text:{line}: {code} ") as caught:
        read_table(tmp_path / "text")
    assert caught.value.code == code


@pytest.mark.parametrize("table", [{"a b": "x"}, {"": "x"}, {"a\u3000": "x"}, {"a": "x\ny"}, {"a": " x"}])
def test_what_would_break_a_line_is_not_written(tmp_path: Path, table: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"cannot be a key|breaks its line"):
        write_table(tmp_path / "t", table)
    assert not (tmp_path / "t").exists()


def test_select_keeps_the_records_of_utterances_recordings_and_speakers(tmp_path: Path) -> None:
    make(tmp_path, {**SEGMENTED, "spk2gender": "s01 m\ns02 f\n", "reco2dur": "r1 3.0\nr2 2.0\n"})
    part = DataDir.read(tmp_path).select(["s02-u1"])
    assert part.tables() == {
        "wav.scp": {"r2": "b.wav"},
        "segments": {"s02-u1": "r2 0.25 2.00"},
        "text": {"s02-u1": "yes"},
        "utt2spk": {"s02-u1": "s02"},
        "reco2dur": {"r2": "2.0"},
        "spk2gender": {"s02": "f"},
    }


def test_writing_over_a_directory_leaves_no_table_of_before(tmp_path: Path) -> None:
    make(tmp_path, {**SEGMENTED, "notes.md": "mine\n"})
    DataDir(wav_scp={"a": "a.wav"}, utt2spk={"a": "a"}).write(tmp_path)
    assert set(contents(tmp_path)) == {"wav.scp", "utt2spk", "spk2utt", "notes.md"}


def test_relative_paths_count_from_the_parent_of_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert root_of(tmp_path / "egs/x/data/train") == tmp_path / "egs/x"
    assert root_of(tmp_path / "egs/x/data/train/split4utt/3") == tmp_path / "egs/x"
    assert root_of("somewhere/train") == tmp_path
