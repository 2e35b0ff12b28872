"""`speechkit data` as a user types it."""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from speechkit.cli import data as data_command
from speechkit.data.kaldi.tables import DataDir
from speechkit.data.utterance import read_utterances
from speechkit.errors import InputError, OutputError, SpeechkitError, UsageError
from tests.data.corpora import corpus
from tests.data.datadirs import PLAIN, SEGMENTED, contents, make, tone


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    data_command.add_arguments(parser)
    return data_command.run(parser.parse_args([str(word) for word in words]))


def test_declaring_the_command_imports_neither_numpy_nor_torch() -> None:
    code = (
        "import sys, argparse; from speechkit.cli import data; data.add_arguments(argparse.ArgumentParser());"
        "assert not {'numpy', 'torch', 'soundfile'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_validate_says_path_line_code_message_and_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make(tmp_path / "d", {**PLAIN, "text": "s01-u2 a b\ns01-u1 <s>\ns02-u1 c\u200bd\n"})
    assert run("validate", path) == 1
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.splitlines() == [
        f"{path}/text:2: E108 's01-u1' after 's01-u2' is not in C-locale (byte) order; run: speechkit data fix {path}",
        f"{path}/text:2: E141 reserved symbol '<s>' in a transcript",
        f"{path}/text:3: W143 U+200B in transcript",
        f"{path}: 2 errors, 1 warning",
    ]


def test_warnings_count_only_when_strict(tmp_path: Path) -> None:
    path = make(tmp_path, {**PLAIN, "text": "s01-u1 a\ns01-u2 b\ns02-u1 c\u200bd\n"})
    assert run("validate", path) == 0
    assert run("validate", path, "--strict") == 1


def test_twenty_findings_of_a_rule_are_shown_and_all_given_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = "".join(f"s01-x{n:03} s01\n" for n in range(1000))
    path = make(tmp_path, {**PLAIN, "utt2lang": many})
    assert run("validate", path) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if ": E122 " in line]) == 20
    assert f"{path}: E122: 1,003 in all, the first 20 shown" in lines
    assert run("validate", path, "--json") == 1
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(found) == 1003
    assert found[3] == {
        "file": "utt2lang",
        "line": 1,
        "code": "E122",
        "message": "utterance 's01-x000' is not in utt2spk",
        "hint": "",
    }


def test_bytes_that_are_not_text_can_be_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make(tmp_path, {**PLAIN, "utt2lang": b"\xe4 de\n"})
    assert run("validate", path, "--json") == 1
    assert r"\udce4" in capsys.readouterr().out


def test_validate_of_no_directory_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such data directory"):
        run("validate", tmp_path / "none")


def test_fix_shows_a_table_and_repairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make(tmp_path, {**PLAIN, "text": "s02-u1 yes\ns01-u1 hello\ns09 no\n"})
    before = contents(path)
    assert run("fix", path, "--dry-run", "--max-drop", 0) == 0
    table = capsys.readouterr().out
    assert table.splitlines() == [
        "utterances before\t3",
        "utterances after\t2",
        "dropped\t1\tnot in text (text)\ts01-u2",
        "records removed\t1\tnot in utt2spk (text)\ts09",
    ]
    with pytest.raises(SpeechkitError, match="would be dropped"):
        run("fix", path)
    assert contents(path) == before
    assert run("fix", path, "--max-drop", 50) == 0
    assert run("validate", path) == 0


def test_fix_with_a_conflict_left_fails_and_names_the_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make(tmp_path, {**PLAIN, "text": "s01-u1 a\ns01-u1 b\ns01-u2 c\ns02-u1 d\n"})
    assert run("fix", path) == 1
    assert f"{path}/text:2: E109 duplicate key 's01-u1'" in capsys.readouterr().err


