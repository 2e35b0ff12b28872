"""Trainings killed at random moments: the same command ends with the losses and the bytes of one left alone."""

from __future__ import annotations

import json
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.commands import Commands
from tests.end_to_end.conftest import Finished, Workspace

STEPS = 40
STAGES = {"pretrain_1": 10, "finetune": 30}
SECONDS_PER_STEP = 0.05  # about; a kill comes up to so much after the step that was drawn
OF_THE_PROCESS = {"audio_seconds_per_second", "wait_share", "padding_share", "memory_mib"}  # not of the training


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training left behind: the rows of its log without what is of the process, and its weights."""

    rows: list[dict[str, Any]]
    weights: dict[str, bytes]


def untrained(finished: Finished, training: str, folder: Path) -> Workspace:
    """The finished experiment as if that stage had never run."""
    workspace = finished.workspace.copy(folder)
    (workspace.exp / f".stages/{STAGES[training]}_{training}.json").unlink()
    return workspace


def words(workspace: Workspace, training: str) -> list[str]:
    """Train for `STEPS`; a checkpoint every few of them."""
    changes = {"max_steps": STEPS, "validate_every": 16, "log_every": 1, "save_minutes": 0.003}
    settings = [f"{training}.train.{name}={value}" for name, value in changes.items()]
    return [*workspace.command, *settings, "--stages", str(STAGES[training])]


def trained(workspace: Workspace, training: str) -> Trained:
    folder = workspace.exp / training
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    files = [*folder.glob("model/model.safetensors"), *folder.glob("weights/*")]
    return Trained(
        rows=[{name: value for name, value in row.items() if name not in OF_THE_PROCESS} for row in rows],
        weights={str(file.relative_to(folder)): file.read_bytes() for file in files},
    )


@pytest.fixture(scope="module", params=STAGES)
def training(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def undisturbed(
    training: str, finished: Finished, tmp_path_factory: pytest.TempPathFactory, commands: Commands
) -> Trained:
    workspace = untrained(finished, training, tmp_path_factory.mktemp("undisturbed"))
    started = time.monotonic()
    commands.run(*words(workspace, training))
    assert time.monotonic() - started < 60
    return trained(workspace, training)


def check_trial(
    training: str, number: int, finished: Finished, undisturbed: Trained, folder: Path, commands: Commands
) -> None:
    """Kill the training after a step that is drawn, run the command again, and compare."""
    drawn = random.Random(f"{training} {number}")
    step, seconds = drawn.randint(0, STEPS - 1), SECONDS_PER_STEP * drawn.random()
    workspace = untrained(finished, training, folder)
    log = workspace.exp / training / "work/metrics.jsonl"
    command = words(workspace, training)
    running = commands.start(*command)
    running.until(f"step {step}", lambda: log.exists() and rows_in(log) >= step)
    time.sleep(seconds)
    running.send(signal.SIGKILL)
    assert running.wait().code == -signal.SIGKILL
    written = rows_in(log)
    again = commands.run(*command)
    where = f"{training} killed {1000 * seconds:.0f} ms after step {step}, {written} steps being in its log"
    print(f"\n{where}: {'goes on' if 'goes on' in again.err else 'begins afresh'}", end="")
    found = trained(workspace, training)
    assert found.rows == undisturbed.rows, where
    assert found.weights.keys() == undisturbed.weights.keys(), where
    assert all(found.weights[name] == content for name, content in undisturbed.weights.items()), where


def rows_in(log: Path) -> int:
    return log.read_text().count('"kind": "train"')


@pytest.mark.parametrize("number", range(2))
def test_a_killed_training_ends_with_the_losses_and_bytes_of_one_left_alone(
    training: str, number: int, finished: Finished, undisturbed: Trained, tmp_path: Path, commands: Commands
) -> None:
    check_trial(training, number, finished, undisturbed, tmp_path, commands)


@pytest.mark.endurance
@pytest.mark.parametrize("number", range(2, 12))
def test_ten_more_killed_trainings_end_with_the_same_losses_and_bytes(
    training: str, number: int, finished: Finished, undisturbed: Trained, tmp_path: Path, commands: Commands
) -> None:
    check_trial(training, number, finished, undisturbed, tmp_path, commands)
