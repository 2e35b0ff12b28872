"""`speechkit align` as a user types it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import soundfile

from speechkit.cli.main import main
from tests.pipelines.test_transcribe import noise


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", noise(0, 24000), 16000)
    Path("a.txt").write_text("Abba\ncad bad\n")
    return tmp_path


def test_a_ctm_goes_to_standard_output(here: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["align", "a.wav", "a.txt", "-m", model]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[4] for line in lines] == ["Abba", "cad", "bad"]
    starts, ends = [float(line[2]) for line in lines], [float(line[2]) + float(line[3]) for line in lines]
    assert starts == sorted(starts)
    assert ends[-1] <= 1.5


def test_the_text_may_come_from_standard_input(
    here: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("abba"))
    assert main(["align", "a.wav", "-", "-m", model, "-f", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == "abba"


def test_outputs_are_written_in_several_formats(here: Path, model: str) -> None:
    assert main(["align", "a.wav", "a.txt", "-m", model, "-f", "textgrid,json", "-o", "out"]) == 0
    assert [s["text"] for s in json.loads(Path("out/a.json").read_text())["segments"]] == ["Abba", "cad bad"]
    assert 'text = "Abba"' in Path("out/a.textgrid").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.wav", "a.txt", "-m", "M"], 3, "none.wav: no such file"),
        (["a.wav", "none.txt", "-m", "M"], 3, "none.txt: cannot be read: No such file"),
        (["a.wav", "x.txt", "-m", "M"], 3, "x.txt: line 1: the word 'xyz' cannot be spelled"),
        (["a.wav", "empty.txt", "-m", "M"], 3, "empty.txt: there is no text to align"),
        (["a.wav", "long.txt", "-m", "M"], 3, "a.wav: the text has 400 symbols"),
        (["a.wav", "a.txt"], 4, "no model given"),
        (["-", "-", "-m", "M"], 2, "both the recording and the text"),
        (["a.wav", "a.txt", "-m", "M", "-f", "srt"], 2, "unknown format 'srt'"),
        (["a.wav", "a.txt", "-m", "M", "-o", "a.txt", "-f", "ctm", "--overwrite"], 2, "a.txt: would replace its own"),
        (["a.wav", "a.txt", "-m", "M", "-o", "x.txt", "-f", "ctm"], 5, "x.txt: exists already"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_exit_code(
    here: Path, model: str, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    Path("x.txt").write_text("xyz")
    Path("long.txt").write_text("ab" * 200)
    Path("empty.txt").write_text("\n")
    assert main(["align", *(model if a == "M" else a for a in arguments)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("speechkit: error: ")
    assert message in err.splitlines()[0]
