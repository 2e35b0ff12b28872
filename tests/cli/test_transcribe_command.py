"""`speechkit transcribe` as a user types it."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechkit.cli.main import main
from speechkit.decode import arpa
from speechkit.pipelines.transcribe import transcribe
from tests.pipelines.test_transcribe import noise

RATE = 16000


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two recordings, into which the command is typed."""
    folder = tmp_path / "my talks"
    folder.mkdir()
    monkeypatch.chdir(folder)
    soundfile.write("a.wav", noise(0, 24000), RATE)
    soundfile.write("b.flac", noise(1, 16000), RATE)
    return folder


def text_of(path: str | Path, model: str) -> str:
    """What `txt` holds: a line a segment."""
    return "".join(f"{s.text}\n" for s in transcribe(path, model, device="cpu").segments)


def damage(path: str) -> None:
    Path(path).write_bytes(b"RIFF nothing")


def test_text_goes_to_standard_output_and_nothing_else(
    here: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["transcribe", "a.wav", "-m", model]) == 0
    out, err = capsys.readouterr()
    assert out == text_of("a.wav", model) != ""
    assert err == ""


@pytest.mark.parametrize(
    ("arguments", "files"),
    [
        (["a.wav", "-o", "x.srt"], ["x.srt"]),
        (["a.wav", "-o", "x", "-f", "vtt"], ["x"]),
        (["a.wav", "-o", "out/", "-f", "srt,json"], ["out/a.json", "out/a.srt"]),
        (["a.wav", "b.flac", "-o", "out"], ["out/a.txt", "out/b.txt"]),
        ([".", "-o", "out", "-f", "ctm"], ["out/a.ctm", "out/b.ctm"]),
        (["*.wav", "-o", "out"], ["out/a.txt"]),
        (["a.wav", "a.wav", "-o", "out"], ["out/a.txt"]),
        ([".", "--exclude", "a*", "-o", "out"], ["out/b.txt"]),
        ([".", "--include", "a*", "-o", "out"], ["out/a.txt"]),
        (["sub/a.wav", "a.wav", "-o", "out"], ["out/a.txt", "out/sub/a.txt"]),
        (["sub", "--recursive", "-o", "out"], ["out/a.txt", "out/c.txt"]),
        (["sub/a.wav", "sub/a.flac", "-o", "out"], ["out/a.flac.txt", "out/a.wav.txt"]),
        (["--from-file", "list", "-o", "out"], ["out/a.txt", "out/c.txt"]),
    ],
)
def test_outputs_are_named_after_their_inputs(here: Path, model: str, arguments: list[str], files: list[str]) -> None:
    Path("sub/deep").mkdir(parents=True)
    for name in ("sub/a.wav", "sub/a.flac", "sub/deep/c.wav"):
        soundfile.write(name, noise(2, 8000), RATE)
    if "--recursive" in arguments:
        Path("sub/a.flac").unlink()
    Path("list").write_text("a.wav\n\nsub/deep/c.wav\n")
    before = set(here.rglob("*"))
    assert main(["transcribe", *arguments, "-m", model, "-q"]) == 0
    made = {str(p.relative_to(here)) for p in set(here.rglob("*")) - before if p.is_file()}
    assert sorted(made - {"out/.speechkit.jsonl"}) == files


def test_an_existing_path_is_no_pattern(here: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.wav").rename("[a].wav")
    assert main(["transcribe", "[a].wav", "-m", model]) == 0
    assert capsys.readouterr().out == text_of("[a].wav", model)


def test_standard_input_is_read(
    here: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(Path("b.flac").read_bytes())))
    assert main(["transcribe", "-", "-m", model]) == 0
    assert capsys.readouterr().out == text_of("b.flac", model)


def test_text_of_several_inputs_says_whose_it_is(here: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["transcribe", "a.wav", "b.flac", "-m", model, "-q"]) == 0
    expected = [f"{name}\t{line}" for name in ("a.wav", "b.flac") for line in text_of(name, model).splitlines()]
    assert capsys.readouterr().out.splitlines() == expected


