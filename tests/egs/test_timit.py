from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from speechkit.data.kaldi.tables import DataDir
from speechkit.errors import InputError
from speechkit.metrics.units import Span, label_ids, read_alignment

Egs = Callable[[str], ModuleType]
Tone = Callable[..., None]


@pytest.fixture
def sentence(tone: Tone) -> Callable[[Path], None]:
    """Write a recording of 0.5 s with its labels."""

    def write(recording: Path) -> None:
        tone(recording, 0.5, 16000, format="WAV" if recording.suffix == ".WAV" else None)
        recording.with_suffix(".PHN").write_text("0 1600 h#\n1600 3200 hv\n3200 4000 q\n4000 6400 ax-h\n6400 8000 h#\n")
        recording.with_suffix(".WRD").write_text("1600 4800 had\n4000 6400 your\n")

    return write


def test_a_sample_becomes_one_set_with_words_and_folded_phones(
    egs: Egs, sentence: Callable[[Path], None], tmp_path: Path
) -> None:
    for name in ("DR1/FVMH0/SA1.flac", "DR2/MARC0/SX3.WAV"):
        sentence(tmp_path / "timit" / name)
    egs("timit").prepare(tmp_path / "timit", tmp_path / "data")
    tables = DataDir.read(tmp_path / "data/sample")
    assert tables.text == {"fvmh0-sa1": "had your", "marc0-sx3": "had your"}
    assert tables.spk2gender == {"fvmh0": "f", "marc0": "m"}
    phones = read_alignment(tmp_path / "data/sample/phones")["fvmh0-sa1"]
    assert phones == [Span(0.0, 0.1, "sil"), Span(0.1, 0.2, "hh"), Span(0.25, 0.4, "ah"), Span(0.4, 0.5, "sil")]


def test_the_official_sets_leave_out_what_all_speakers_say(
    egs: Egs, sentence: Callable[[Path], None], tmp_path: Path
) -> None:
    for name in ("TRAIN/DR1/FCJF0", "TEST/DR1/MDAB0", "TEST/DR1/FAKS0", "TEST/DR1/MREB0", "TEST/DR1/MSTK0"):
        for number in ("SA1", "SI1027", "SX37"):
            sentence(tmp_path / "TIMIT" / name / f"{number}.WAV")
    egs("timit").prepare(tmp_path, tmp_path / "data")
    ids = {path.name: DataDir.read(path).ids for path in (tmp_path / "data").iterdir()}
    assert ids == {
        "train": ["fcjf0-si1027", "fcjf0-sx37"],
        "dev": ["faks0-si1027", "faks0-sx37", "mreb0-si1027", "mreb0-sx37"],
        "test": ["mdab0-si1027", "mdab0-sx37"],
    }


def test_dev_and_core_test_have_their_official_sizes_and_share_no_speaker(egs: Egs) -> None:
    timit = egs("timit")
    assert (len(set(timit.DEV)), len(set(timit.TEST))) == (50, 24)
    assert not set(timit.DEV) & set(timit.TEST)
    assert [timit.FACTS[name].utterances / timit.FACTS[name].speakers for name in ("train", "dev", "test")] == [8, 8, 8]


def test_a_gap_is_refused_and_names_the_speaker(egs: Egs) -> None:
    timit = egs("timit")
    test = [timit.Sentence(speaker, f"sx{n}", Path()) for speaker in timit.TEST for n in range(8)]
    timit.check_facts("test", test)
    with pytest.raises(
        InputError, match="E201 test: 191 utterances of 24 speakers, expected 192 of 24; mdab0 has 7 of 8"
    ):
        timit.check_facts("test", test[1:])


def test_missing_and_malformed_labels_are_named(egs: Egs, sentence: Callable[[Path], None], tmp_path: Path) -> None:
    recording = tmp_path / "DR1/FVMH0/SA1.flac"
    sentence(recording)
    recording.with_suffix(".WRD").write_text("1600 4800 had\n4000 your\n")
    with pytest.raises(InputError, match=r"SA1\.WRD:2: not a line"):
        egs("timit").prepare(tmp_path, tmp_path / "data")
    recording.with_suffix(".WRD").unlink()
    with pytest.raises(InputError, match=r"SA1\.flac: no \.WRD"):
        egs("timit").prepare(tmp_path, tmp_path / "data")
    with pytest.raises(InputError, match=r"^TIMIT not found: pass --data-dir DIR$"):
        egs("timit").prepare(None, tmp_path / "data")


def test_the_pack_folds_to_39_phones(egs: Egs, data_dir: Path, tmp_path: Path) -> None:
    pack = data_dir / "timit_sample"
    if not pack.is_dir():
        pytest.skip("no TIMIT sample")
    egs("timit").prepare(pack, tmp_path / "data")
    alignment = read_alignment(tmp_path / "data/sample/phones")
    assert len(alignment) == len(DataDir.read(tmp_path / "data/sample").ids) == 140
    assert len(label_ids(alignment)) == 39