def test_stats_are_a_table_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make(tmp_path, SEGMENTED)
    assert run("stats", path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == f"|{path}|0.001|3|2|5|1.50|1.50|1.58|1.75|"
    assert lines[6] == f"   1-2         3  {50 * '#'}"
    assert run("stats", path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["num_words"] == 5


def test_split_has_a_default_folder_and_replaces_it_only_when_told(tmp_path: Path) -> None:
    path = make(tmp_path, SEGMENTED)
    assert run("split", path, 2) == 0
    assert run("split", path, 3, "--per-utt") == 0
    assert sorted(p.name for p in path.glob("split*/*")) == ["1", "1", "2", "2", "3"]
    with pytest.raises(OutputError, match="split2: exists"):
        run("split", path, 2)
    assert run("split", path, 2, "--overwrite") == 0
    with pytest.raises(UsageError, match="2 speakers cannot make 3 parts"):
        run("split", path, 3)


def test_combine_subset_and_copy_write_directories_that_validate(tmp_path: Path) -> None:
    one = make(tmp_path / "one", SEGMENTED)
    two = make(tmp_path / "two", {n: c.replace("s0", "t0").replace("r", "q") for n, c in SEGMENTED.items()})
    make(two, {"text": "t01-u1 a\nt01-u2 b\nt02-u1 c\n"})
    both, part, copy = (tmp_path / name for name in ("both", "part", "copy"))
    assert run("combine", one, two, "-o", both) == 0
    (tmp_path / "ids").write_text("s01-u1\nt02-u1\n")
    assert run("subset", both, "--ids", tmp_path / "ids", "-o", part) == 0
    assert DataDir.read(part).ids == ["s01-u1", "t02-u1"]
    assert run("copy", part, "-o", copy) == 0
    assert contents(copy) == contents(part)
    for path in (both, part, copy):
        assert run("validate", path, "--strict") == 0


def test_files_that_are_no_tables_are_named_when_they_stay_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "d", {**PLAIN, "stm": "x\n", "dropped.tsv": "x\n"})
    assert run("copy", tmp_path / "d", "-o", tmp_path / "e") == 0
    assert "not carried over: stm\n" in capsys.readouterr().err


def test_overwrite_replaces_data_directories_and_nothing_else(tmp_path: Path) -> None:
    source = make(tmp_path / "d", SEGMENTED)
    (tmp_path / "there/keep").mkdir(parents=True)
    (tmp_path / "there/keep/thesis.txt").write_text("precious")
    (tmp_path / "x.wav").write_text("sound")
    for out in ("there", "x.wav"):
        with pytest.raises(OutputError, match=r"no part of a data directory|is no data directory"):
            run("copy", source, "-o", tmp_path / out, "--overwrite")
        with pytest.raises(OutputError, match=r"no part of a data directory|is no data directory"):
            run("split", source, 2, "-o", tmp_path / out, "--overwrite")
    assert (tmp_path / "there/keep/thesis.txt").read_text() == "precious"
    assert (tmp_path / "x.wav").read_text() == "sound"


def test_fix_fails_while_errors_are_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make(tmp_path, {**PLAIN, "text": "s01-u1\ns01-u2 c\ns02-u1 d\n"})
    assert run("fix", path) == 1
    err = capsys.readouterr().err
    assert "E142" in err
    assert "1 error left that only you can mend" in err


def test_a_longest_length_is_looked_up_in_the_headers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make(tmp_path, PLAIN)
    for line in PLAIN["wav.scp"].splitlines():
        tone(tmp_path / line.partition(" ")[2], 1.0)
    run("validate", path, "--root", tmp_path, "--max-seconds", "0.5")
    assert capsys.readouterr().err.count("W134") == 3


@pytest.mark.parametrize("command", [("copy",), ("subset", "--first", 1), ("combine",)])
def test_a_directory_does_not_replace_its_source_or_another_one_unasked(
    tmp_path: Path, command: tuple[object, ...]
) -> None:
    path = make(tmp_path / "d", SEGMENTED)
    (tmp_path / "e").mkdir()
    name, *options = command
    for out in (path, tmp_path):
        with pytest.raises(UsageError, match="would replace its own source"):
            run(name, path, *options, "-o", out, "--overwrite")
    with pytest.raises(OutputError, match="e: exists"):
        run(name, path, *options, "-o", tmp_path / "e")
    assert run(name, path, *options, "-o", tmp_path / "e", "--overwrite") == 0


def test_index_lists_utterances_with_their_lengths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tone(tmp_path / "a.wav", 3.0)
    tone(tmp_path / "b.wav", 2.0)
    path = make(tmp_path / "data/train", {**SEGMENTED, "segments": "s01-u1 r1 0 0.05\ns01-u2 r1 1 2\ns02-u1 r2 0 -1\n"})
    assert run("index", path) == 0
    output, errors = capsys.readouterr()
    assert output == f"{path}/utterances.jsonl\t2 utterances\t0.001 h\t1 segment dropped\n"
    assert errors == f"{path}/segments:1: W134 's01-u1' lasts 0.050 s, less than 0.1 s\n"
    found = read_utterances(path / "utterances.jsonl")
    assert [(u.id, u.path, u.start, u.num_samples) for u in found] == [
        ("s01-u2", str(tmp_path / "a.wav"), 8000, 8000),
        ("s02-u1", str(tmp_path / "b.wav"), 0, 16000),
    ]
    (tmp_path / "b.wav").unlink()
    with pytest.raises(InputError, match=r"wav.scp:2: E162 no such audio file 'b.wav'"):
        run("index", path, "-o", tmp_path / "list")
    assert not (tmp_path / "list").exists()


def test_commands_in_wav_scp_run_only_with_leave(tmp_path: Path) -> None:
    path = make(tmp_path, {**PLAIN, "wav.scp": "s01-u1 touch ran |\ns01-u2 touch ran |\ns02-u1 touch ran |\n"})
    for command in (("index",), ("stats",), ("split", 2), ("validate", "--check-audio", "full")):
        name, *options = command
        if name == "validate":
            assert run(name, path, *options, "--root", tmp_path) == 1
        else:
            with pytest.raises(InputError, match=r"wav.scp:1: E413"):
                run(name, path, *options, "--root", tmp_path)
        assert not (tmp_path / "ran").exists()


def table(path: Path) -> dict[str, str]:
    return DataDir.read(path).text


def test_a_directory_goes_to_lhotse_and_to_shar_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = corpus(tmp_path)
    make(path, {"spk2warp": "s1 1.0\ns2 1.0\n", "notes.md": "x"})
    assert run("to-lhotse", path, "-o", tmp_path / "lhotse") == 0
    assert run("to-shar", path, "-o", tmp_path / "shar", "--shard-size", 3, "--format", "wav") == 0
    output, errors = capsys.readouterr()
    assert output == (f"{tmp_path}/lhotse\t4 utterances\t0.002 h\n{tmp_path}/shar\t4 utterances\t0.002 h\t2 shards\n")
    assert errors == 2 * f"{path}: not carried over: spk2warp\n{path}: not carried over: notes.md\n"
    found = []
    for name in ("lhotse", "lhotse/cuts.jsonl.gz", "shar"):
        assert run("from-lhotse", tmp_path / name, "-o", tmp_path / "back", "--overwrite") == 0
        assert capsys.readouterr() == (f"{tmp_path}/back\t4 utterances\n", "")
        assert run("validate", tmp_path / "back", "--check-audio", "full") == 0, capsys.readouterr().err
        capsys.readouterr()
        found.append(table(tmp_path / "back"))
    assert found == 3 * [table(path)]


def test_a_shar_folder_is_indexed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shar = tmp_path / "shar"
    run("to-shar", corpus(tmp_path), "-o", shar, "--shard-size", 1)
    index = shar / "cuts.index"
    before = contents(index)
    (index / "shard.npy").unlink()
    capsys.readouterr()
    assert run("index", shar, "--nj", 2) == 0
    assert capsys.readouterr() == (f"{index}\t4 utterances\t0.002 h\n", "")
    assert contents(index) == before
    with pytest.raises(UsageError, match="the index of a Shar folder lies in it"):
        run("index", shar, "-o", tmp_path / "list")


def test_what_has_no_place_is_said_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("to-lhotse", corpus(tmp_path), "-o", tmp_path / "lhotse")
    lines = gzip.decompress((tmp_path / "lhotse/cuts.jsonl.gz").read_bytes()).splitlines()
    cuts = [json.loads(line) | {"custom": {"snr": 1.0, "mos": 2.0}} for line in lines]
    (tmp_path / "cuts.jsonl").write_text("".join(json.dumps(cut) + "\n" for cut in cuts))
    capsys.readouterr()
    run("from-lhotse", tmp_path / "cuts.jsonl", "-o", tmp_path / "back")
    what = "left out, for want of a place: custom 'mos' of cuts, custom 'snr' of cuts"
    assert capsys.readouterr().err == f"{tmp_path}/cuts.jsonl: {what}\n"


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (("to-lhotse", "none", "-o", "out"), InputError, "none: no such data directory"),
        (("to-shar", "none", "-o", "out"), InputError, "none: no such data directory"),
        (("from-lhotse", "none", "-o", "out"), InputError, "none: cannot read: No such file"),
        (("from-lhotse", ".", "-o", "out"), InputError, "neither a Shar folder nor one with cuts.jsonl.gz"),
        (("to-shar", "data/train", "-o", "out", "--shard-size", "0"), UsageError, "--shard-size 0: at least 1"),
        (("to-shar", "data/train", "-o", "data"), UsageError, "would replace its own source"),
        (("to-lhotse", "data/train", "-o", "there"), OutputError, "there: exists"),
        (("from-lhotse", "there", "-o", "there"), UsageError, "would replace its own source"),
    ],
)
def test_what_cannot_be_converted_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], error: type[SpeechkitError], message: str
) -> None:
    corpus(tmp_path)
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=message):
        run(*words)
    assert sorted(tmp_path.rglob("*")) == before


def test_no_command_imports_torch_or_lhotse(tmp_path: Path) -> None:
    code = (
        "import sys; from speechkit.cli.main import main\n"
        "words = [['to-lhotse', 'data/train', '-o', 'l'], ['from-lhotse', 'l', '-o', 'k'],\n"
        "  ['to-shar', 'k', '-o', 's'], ['index', 's'], ['from-lhotse', 's', '-o', 'k2'],\n"
        "  ['validate', 'k2'], ['stats', 'k2'], ['index', 'k2']]\n"
        "assert [main(['data', *w]) for w in words] == [0] * len(words)\n"
        "assert not {'torch', 'torchaudio', 'lhotse'} & set(sys.modules)"
    )
    corpus(tmp_path)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, stdout=subprocess.DEVNULL)
