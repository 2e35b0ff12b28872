"""`speechkit eval` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from speechkit.cli.main import main


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("ref.txt").write_text("u-1 the cat sat\nu-2 on the mat\nu-3 today\n")
    Path("hyp.txt").write_text("u-1 the hat sat\nu-2 on mat\nu-3 today today\n")
    return tmp_path


TABLE = """\
|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|
|---|---|---|---|---|---|---|---|---|
|hyp|3|7|71.4|14.3|14.3|14.3|42.9|100.0|
"""


def test_the_table_has_the_columns_of_sclite(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "wer", "ref.txt", "hyp.txt"]) == 0
    assert capsys.readouterr() == (TABLE, "")


def test_json_holds_counts_and_the_interval(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "wer", "ref.txt", "hyp.txt", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    names = ("sentences", "words", "correct", "substitutions", "deletions", "insertions", "sentence_errors")
    assert [value[name] for name in names] == [3, 7, 5, 1, 1, 1, 3]
    low, high = value["interval_95"]
    assert low < value["error_rate"] < high
    assert sorted(map(str, value["confusions"])) == sorted(
        map(str, [["cat", "hat", 1], ["the", None, 1], [None, "today", 1]])
    )


def test_an_interval_on_request_follows_the_table(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "wer", "ref.txt", "hyp.txt", "--bootstrap", "100"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(TABLE + "95 % interval of Err: ")
    assert out.endswith("(100 resamples)\n")


def test_characters_are_counted_by_cer(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "cer", "ref.txt", "hyp.txt"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("|hyp|3|26|")


def test_utterances_and_alignments_are_written(here: Path) -> None:
    assert main(["eval", "wer", "ref.txt", "hyp.txt", "--per-utt", "per", "--align", "ali"]) == 0
    assert Path("per").read_text().splitlines()[4:8] == [
        "u-2 ref on the mat",
        "u-2 hyp on *** mat",
        "u-2 op C D C",
        "u-2 #csid 2 0 0 1",
    ]
    assert Path("ali").read_text().split("\n\n")[:2] == [
        "id: u-1\nScores: (#C #S #D #I) 2 1 0 0\nREF:  the CAT sat\nHYP:  the HAT sat",
        "id: u-2\nScores: (#C #S #D #I) 2 0 1 0\nREF:  on THE mat\nHYP:  on *** mat",
    ]


def test_what_is_there_is_replaced_only_when_told_and_what_is_scored_never(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("notes").write_text("precious")
    command = ["eval", "wer", "ref.txt", "hyp.txt", "--per-utt"]
    assert main([*command, "notes"]) == 5
    assert main([*command, "ref.txt", "--overwrite"]) == 2
    assert "would replace what is to be scored" in capsys.readouterr().err
    assert Path("notes").read_text() == "precious"
    assert main([*command, "notes", "--overwrite"]) == 0
    assert "#csid" in Path("notes").read_text()


def test_a_normalizer_applies_to_both_sides(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.trn").write_text("The CAT. (u1)\n")
    Path("b.jsonl").write_text('{"input": "wav/u1.wav", "ok": true, "text": "the cat"}\n')
    assert main(["eval", "wer", "a.trn", "b.jsonl"]) == 0
    assert main(["eval", "wer", "a.trn", "b.jsonl", "--normalizer", "basic"]) == 0
    plain, normalized = capsys.readouterr().out.splitlines()[2::3]
    assert (plain.split("|")[8], normalized.split("|")[8]) == ("100.0", "0.0")


def test_missing_utterances_count_as_deletions_and_are_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("ref").write_text("u1 a\nu2 b\n")
    Path("hyp").write_text("u1 a\n")
    assert main(["eval", "wer", "ref", "hyp"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "|hyp|2|2|50.0|0.0|50.0|0.0|50.0|50.0|"
    assert "1 of 2 utterances are missing and count as deletions, the first is u2" in err


@pytest.mark.parametrize(
    ("ref", "hyp", "message"),
    [
        ("u1 a\n", "u2 a\n", "no utterance of ref is in it; its first is u2, the other's u1"),
        ("u1 a\n", "u1 a\nu2 b\n", "u2: a hypothesis without reference"),
        ("", "", "there are no references"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    here: Path, capsys: pytest.CaptureFixture[str], ref: str, hyp: str, message: str
) -> None:
    Path("ref").write_text(ref)
    Path("hyp").write_text(hyp)
    assert main(["eval", "wer", "ref", "hyp"]) == 3
    assert message in capsys.readouterr().err.splitlines()[0]


def test_an_unknown_metric_is_a_usage_error(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "mos", "ref.txt", "hyp.txt"]) == 2
    assert "mos" in capsys.readouterr().err
