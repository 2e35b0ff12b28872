"""Recordings that are damaged, empty or none at all, given to every command that reads recordings."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from speechkit.audio import files
from tests.audio.test_bad_audio import BAD, ODD, RATE, Bad, Odd, speechlike
from tests.bad_input.conftest import Typed

bad_files = pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
odd_files = pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.name)


def write(file: Bad | Odd, folder: Path) -> str:
    (folder / file.name).write_bytes(file.make(folder))
    return file.name


def data_dir(folder: Path, wav_scp: str) -> Path:
    """A data directory whose first utterance is good."""
    files.save("good.wav", speechlike(), RATE)
    keys = ["u1", *(line.partition(" ")[0] for line in wav_scp.splitlines())]
    folder.mkdir()
    (folder / "wav.scp").write_text(f"u1 good.wav\n{wav_scp}")
    (folder / "utt2spk").write_text("".join(f"{key} {key}\n" for key in keys))
    (folder / "spk2utt").write_text("".join(f"{key} {key}\n" for key in keys))
    (folder / "text").write_text("".join(f"{key} la\n" for key in keys))
    return folder


# transcribe --------------------------------------------------------------------------------------------------------


@bad_files
def test_transcribe_refuses(bad: Bad, typed: Typed, model: Path) -> None:
    said = typed.refused("transcribe", write(bad, typed.here), "-m", model, code=3)
    assert said.startswith(f"speechkit: error: {bad.name}: ")
    assert re.search(bad.says, said.splitlines()[0])


@bad_files
def test_transcribe_of_a_folder_goes_on_and_names_the_bad_one(bad: Bad, typed: Typed, model: Path) -> None:
    write(bad, typed.here)
    files.save("good one.wav", speechlike(), RATE)
    _, err = typed("transcribe", bad.name, "good one.wav", "-m", model, "-o", "out", "-f", "json", code=1)
    assert err.count("speechkit: error: ") == 1
    assert "2 files · 1 ok · 1 failed" in err
    made = sorted(path.name for path in Path("out").iterdir())
    assert made == [".speechkit.jsonl", "good one.json"]
    assert typed("transcribe", bad.name, bad.name + "x", "-m", model, "--jsonl", code=3)[0] == ""


@odd_files
def test_transcribe_uses_what_is_there_and_warns(odd: Odd, typed: Typed, model: Path) -> None:
    out, err = typed("transcribe", write(odd, typed.here), "-m", model, "--jsonl")
    row = json.loads(out)
    assert row["ok"]
    lines = err.splitlines()
    if odd.warns:
        assert len(lines) == 1
        assert lines[0].startswith(f"speechkit: warning: {odd.name}: ")
        assert re.search(odd.warns, lines[0])
        assert [lines[0].removeprefix(f"speechkit: warning: {odd.name}: ")] == row["warnings"]
    else:
        assert lines == []
    if odd.samples:
        assert row["duration"] == pytest.approx(odd.samples / RATE, abs=1e-3)


def test_a_hundredth_of_a_second_has_no_words(typed: Typed, model: Path) -> None:
    files.save("short.wav", np.ones(160, np.int16), RATE)
    assert typed("transcribe", "short.wav", "-m", model) == (
        "",
        "speechkit: warning: short.wav: 0.010 s are too short for a frame of the model (0.025 s)\n",
    )
    assert json.loads(typed("transcribe", "short.wav", "-m", model, "-f", "json")[0])["text"] == ""
    Path("said.txt").write_text("ab\n")
    assert "short.wav" in typed.refused("align", "short.wav", "said.txt", "-m", model, code=3)


@pytest.mark.parametrize("name", ["none.wav", "said.txt/x.wav", "x" * 300 + ".wav", "loop.wav", "gone.wav"])
def test_what_is_not_there_is_refused(name: str, typed: Typed, model: Path) -> None:
    Path("said.txt").write_text("ab\n")
    Path("loop.wav").symlink_to("loop.wav")
    Path("gone.wav").symlink_to("nowhere.wav")
    assert name in typed.refused("transcribe", name, "-m", model, code=3)
    assert name in typed.refused("align", name, "said.txt", "-m", model, code=3)
    assert name in typed.refused("info", name, code=3)


def test_a_folder_named_like_a_recording_is_a_folder(typed: Typed, model: Path) -> None:
    Path("x.wav").mkdir()
    Path("said.txt").write_text("ab\n")
    out, err = typed("transcribe", "x.wav", "-m", model, code=3)
    assert out == ""
    error, hint, count = err.splitlines()
    assert error == "speechkit: error: x.wav: a folder without audio files"
    assert hint.startswith("hint: ")
    assert "0 ok · 1 failed" in count
    assert "x.wav" in typed.refused("align", "x.wav", "said.txt", "-m", model, code=3)
    assert "x.wav" in typed.refused("info", "x.wav", code=3)
    files.save("x.wav/inside.wav", speechlike(), RATE)
    typed("transcribe", "x.wav", "-m", model)


# align, info -------------------------------------------------------------------------------------------------------


@bad_files
def test_align_refuses(bad: Bad, typed: Typed, model: Path) -> None:
    Path("said.txt").write_text("ab\n")
    said = typed.refused("align", write(bad, typed.here), "said.txt", "-m", model, "-o", "x.ctm", code=3)
    assert re.search(bad.says, said.splitlines()[0])


@odd_files
def test_align_uses_what_is_there_and_warns(odd: Odd, typed: Typed, model: Path) -> None:
    Path("said.txt").write_text("a\n")
    out, err = typed("align", write(odd, typed.here), "said.txt", "-m", model)
    assert out.split()[4] == "a"
    warnings = [line for line in err.splitlines() if "hardly in it" not in line]  # the model is no good
    assert len(warnings) == bool(odd.warns)
    assert re.search(odd.warns, err)


@bad_files
def test_info_refuses_what_the_header_shows(bad: Bad, typed: Typed) -> None:
    write(bad, typed.here)
    if bad.name in ("cut.flac", "start.flac", "flipped.flac", "nan.wav", "inf.wav"):  # behind a good header
        out, err = typed("info", bad.name)
        assert (out.count("\n"), err) == (1, "")
    else:
        assert typed.refused("info", bad.name, code=3).startswith(f"speechkit: error: {bad.name}: ")


@odd_files
def test_info_tells_the_length_that_is_there(odd: Odd, typed: Typed) -> None:
    out, err = typed("info", write(odd, typed.here))
    assert out.startswith(f"{odd.name}\t")
    if odd.samples:
        assert f"\t{odd.samples} samples\t" in out
    assert "\n" not in err.rstrip("\n")


# data --------------------------------------------------------------------------------------------------------------

IN_HEADER = {bad.name for bad in BAD} - {"cut.flac", "start.flac", "flipped.flac", "nan.wav", "inf.wav"}


@bad_files
def test_validate_finds_it_by_file_and_line(bad: Bad, typed: Typed) -> None:
    data_dir(Path("d"), f"u2 {write(bad, typed.here)}\n")
    before = sorted(typed.here.rglob("*"))
    out, err = typed("data", "validate", "d", "--check-audio", "full", code=1)
    assert out == ""
    problem, *others, count = err.splitlines()
    assert re.match(r"d/wav\.scp:2: E16[34] ", problem)
    assert all(re.match(r"d/wav\.scp:\d: W", line) for line in others)
    assert count.startswith("d: 1 error, ")
    _, err = typed("data", "validate", "d", "--check-audio", "header", code=int(bad.name in IN_HEADER))
    assert ("d/wav.scp:2: E163 " in err) == (bad.name in IN_HEADER)
    typed("data", "validate", "d")
    assert sorted(typed.here.rglob("*")) == before


@bad_files
def test_index_refuses_what_the_header_shows(bad: Bad, typed: Typed) -> None:
    data_dir(Path("d"), f"u2 {write(bad, typed.here)}\n")
    if bad.name in IN_HEADER:
        assert "d/wav.scp:2: E163 " in typed.refused("data", "index", "d", code=3)
    else:
        assert typed("data", "index", "d") == ("d/utterances.jsonl\t2 utterances\t0.001 h\n", "")


@pytest.mark.parametrize("command", ["validate", "fix", "stats", "index", "split", "copy", "combine", "subset"])
def test_what_is_no_data_directory_is_refused(command: str, typed: Typed) -> None:
    Path("empty").mkdir()
    Path("file").write_text("x")
    more = {"split": ["2"], "subset": ["--first", "1"]}.get(command, [])
    more += ["-o", "out"] if command in ("copy", "combine", "subset", "split") else []
    for name in ("nowhere", "file", "file/x"):
        assert name in typed.refused("data", command, name, *more, code=3)
    if command == "validate":
        assert "empty/utt2spk:0: E101 " in typed("data", "validate", "empty", code=1)[1]
    else:
        typed.refused("data", command, "empty", *more, code=2 if command in ("split", "subset") else 3)  # 1 of 0


NO_FILES = [
    ("u2 none.wav\n", "E162", "'none.wav'"),
    ("u2 x.wav\n", "E16[23]", "x.wav"),
    ("u2 cat good.wav |\n", "E413", "--allow-pipes"),
    ("u2 -\n", "E1|E4", "-"),
    ("u2 ~/good.wav\n", "E161", "'~' is not expanded"),
    ("u2 good.wav:12\n", "E1|E4", "good.wav:12"),
]


@pytest.mark.parametrize(("line", "code", "says"), NO_FILES)
def test_what_wav_scp_names_in_vain(line: str, code: str, says: str, typed: Typed, model: Path) -> None:
    Path("x.wav").mkdir()
    data_dir(Path("d"), line)
    _, err = typed("data", "validate", "d", "--check-audio", "header", code=1)
    assert re.search(rf"^d/wav\.scp:2: ({code})", err, re.MULTILINE), err
    assert says in err
    assert not re.search("speechkit: error", err)
    assert re.search(rf"d/wav\.scp:2: ({code})", typed.refused("data", "index", "d", "-o", "out.jsonl", code=3))
    out, err = typed("transcribe", "d", "-m", model, "--jsonl", code=1)
    good, bad = (json.loads(row) for row in out.splitlines())
    assert (good["ok"], bad["ok"]) == (True, False)
    assert re.search(code, bad["error"]["code"])
    assert err.count("speechkit: error: ") == 1


def test_a_pipe_runs_only_with_leave(typed: Typed) -> None:
    data_dir(Path("d"), "u2 touch ran; cat good.wav |\n")
    typed.refused("data", "index", "d", code=3)
    typed("data", "validate", "d", "--check-audio", "full", code=1)
    typed("data", "stats", "d", code=3)
    assert not Path("ran").exists()
    typed("data", "index", "d", "--allow-pipes")
    assert Path("ran").exists()


FAILING = [
    "false |",
    "cat none.wav |",
    "echo no sound |",
    "kill -9 $$ |",
    "cat good.wav; exit 3 |",
    "head -c 30 good.wav |",
]


@pytest.mark.parametrize("pipe", FAILING)
def test_a_pipe_that_fails_is_refused(pipe: str, typed: Typed) -> None:
    data_dir(Path("d"), f"u2 {pipe}\n")
    said = typed.refused("data", "index", "d", "--allow-pipes", code=3)
    assert re.search(r"d/wav\.scp:2: (E413|E163) ", said)
