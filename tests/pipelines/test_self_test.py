"""The self test finds what is broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from speechkit.errors import SpeechkitError
from speechkit.pipelines import self_test as checks
from speechkit.pipelines.self_test import Verdict, self_test


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the reading of audio."""
    monkeypatch.setattr(checks, "_CHECKS", {"read audio": checks._CHECKS["read audio"]})


def test_all_of_it_passes_here() -> None:
    found = {verdict.name: verdict for verdict in self_test("cpu", seconds=120)}
    assert list(found) == ["device cpu", *checks._CHECKS]
    assert found.pop("features").verdict == "skipped"
    assert {v.verdict for v in found.values()} == {"ok"}, found


def test_samples_that_do_not_come_back_are_noticed(only: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "read_int16", lambda path, start: (np.zeros(7900, np.int16), 16000))
    _, verdict = self_test("cpu")
    assert (verdict.verdict, verdict.why) == ("FAILED", "wav: what is read is not what was written")
    assert verdict.hint.startswith("pip install")


@pytest.mark.parametrize(
    ("error", "why", "hint"),
    [
        (SpeechkitError("gone", hint="find it"), "gone", "find it"),
        (RuntimeError("deep\nand long"), "RuntimeError: deep", "pip install --force"),
    ],
)
def test_an_error_is_a_verdict(
    only: None, monkeypatch: pytest.MonkeyPatch, error: Exception, why: str, hint: str
) -> None:
    def broken(path: Path, start: int) -> None:
        raise error

    monkeypatch.setattr(checks, "read_int16", broken)
    _, verdict = self_test("cpu")
    assert (verdict.verdict, verdict.why) == ("FAILED", why)
    assert verdict.hint.startswith(hint)


def test_a_loss_that_does_not_fall_and_a_text_that_differs_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {name: checks._CHECKS[name] for name in ("training", "transcribe")}
    monkeypatch.setattr(checks, "_CHECKS", chosen)
    monkeypatch.setattr("speechkit.train.optimizer.Optimizer.step", lambda *args: None)
    monkeypatch.setattr(checks, "greedy", lambda *args, **options: [[2, 3]])
    _, training, transcribe = self_test("cpu", seconds=120)
    assert (training.verdict, transcribe.verdict) == ("FAILED", "FAILED")
    assert training.why.startswith("the loss went from ")
    assert transcribe.why.endswith("expected 'ab'")


def test_features_of_a_device_are_compared_with_those_of_the_cpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    factors = iter([1.0, 1.0, 1.0, 1.01])
    fbank = checks.fbank

    def computed(waves: torch.Tensor, *rest: object) -> tuple[torch.Tensor, torch.Tensor]:
        features, lengths = fbank(waves, *rest)  # type: ignore[arg-type]
        return features * next(factors), lengths

    class Elsewhere:
        type = "elsewhere"

    monkeypatch.setattr(checks, "fbank", computed)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device: tensor)
    bench = checks.Workbench(folder=tmp_path, device=Elsewhere(), seconds=1.0)  # type: ignore[arg-type]
    checks._features(bench)
    with pytest.raises(SpeechkitError, match="differ from those of the CPU by 0"):
        checks._features(bench)


def test_what_there_is_no_time_for_is_skipped() -> None:
    first, *rest = self_test("cpu", seconds=0)
    assert first == Verdict(name="device cpu", verdict="ok")
    assert {(v.verdict, v.why) for v in rest} == {("skipped", "the 0 s of the self test are over")}
