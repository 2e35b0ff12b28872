"""`speechkit transcribe` of one folder by several processes and machines."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from speechkit.cli.main import main

RATE = 16000
NAMES = list("abcdefg")


def transcribe(model: str, *words: str) -> int:
    return main(["transcribe", "rec", "-m", model, "--device", "cpu", "-f", "txt,ctm", *words])


def texts(folder: str) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(Path(folder).glob("[!.]*"))}


@pytest.mark.parametrize("count", [1, 3, 7])
def test_shards_of_one_folder_give_the_text_of_one_process(
    seven_recordings: Path, model: str, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transcribe(model, "-o", "whole") == 0
    capsys.readouterr()
    for index in range(count):
        assert transcribe(model, "-o", "shared", "--shard", f"{index}/{count}") == 0
        size = len(NAMES[index::count])
        assert f"{size} files · {size} ok" in capsys.readouterr().err
    assert len(texts("shared")) == 14
    assert texts("shared") == texts("whole")
    assert any(texts("whole").values())


@pytest.mark.parametrize(
    "executor",
    [["--nj", "2"], pytest.param(["--nj", "2", "--executor", "ray"], marks=pytest.mark.slow)],
    ids=["processes", "ray"],
)
def test_processes_and_ray_give_the_text_of_one_process(
    seven_recordings: Path,
    model: str,
    executor: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "ray" in executor and find_spec("ray") is None:
        pytest.skip("ray is not installed")
    monkeypatch.setenv("RAY_ADDRESS", "local")
    Path("rec/c.wav").write_bytes(b"RIFF nothing")
    assert transcribe(model, "-o", "one") == 1
    alone = capsys.readouterr().err.splitlines()
    assert transcribe(model, "-o", "many", *executor) == 1
    together = capsys.readouterr().err.splitlines()
    assert texts("many") == texts("one")
    assert [line for line in together if "error" in line] == [line for line in alone if "error" in line]
    assert together[-1].rpartition(" · ")[0] == alone[-1].rpartition(" · ")[0]  # the rest is how fast it went
    status = {
        entry["input"]: entry["status"]
        for line in Path("many/.speechkit.jsonl").read_text().splitlines()
        for entry in [json.loads(line)]
    }
    assert status == {f"rec/{name}.wav": "failed" if name == "c" else "done" for name in NAMES}


def test_another_number_of_shards_goes_on_with_what_is_missing(
    seven_recordings: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transcribe(model, "-o", "out", "--shard", "0/3") == 0
    before = {path: path.stat().st_mtime_ns for path in Path("out").glob("*.txt")}
    assert len(before) == 3
    capsys.readouterr()
    assert transcribe(model, "-o", "out", "--shard", "0/2") == 5  # a and g are there
    assert "exists already" in capsys.readouterr().err
    assert transcribe(model, "-o", "out", "--resume", "--shard", "0/2") == 0
    assert "4 files · 4 ok (2 before)" in capsys.readouterr().err
    assert transcribe(model, "-o", "out", "--resume") == 0
    assert "7 files · 7 ok (5 before)" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_sharing_is_for_folders_and_for_what_needs_no_order(
    seven_recordings: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, said in (
        (["--shard", "0/2"], "--shard is for a folder of outputs"),
        (["--nj", "2"], "--nj is for a folder of outputs"),
        (["--nj", "2", "-o", "out", "--jsonl"], "--jsonl goes with one process"),
        (["--nj", "2", "-o", "out", "--fail-fast"], "--fail-fast goes with one process"),
    ):
        assert main(["transcribe", "rec", "-m", model, *words]) == 2
        assert said in capsys.readouterr().err
