"""Trainings with torchrun: the losses of 1, 2 and 4 processes, and of 4 that are killed and go on as 2, are equal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.end_to_end.commands import environment
from tests.end_to_end.conftest import Finished, Workspace

pytestmark = [
    pytest.mark.endurance,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="there is no /proc to find processes in"),
]

STEPS = 60
CHANGES = (
    "model.encoder.layer_drop=0.3",
    "pretrain_1.mixing.prob=0.5",
    "pretrain_1.micro_batches=4",
    "pretrain_1.batch.batch_seconds=2",
    f"pretrain_1.train.max_steps={STEPS}",
    "pretrain_1.train.validate_every=20",
    "pretrain_1.train.save_minutes=0.01",
)


def start(workspace: Workspace, processes: int) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "-m", "speechkit"]
    words += [*workspace.command, *CHANGES, "--stages", "10"]
    return subprocess.Popen(words, env=environment())


def workers_of(running: subprocess.Popen[bytes]) -> list[int]:
    """The processes that torchrun started, each in a session of its own."""
    return [int(pid) for pid in Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()]


def curve(workspace: Workspace) -> list[tuple[float, float]]:
    """Loss and gradient norm of every step."""
    lines = (workspace.exp / "pretrain_1/metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["kind"] == "train"]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    return [(row["loss"], row["gradient_norm"]) for row in rows]


def untrained(finished: Finished, folder: Path) -> Workspace:
    """The finished experiment as if no training had run: all of them know of layer drop."""
    workspace = finished.workspace.copy(folder)
    for name in ("10_pretrain_1", "23_pretrain_2", "30_finetune"):
        (workspace.exp / f".stages/{name}.json").unlink()
    return workspace


@pytest.fixture(scope="module")
def alone(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[float, float]]:
    workspace = untrained(finished, tmp_path_factory.mktemp("alone"))
    assert start(workspace, 1).wait() == 0
    return curve(workspace)


def check(found: list[tuple[float, float]], alone: list[tuple[float, float]]) -> None:
    furthest = max(
        abs(a / b - 1) for ours, theirs in zip(found, alone, strict=True) for a, b in zip(ours, theirs, strict=True)
    )
    print(f"\nlosses and gradient norms of {STEPS} steps are within {furthest:.1g} of those of one process", end="")
    assert furthest < 1e-5


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_have_the_losses_of_one(
    processes: int, alone: list[tuple[float, float]], finished: Finished, tmp_path: Path
) -> None:
    workspace = untrained(finished, tmp_path)
    assert start(workspace, processes).wait() == 0
    check(curve(workspace), alone)


def test_four_that_are_killed_go_on_as_two(
    alone: list[tuple[float, float]], finished: Finished, tmp_path: Path
) -> None:
    workspace = untrained(finished, tmp_path)
    log = workspace.exp / "pretrain_1/work/metrics.jsonl"
    running = start(workspace, 4)
    while not (log.exists() and log.read_text().count('"train"') >= STEPS // 2):
        assert running.poll() is None
        time.sleep(0.01)
    for process in (*workers_of(running), running.pid):
        os.kill(process, signal.SIGKILL)
    running.wait()
    assert start(workspace, 2).wait() == 0
    check(curve(workspace), alone)
