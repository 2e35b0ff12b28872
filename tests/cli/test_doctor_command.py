"""`speechkit doctor` as a user types it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from speechkit.cli import doctor
from speechkit.cli.main import main
from speechkit.pipelines.rates import Rate
from speechkit.pipelines.self_test import Verdict

ROOT = Path(__file__).parents[2]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[Verdict]:
    """Checks and rates that take no time; what stands in the list is what the self test finds."""
    found = [Verdict(name="device cpu", verdict="ok"), Verdict(name="worker", verdict="skipped", why="no time")]

    def measure(device: torch.device) -> Iterator[Rate]:
        assert device.type == "cpu"
        yield Rate(name="fbank", value=1234.5, unit="x real time", trials=3)

    monkeypatch.setenv("SPEECHKIT_DEVICE", "cpu")
    monkeypatch.setattr("speechkit.pipelines.self_test.self_test", lambda device: iter(found))
    monkeypatch.setattr("speechkit.pipelines.rates.measure", measure)
    monkeypatch.setattr("speechkit.train.precision.bfloat16_gain", lambda device: 0.25)
    return found


def test_it_works_as_a_command() -> None:
    command = [sys.executable, "-m", "speechkit", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("speechkit 0.")
    assert any(line.startswith("torch 2.") for line in lines)
    assert any(line.startswith("bfloat16 runs at ") for line in lines)
    assert any(line.startswith("reads and writes wav flac ") for line in lines)
    verdicts = {line.partition(": ")[0]: line.partition(": ")[2] for line in lines[lines.index("package name: ok") :]}
    assert list(verdicts)[2:] == ["read audio", "features", "training", "transcribe", "worker"]
    assert all(re.match(r"ok|skipped \(", verdict) for verdict in verdicts.values()), verdicts


def test_json_holds_all_of_it(quick: list[Verdict], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", "--bench"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    sections = ["versions", "devices", "formats", "extras", "environment", "folders", "checks", "rates"]
    assert list(found) == sections
    assert found["devices"]["bfloat16_gain"] == 0.25
    assert found["environment"]["SPEECHKIT_DEVICE"] == "cpu"
    assert [check["verdict"] for check in found["checks"]] == ["ok", "ok", "skipped"]
    assert found["rates"] == {"fbank": {"value": 1234.5, "unit": "x real time", "trials": 3}}
    assert all(folder["free_bytes"] > 0 for folder in found["folders"])


def test_without_bench_nothing_is_measured(quick: list[Verdict], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "fbank" not in out
    assert "bfloat16 runs at 0.25 times the speed of float32, so training stays in float32" in out
    assert "worker: skipped (no time)" in out.splitlines()
    assert main(["doctor", "--bench"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "fbank 1234 x real time (median of 3)"


def test_what_fails_is_a_line_and_a_hint_and_exit_1(quick: list[Verdict], capsys: pytest.CaptureFixture[str]) -> None:
    quick.append(Verdict(name="training", verdict="FAILED", why="the loss rose", hint="look at it"))
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out.splitlines()[-2:] == ["training: FAILED: the loss rose", "hint: look at it"]


def test_the_unrelated_speechkit_is_a_failure(
    quick: list[Verdict], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "speechkit-2.3.dist-info").mkdir()
    (tmp_path / "speechkit-2.3.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: speechkit\nVersion: 2.3\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    failed = next(i for i, line in enumerate(lines) if line.startswith("package name: FAILED: "))
    assert lines[failed].endswith("(version 2.3)")
    assert lines[failed + 1].startswith("hint: pip uninstall speechkit")


def test_a_token_is_not_shown(
    quick: list[Verdict], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    assert main(["doctor"]) == 0
    assert "HF_TOKEN=(set)" in (out := capsys.readouterr().out)
    assert "verysecret" not in out


def test_a_device_that_is_not_there_fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECHKIT_DEVICE", "gpu7")
    monkeypatch.setattr("speechkit.train.precision.bfloat16_gain", lambda device: 1.0)
    monkeypatch.setattr("speechkit.pipelines.self_test._CHECKS", {})
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == ["device gpu7: FAILED: no device 'gpu7'", "hint: auto, cpu, cuda, cuda:N or mps"]


def test_a_library_that_does_not_load_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    assert main(["doctor"]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("soundfile: FAILED: ModuleNotFoundError: ")
    assert second == "hint: pip install --force-reinstall soundfile"
    assert main(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["checks"][0]["name"] == "soundfile"


def test_every_variable_that_the_package_reads_is_listed() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "speechkit").rglob("*.py"))
    read = set(re.findall(r'environ\.(?:get|setdefault)\(\s*"(\w+)"', text))
    assert read
    assert read <= set(doctor.VARIABLES)