def test_a_list_may_begin_with_a_byte_order_mark(here: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("list").write_text("\ufeffa.wav\n")
    assert main(["transcribe", "--from-file", "list", "-m", model, "-q"]) == 0
    assert capsys.readouterr().out.startswith("a.wav\t")


def test_closed_standard_input_is_said(
    here: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert main(["transcribe", "-", "-m", model]) == 3
    assert "standard input is closed" in capsys.readouterr().err


def test_a_shar_folder_gives_its_cuts(here: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("kaldi").mkdir()
    Path("kaldi/wav.scp").write_text("r1 a.wav\nr2 b.flac\n")
    Path("kaldi/segments").write_text("u1 r1 0.1 0.7\nu2 r1 0.7 1.5\nu3 r2 0 1\n")
    Path("kaldi/utt2spk").write_text("u1 u1\nu2 u2\nu3 u3\n")
    assert main(["data", "to-shar", "kaldi", "-o", "shar", "--shard-size", "2"]) == 0
    said = []
    for name in ("kaldi", "shar"):
        capsys.readouterr()
        assert main(["transcribe", name, "-m", model, "--jsonl"]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        said.append([(line["input"], line["text"], line["segments"]) for line in lines])
    assert [id for id, *_ in said[0]] == ["u1", "u2", "u3"]
    assert said[0] == said[1]


def test_a_kaldi_dir_gives_its_segments(here: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("kaldi").mkdir()
    Path("kaldi/wav.scp").write_text("r1 a.wav\nr2 b.flac\nr3 none.wav\n")
    Path("kaldi/segments").write_text("u1 r1 0.0 0.5\nu2 r2 0.25 1.0\nu3 r3 0.0 1.0\n")
    soundfile.write("part.wav", soundfile.read("a.wav", dtype="int16")[0][:8000], RATE)
    assert main(["transcribe", "kaldi", "-m", model, "--jsonl"]) == 1
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert [(line["input"], line["ok"]) for line in lines[:2]] == [("u1", True), ("u2", True)]
    assert lines[0]["text"] == transcribe("part.wav", model, device="cpu").text
    assert lines[2]["error"]["code"] == "E162"
    assert "none.wav" in err


def test_each_channel_can_have_its_own_result(here: Path, model: str) -> None:
    stereo = np.stack([soundfile.read("a.wav")[0][:16000], soundfile.read("b.flac")[0]])
    soundfile.write("s.wav", stereo.T, RATE, subtype="FLOAT")
    soundfile.write("left.wav", stereo[0], RATE, subtype="FLOAT")
    assert main(["transcribe", "s.wav", "-m", model, "--channel", "each", "-f", "ctm", "-o", "out", "-q"]) == 0
    assert sorted(p.name for p in Path("out").glob("*.ctm")) == ["s.0.ctm", "s.1.ctm"]
    assert Path("out/s.1.ctm").read_text().startswith("s.1 2 ")
    assert main(["transcribe", "s.wav", "-m", model, "--channel", "left", "-o", "s.txt"]) == 0
    assert Path("s.txt").read_text() == text_of("left.wav", model)


def test_verbose_says_what_was_done_to_the_recording(
    here: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write("s.wav", np.stack([noise(1, 8000), noise(2, 8000)]).T, 8000)
    assert main(["transcribe", "s.wav", "-m", model, "-v"]) == 0
    assert "2 channels, averaged" in (err := capsys.readouterr().err)
    assert "resampled from 8000 to 16000 Hz" in err


def test_one_bad_file_does_not_stop_the_others(here: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    damage("bad.wav")
    assert main(["transcribe", "bad.wav", "a.wav", "none.wav", "-m", model, "--jsonl"]) == 1
    out, err = capsys.readouterr()
    first, second, third = (json.loads(line) for line in out.splitlines())
    assert (first["input"], first["ok"], first["error"]["exit"]) == ("bad.wav", False, 3)
    assert (second["input"], second["ok"], second["duration"]) == ("a.wav", True, 1.5)
    assert third["error"]["code"] == "audio.missing"
    assert err.count("speechkit: error: ") == 2
    assert "3 files · 1 ok · 2 failed · 0:00:0" in err


def test_a_closed_standard_output_is_an_output_error(
    here: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout", None)
    assert main(["transcribe", "a.wav", "-m", model]) == 5
    assert "standard output is closed" in capsys.readouterr().err


def test_a_pipe_is_never_overwritten(here: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("pipe")
    assert main(["transcribe", "a.wav", "-m", model, "-o", "pipe", "--overwrite"]) == 5
    assert "pipe: is neither a file nor a folder" in capsys.readouterr().err
    assert Path("pipe").is_fifo()


def test_the_hint_of_standard_input_names_no_file(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"hello")))
    assert main(["transcribe", "-", "-m", model]) == 3
    assert capsys.readouterr().err.endswith("\nhint: if it is audio, convert it first\n")


def test_when_all_fail_standard_output_stays_empty(here: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    damage("bad.wav")
    assert main(["transcribe", "bad.wav", "none.wav", "-m", model, "--jsonl"]) == 3
    assert capsys.readouterr().out == ""


def test_fail_fast_stops_at_the_first_failure(here: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["transcribe", "none.wav", "a.wav", "-m", model, "--fail-fast"]) == 3
    assert capsys.readouterr().out == ""


def test_too_short_is_empty_text_and_a_warning(here: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write("s.wav", noise(0, 160), RATE)
    assert main(["transcribe", "s.wav", "-m", model]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "speechkit: warning: s.wav: 0.010 s are too short for a frame of the model (0.025 s)\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["a.wav"], 4, "no model given"),
        ([], 2, "no input named"),
        (["a.wav", "-m", "nowhere/model"], 4, "nowhere/model"),
        (["none.wav", "-m", "M"], 3, "none.wav: no such file"),
        (["*.mp3", "-m", "M"], 3, r"\*.mp3: no file of that name"),
        (["empty", "-m", "M"], 3, "empty: a folder without audio files"),
        (["x.wav", "-m", "M"], 3, "x.wav: a folder without audio files"),
        (["bad.wav", "-m", "M"], 3, "bad.wav"),
        (["zero.wav", "-m", "M"], 3, "zero.wav: is empty"),
        (["a.wav", "-m", "M", "--channel", "right"], 3, "no channel 1, there are 1"),
        (["a.wav", "-m", "M", "--channel", "middle"], 2, "--channel middle"),
        (["a.wav", "-m", "M", "-f", "strt"], 2, "unknown format 'strt'"),
        (["a.wav", "-m", "M", "-f", "rttm"], 2, "rttm says who spoke when"),
        (["a.wav", "-m", "M", "-f", "txt,srt"], 2, "several formats"),
        (["a.wav", "b.flac", "-m", "M", "-f", "srt"], 2, "srt of several inputs on standard output"),
        (["a.wav", "b.flac", "-m", "M", "-o", "x.srt"], 2, "one file for several inputs"),
        (["a.wav", "-m", "M", "--jsonl", "-f", "srt"], 2, "--jsonl and -f srt"),
        (["-", "-", "-m", "M"], 2, "standard input can be read only once"),
        (["a.wav", "-m", "M", "--resume"], 2, "--resume needs a folder"),
        (["a.wav", "-m", "M", "--batch-seconds", "0"], 2, "'0' is not a positive number of seconds"),
        (["a.wav", "-m", "M", "--batch-seconds", "inf"], 2, "'inf' is not a positive number of seconds"),
        (["a.wav", "-m", "M", "--batch-seconds", "abc"], 2, "'abc' is not a positive number of seconds"),
        (["a.wav", "-m", "M", "--beam-size", "x"], 2, "'x' is not a whole number of at least 1"),
        (["a.wav", "-m", "M", "--lm-weight", "2"], 2, "--lm-weight without a language model"),
        (["a.wav", "-m", "M", "--lexicon", "words"], 2, "--lexicon without a language model"),
        (["a.wav", "-m", "M", "--lm", "L", "--lm-weight", "-1"], 2, "'-1' is below 0"),
        (["a.wav", "-m", "M", "--lm", "L", "--word-score", "nan"], 2, "'nan' is not a number"),
        (["a.wav", "-m", "M", "--device", "abacus"], 2, "no device 'abacus'"),
        (["a.wav", "-m", "M", "-o", ""], 2, "-o is given, but empty"),
        (["a.wav", "-m", "M", "-o", "a.wav", "-f", "txt", "--overwrite"], 2, "a.wav: would replace its own source"),
        (["a.wav", "-m", "M", "-o", "there.txt"], 5, "there.txt: exists already"),
        (["a.wav", "-m", "M", "-o", "there.txt/x.txt"], 5, "there.txt"),
        (["--from-file", "none", "-m", "M"], 3, "none: cannot be read as a list: No such file or directory"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_exit_code(
    here: Path, model: str, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    damage("bad.wav")
    Path("zero.wav").touch()
    for folder in ("empty", "x.wav"):
        Path(folder).mkdir()
    Path("there.txt").write_text("mine")
    before = {p: p.stat().st_mtime_ns for p in here.rglob("*") if p.is_file()}
    assert main(["transcribe", *(model if a == "M" else a for a in arguments)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if not line[:1].isdigit()]
    assert [line.partition(":")[0] for line in lines] in (["speechkit"], ["speechkit", "hint"])
    assert re.search(message, lines[0])
    assert {p: p.stat().st_mtime_ns for p in here.rglob("*") if p.is_file()} == before


def test_a_language_model_decides_which_words_are_written(
    here: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("flashlight.lib.text", reason="flashlight-text (extra lm) is not installed")
    arpa.write(Path("lm.arpa"), arpa.learn(["bad dab", "dab cab"], 2))
    command = ["transcribe", "a.wav", "-m", model, "--lm", "lm.arpa"]
    assert main([*command, "--word-score", "-1000"]) == 0
    assert capsys.readouterr().out == ""
    assert main([*command, "--lm-weight", "0", "--word-score", "9"]) == 0
    assert set(capsys.readouterr().out.split()) <= {"bad", "dab", "cab"} != set()
    Path("words").write_text("a\n")
    assert main([*command, "--lexicon", "words", "--lm-weight", "0", "--word-score", "9"]) == 0
    assert set(capsys.readouterr().out.split()) == {"a"}
    Path("lm.arpa").write_text("nothing\n")
    assert main(command) == 3
    assert capsys.readouterr().err.startswith("speechkit: error: lm.arpa:1: ")
    assert main([*command[:-1], "none.arpa"]) == 3
    assert capsys.readouterr().err.startswith("speechkit: error: none.arpa: no such file")


def test_a_changed_language_model_is_seen_by_resume(here: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("flashlight.lib.text", reason="flashlight-text (extra lm) is not installed")
    arpa.write(Path("lm.arpa"), arpa.learn(["bad dab"], 2))
    command = ["transcribe", "a.wav", "b.flac", "-m", model, "--lm", "lm.arpa", "-o", "out", "--resume", "-q"]
    command += ["--lm-weight", "0", "--word-score", "9"]
    assert main(command) == 0
    assert set(Path("out/a.txt").read_text().split()) <= {"bad", "dab"}
    arpa.write(Path("lm.arpa"), arpa.learn(["c c"], 2))
    assert main(command) == 0
    assert set(Path("out/a.txt").read_text().split()) == {"c"}


def test_without_flashlight_the_command_that_installs_it_is_named(
    here: Path, model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("flashlight", *[name for name in sys.modules if name.startswith("flashlight.")]):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["transcribe", "a.wav", "-m", model, "--lm", "lm.arpa"]) == 6
    first, hint = capsys.readouterr().err.splitlines()
    assert first == "speechkit: error: a language model needs flashlight-text, which is not installed"
    assert hint.startswith("hint: pip install 'speechkit-torch[lm]'")


def test_no_model_names_one_to_fetch_and_one_to_train(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["transcribe", "a.wav"]) == 4
    err = capsys.readouterr().err
    assert "-m hf:facebook/hubert-large-ls960-ft" in err
    assert "make demo" in err


def test_resume_does_only_what_is_left(here: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["transcribe", "a.wav", "b.flac", "-m", model, "-o", "out", "-f", "txt,json", "-q"]
    assert main(command) == 0
    outputs = {p.name: p.read_text() for p in Path("out").glob("[ab]*")}
    times = {p: p.stat().st_mtime_ns for p in Path("out").glob("[ab]*")}
    assert main(command) == 5
    Path("out/b.json").unlink()
    assert main([*command, "--resume"]) == 0
    assert {p.name: p.read_text() for p in Path("out").glob("[ab]*")} == outputs
    assert {p.name for p in times if p.stat().st_mtime_ns != times[p]} == {"b.txt", "b.json"}
    soundfile.write("a.wav", noise(7, 16000), RATE)
    assert main([*command, "--resume"]) == 0
    assert Path("out/a.txt").read_text() == text_of("a.wav", model)
    settings = [*command, "--resume", "--beam-size", "3"]
    assert main(settings) == 0
    assert {p.name for p in times if p.stat().st_mtime_ns == times[p]} == set()
    capsys.readouterr()
    assert main([word for word in settings if word != "-q"]) == 0
    assert "2 files · 2 ok (2 before)" in capsys.readouterr().err


def test_symbols_for_a_model_that_has_its_own_are_refused(
    here: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["transcribe", "a.wav", "-m", model, "--vocab", "dict.ltr.txt"]) == 4
    assert "a model with symbols of its own" in capsys.readouterr().err


def test_resume_never_replaces_files_of_others(here: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("out").mkdir()
    Path("out/a.txt").write_text("mine")
    assert main(["transcribe", "a.wav", "-m", model, "-o", "out", "--resume"]) == 5
    assert Path("out/a.txt").read_text() == "mine"
    assert main(["transcribe", "a.wav", "-m", model, "-o", "out", "--overwrite"]) == 0
    assert Path("out/a.txt").read_text() == text_of("a.wav", model)


def speechkit(*arguments: str, **options: object) -> subprocess.Popen[bytes]:
    code = "import sys; from speechkit.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, **options)  # type: ignore[call-overload]


def test_a_killed_run_is_resumed_to_the_same_outputs(here: Path, model: str) -> None:
    Path("many").mkdir()
    for number in range(30):
        soundfile.write(f"many/{number:02d}.wav", noise(number, 48000), RATE)
    arguments = ["transcribe", "many", "-m", model, "--batch-seconds", "1", "-q"]
    assert main([*arguments, "-o", "undisturbed"]) == 0
    process = speechkit(*arguments, "-o", "out")
    deadline = time.monotonic() + 60
    while not list(Path("out").glob("*.txt")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert 0 < len(list(Path("out").glob("*.txt"))) < 30
    assert main([*arguments, "-o", "out", "--resume"]) == 0
    assert sorted(p.name for p in Path("out").iterdir()) == sorted(p.name for p in Path("undisturbed").iterdir())
    for path in Path("undisturbed").glob("*.txt"):
        assert Path("out", path.name).read_text() == path.read_text()


def test_a_closed_pipe_ends_the_command_silently(here: Path, model: str) -> None:
    read, write = os.pipe()
    process = speechkit("transcribe", "a.wav", "b.flac", "-m", model, stdout=write)
    os.close(write)
    os.close(read)
    assert process.communicate()[1] == b""
    assert process.returncode == 141


def test_ctrl_c_ends_the_command_with_nothing_half_written(here: Path, model: str) -> None:
    soundfile.write("long.wav", np.tile(noise(0, RATE * 60), 20), RATE)
    process = speechkit("transcribe", "a.wav", "long.wav", "-m", model, "--batch-seconds", "1", "-o", "out")
    deadline = time.monotonic() + 60
    while not Path("out/a.txt").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == b"speechkit: interrupted\n"
    assert process.returncode == 130
    assert sorted(p.name for p in Path("out").iterdir()) == [".speechkit.jsonl", "a.txt"]


@pytest.mark.parametrize("arguments", [["-o", "x.json"], ["-o", "out/"], []])
def test_a_full_disk_leaves_nothing_half_written(here: Path, model: str, arguments: list[str]) -> None:
    soundfile.write("long.wav", np.tile(noise(0, RATE * 10), 6), RATE)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))"
    code = f"import sys, signal; {limit}; from speechkit.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "transcribe", "long.wav", "-m", model, "-f", "json", *arguments]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"}
    with Path("stdout").open("w") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.PIPE, env=environment, text=True, check=False)
    assert done.returncode == 5, done.stderr
    assert done.stderr.startswith("speechkit: error: ")
    assert "File too large" in done.stderr
    assert not list(here.glob("x*")) + list(here.glob("out/l*")) + list(here.glob("out/.l*"))
