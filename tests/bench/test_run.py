"""`python -m bench.run`: what it prints and writes. That outputs are equal is checked by the cases themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench import run
from bench.speech import RATE, lengths, record, voice
from bench.table import HEAD
from speechkit.audio.files import read_int16
from speechkit.errors import SpeechkitError
from tests.pipelines.tiny import save_tiny

ROWS = {"forward": 15, "train_step": 7, "loader": 6, "kmeans": 2}


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


@pytest.mark.parametrize(
    "case", ["kmeans", "loader", *(pytest.param(c, marks=pytest.mark.slow) for c in ("forward", "train_step"))]
)
def test_a_quick_run_prints_a_table_whose_outputs_were_equal(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([case, "--quick", "--trials", "1"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"## {case}\n\nA quick run: these times mean nothing. ")
    head, _, *found = rows(printed)
    assert head == list(HEAD)
    assert len(found) == ROWS[case]
    assert {len(row) for row in found} == {len(HEAD)}
    compared = [row for row in found if row[-1].endswith(")")]
    assert compared
    for row in compared:
        difference, allowed = re.fullmatch(r"(\S+) \((\S+)\)", row[-1]).groups()  # type: ignore[union-attr]
        assert float(difference) <= float(allowed)


@pytest.mark.slow
def test_texts_are_those_of_the_pipeline_for_a_model_given_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path / "voices", [0.8])
    given = ["--model", str(save_tiny(tmp_path)), "--recordings", str(tmp_path / "voices")]
    assert run.main(["transcribe", "--quick", "--trials", "1", *given]) == 0
    _, _, *found = rows(capsys.readouterr().out)
    one_by_one = [row for row in found if row[1] == "pipeline, batches of 1" and not row[0].startswith("…")]
    assert [row[0] for row in one_by_one] == [
        "demo's size, random weights, 4 files",
        "base size, random weights, 2 files",
        "tiny model, 1 files",
    ]
    assert [row[-1] for row in one_by_one] == ["0 (0)"] * 3
    work, start, both = (float(row[2]) for row in found[:9:3])
    assert work + start == pytest.approx(both, rel=0.02)


def test_the_page_of_results_keeps_other_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "RESULTS.md"
    page.write_text("# Old\n\n## loader\n\nold\n\n## transcribe\n\nkept\n", encoding="utf-8")
    monkeypatch.setattr(run, "_section", lambda case, args, where: f"new {case}\n" if case != "loader" else "")
    assert run.main(["kmeans", "gpu", "loader", "--output", str(page)]) == 0
    sections = re.findall(r"^## (\w+)\n\n(.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sections == [("loader", "old"), ("kmeans", "new kmeans"), ("transcribe", "kept"), ("gpu", "new gpu")]


def test_a_case_that_fails_does_not_keep_the_others_from_running(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def section(case: str, args: object, where: str) -> str:
        if case == "kmeans":
            raise SpeechkitError("outputs differ")
        return f"new {case}\n"

    monkeypatch.setattr(run, "_section", section)
    assert run.main(["kmeans", "gpu", "--quick"]) == 1
    printed = capsys.readouterr()
    assert printed.out == "## gpu\n\nnew gpu\n\n"
    assert printed.err == "error: kmeans: outputs differ\n"


def test_the_line_about_the_machine_names_no_place() -> None:
    line = run.environment()
    assert re.search(r"\d+ cores, \d+ threads", line)
    assert re.search(r"torch \d\S*, torchaudio \d.*; \d{4}-\d\d-\d\d; commit \S+$", line)
    assert "/" not in line
    assert Path.home().name not in re.split(r"\W+", line)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["forwards"], "no case 'forwards'"), (["--model", "x"], "--model and --recordings go together")],
)
def test_wrong_arguments_are_refused(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        run.main(arguments)
    assert refused.value.code == 2
    assert said in capsys.readouterr().err


def test_voices_are_files_of_the_lengths_asked_for_and_the_same_every_time(tmp_path: Path) -> None:
    seconds = lengths(3, 0.3, 0.6)
    assert all(0.3 <= length < 0.6 for length in seconds)
    utterances = record(tmp_path / "made", seconds)
    assert [u.num_samples for u in utterances] == [round(length * RATE) for length in seconds]
    samples, rate = read_int16(Path(utterances[1].path))
    assert rate == RATE
    assert abs(samples / 32768 - voice("u0001", seconds[1])).max() < 2**-15
    assert samples.std() > 500
