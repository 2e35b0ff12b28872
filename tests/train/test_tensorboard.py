from __future__ import annotations

import json
import logging
import math
import sys
from pathlib import Path

import pytest

from speechkit.train.monitor import Metrics
from tests.train.test_loop import run
from tests.train.toy import ToyModel

event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows, steps and values of every curve, from all files of a folder."""
    found = event_accumulator.EventAccumulator(str(folder)).Reload()
    return {tag: [(s.step, s.value) for s in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def numbers(metrics: Path) -> dict[str, list[tuple[int, float]]]:
    """The same from metrics.jsonl."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in map(json.loads, metrics.read_text().splitlines()):
        for name in [n for n, value in row.items() if n != "step" and not isinstance(value, str)]:
            curves.setdefault(f"{row['kind']}/{name}", []).append((row["step"], pytest.approx(row[name])))
    return curves


def test_every_number_of_a_training_is_a_scalar(tmp_path: Path) -> None:
    run(tmp_path, ToyModel(), validate_every=6)
    curves = scalars(tmp_path / "tensorboard")
    assert curves == numbers(tmp_path / "metrics.jsonl")
    assert {"train/loss", "train/learning_rate", "valid/square"} <= curves.keys()


def test_a_training_that_goes_on_has_every_step_once(tmp_path: Path) -> None:
    run(tmp_path, ToyModel(), stop=6)
    killed = Metrics(tmp_path / "metrics.jsonl", 6)
    killed.write("train", 9, {"loss": 99.0})
    killed.close()
    assert scalars(tmp_path / "tensorboard")["train/loss"][-1] == (9, 99.0)
    run(tmp_path, ToyModel())
    assert [step for step, _ in scalars(tmp_path / "tensorboard")["train/loss"]] == [5, 10, 12]
    assert scalars(tmp_path / "tensorboard") == numbers(tmp_path / "metrics.jsonl")


def test_what_is_not_a_number_does_not_end_a_training(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "metrics.jsonl", 0)
    metrics.write("train", 1, {"loss": math.nan, "example": "one → won"})
    metrics.close()
    ((step, value),) = scalars(tmp_path / "tensorboard")["train/loss"]
    assert step == 1
    assert math.isnan(value)


def test_without_the_package_nothing_is_written_and_a_line_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with caplog.at_level(logging.INFO):
        run(tmp_path, ToyModel())
    assert not (tmp_path / "tensorboard").exists()
    assert caplog.text.count("pip install 'speechkit-torch[tensorboard]'") == 1
