from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from speechkit.data.kaldi.tables import DataDir
from speechkit.errors import InputError

Egs = Callable[[str], ModuleType]
Tone = Callable[..., None]


@pytest.fixture
def corpus(tmp_path: Path, tone: Tone) -> Path:
    """Two subsets: one with transcripts, one without."""
    root = tmp_path / "corpora" / "LibriSpeech"
    for subset, speaker, chapter in (
        ("dev-clean", "61", "7"),
        ("dev-clean", "6313", "8"),
        ("train-clean-100", "5", "9"),
    ):
        folder = root / subset / speaker / chapter
        for number in range(2):
            tone(folder / f"{speaker}-{chapter}-{number:04d}.flac", 0.1, 16000)
        if subset == "dev-clean":
            lines = [f"{speaker}-{chapter}-{number:04d} WORD{number} IT'S\n" for number in range(2)]
            (folder / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))
    (root / "SPEAKERS.TXT").write_text("; id | sex\n61   | M | dev-clean | 8.0 | A\n6313 | F | dev-clean | 8.0 | B\n")
    return tmp_path / "corpora"


def test_every_subset_becomes_a_set_and_one_without_transcripts_has_no_text(
    egs: Egs, corpus: Path, tmp_path: Path
) -> None:
    for given in (corpus, corpus / "LibriSpeech"):
        egs("librispeech").prepare(given, tmp_path / "data")
        assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["dev_clean", "train_clean_100"]
        dev = DataDir.read(tmp_path / "data/dev_clean")
        assert dev.text["61-7-0001"] == "WORD1 IT'S"
        assert dev.utt2spk == {i: i.split("-")[0] for i in ("61-7-0000", "61-7-0001", "6313-8-0000", "6313-8-0001")}
        assert dev.spk2gender == {"61": "m", "6313": "f"}
        assert dev.wav_scp["6313-8-0000"].endswith("LibriSpeech/dev-clean/6313/8/6313-8-0000.flac")
        train = DataDir.read(tmp_path / "data/train_clean_100")
        assert train.ids == ["5-9-0000", "5-9-0001"]
        assert train.text == {}
        assert train.spk2gender == {}  # speaker 5 is not in the table


def test_a_splits_file_beside_the_corpus_makes_sets(egs: Egs, corpus: Path, tmp_path: Path) -> None:
    splits = {"train": ["61-7-0000"], "test": ["6313-8-0001"]}
    (corpus / "splits.json").write_text(json.dumps({"speaker_disjoint": splits, "speaker_id": {}}))
    egs("librispeech").prepare(corpus, tmp_path / "data")
    assert DataDir.read(tmp_path / "data/train").text == {"61-7-0000": "WORD0 IT'S"}
    assert DataDir.read(tmp_path / "data/test").spk2gender == {"6313": "f"}
    splits["test"].append("1-1-0000")
    (corpus / "splits.json").write_text(json.dumps({"speaker_disjoint": splits}))
    with pytest.raises(InputError, match="E201 test: 1-1-0000"):
        egs("librispeech").prepare(corpus, tmp_path / "data")


def test_the_sets_of_few_labels_and_of_all_training_data_are_joined(
    egs: Egs, corpus: Path, tone: Tone, tmp_path: Path
) -> None:
    for part in ("1h/0/clean", "1h/5/other", "9h/clean"):
        folder = corpus / "librispeech_finetuning" / part / "9" / str(len(part))
        id = f"9-{len(part)}-0003"
        tone(folder / f"{id}.flac", 0.1, 16000)
        (folder / "x.trans.txt").write_text(f"{id} A\n")
        (corpus / "librispeech_finetuning/1h/0/clean/9/10").mkdir(parents=True, exist_ok=True)
    for subset in ("train-clean-360", "train-other-500"):
        tone(corpus / "LibriSpeech" / subset / "7/1" / f"7-1-{len(subset):04d}.flac", 0.1, 16000)
    (corpus / "LibriSpeech/train-clean-100/5/9/5-9.trans.txt").write_text("5-9-0001 B\n")
    with pytest.raises(InputError, match="5-9-0000 has no transcript"):
        egs("librispeech").prepare(corpus, tmp_path / "data")
    (corpus / "LibriSpeech/train-clean-100/5/9/5-9.trans.txt").write_text("5-9-0001 B\n5-9-0000 C\n")
    egs("librispeech").prepare(corpus, tmp_path / "data")
    sizes = {path.name: len(DataDir.read(path).ids) for path in (tmp_path / "data").iterdir()}
    assert (sizes["train_1h"], sizes["train_9h"], sizes["train_10h"]) == (1, 1, 2)
    assert sizes["train_960"] == 2 + 1 + 1 - 1


def test_a_missing_corpus_is_one_line_and_a_hint(egs: Egs, tmp_path: Path) -> None:
    for given, where in ((None, ": pass --data-dir DIR"), (tmp_path, f" in {tmp_path}")):
        with pytest.raises(InputError) as raised:
            egs("librispeech").prepare(given, tmp_path / "data")
        assert raised.value.message == f"LibriSpeech not found{where}"
        assert "--data-dir is" in raised.value.hint


@pytest.mark.parametrize(
    ("ids", "words", "message"),
    [
        (["1-1-0000", "1-1-0001", "1-2-0000"], 1, None),
        (["1-1-0000", "1-1-0002"], 1, r"E201 x: 2 utterances, expected 3 \(first missing: 1-1-0001\)"),
        (["1-1-0000", "1-1-0001", "2-2-0000"], 1, "E201 x: 2 speakers, expected 1"),
        (["1-1-0000", "1-1-0001", "1-2-0000"], 2, "E201 x: 6 words, expected 3"),
    ],
    ids=["complete", "gap", "speakers", "words"],
)
def test_a_subset_that_is_not_the_official_one_is_refused(
    egs: Egs, ids: list[str], words: int, message: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    librispeech = egs("librispeech")
    facts = librispeech.Facts(utterances=3, speakers=1, words=3, hours=0.0, md5="")
    tables = DataDir(
        wav_scp=dict.fromkeys(ids, "x.flac"),
        text=dict.fromkeys(ids, " ".join(["A"] * words)),
        utt2spk={id: id.split("-")[0] for id in ids},
    )
    monkeypatch.setattr(librispeech, "PART", 0.5)
    if message is None:
        librispeech.check_facts("x", tables, facts)
    else:
        with pytest.raises(InputError, match=message):
            librispeech.check_facts("x", tables, facts)


def test_the_pack_is_a_part_and_says_so(
    egs: Egs, data_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pack = data_dir / "librispeech_mini"
    if not pack.is_dir():
        pytest.skip("no LibriSpeech sample")
    with caplog.at_level(logging.WARNING):
        egs("librispeech").prepare(pack, tmp_path / "data")
    assert "E201 test_other: 80 utterances, a part of the 2939" in caplog.text
    sizes = {path.name: len(DataDir.read(path).ids) for path in (tmp_path / "data").iterdir()}
    assert (sizes["train"], sizes["dev"], sizes["test"], sizes["extra_clean"]) == (50, 10, 20, 6)
    assert sizes["train_clean_100"] == 25
    assert DataDir.read(tmp_path / "data/train_clean_100").text == {}
    listed = {u["id"]: u["text"] for u in map(json.loads, (pack / "utterances.jsonl").read_text().splitlines())}
    assert DataDir.read(tmp_path / "data/test_other").text.items() <= listed.items()
