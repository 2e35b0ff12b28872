"""Processes that train beside this one, and what torchrun starts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from speechkit.errors import SpeechkitError, UsageError
from speechkit.recipe.processes import _PARENT, beside, the_training
from speechkit.recipe.stage import Stage
from speechkit.train.world import join, leave

OTHER = """
import torch
from speechkit.train.world import join, leave
world = join(torch.device("cpu"))
world.add([torch.tensor([float(10 ** world.rank)])])
leave()
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def stage(number: int, work: str | None) -> Stage:
    return Stage(
        number=number, name=f"s{number}", group="train", run=lambda c, s: None, inputs={}, outputs={},
        settings=lambda c: None, work=work,
    )  # fmt: skip


def test_the_others_run_while_the_body_does() -> None:
    with beside([sys.executable, "-c", OTHER], 3):
        world = join(torch.device("cpu"))
        total = torch.tensor([1.0])
        world.add([total])
        assert (world.rank, world.size, total.item()) == (0, 3, 111.0)
        leave()
    assert "WORLD_SIZE" not in os.environ


def test_one_that_fails_is_told_and_none_is_left() -> None:
    with (
        pytest.raises(SpeechkitError, match="process 1 of 2 ended with code 7"),
        beside([sys.executable, "-c", "raise SystemExit(7)"], 2),
    ):
        pass
    assert "WORLD_SIZE" not in os.environ


def test_a_process_that_waits_for_a_dead_one_ends_too() -> None:
    script = """
import sys, time
from speechkit.recipe import processes
processes._GRACE_SECONDS = 0.1
with processes.beside([sys.executable, "-c", "raise SystemExit(7)"], 2):
    time.sleep(300)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: process 1 of 2 ended with code 7; this one waits for it",
        "hint: the same command continues from the last checkpoint",
    ]


def test_one_that_was_asked_to_stop_does_not_end_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechkit.recipe.processes._GRACE_SECONDS", 0.0)
    with beside([sys.executable, "-c", "raise SystemExit(143)"], 2):
        time.sleep(1)  # the other has ended, and a failed one would end this process
    assert "WORLD_SIZE" not in os.environ


def test_those_who_wait_for_a_dead_process_end_with_it(tmp_path: Path) -> None:
    other = "import os, sys, time; os.environ['RANK'] == '1' and sys.exit(7); time.sleep(300)"
    script = f"""
import sys, time
from speechkit.recipe import processes
processes._GRACE_SECONDS = 0.5
start = processes.subprocess.Popen
def popen(*given, **options):
    process = start(*given, **options)
    open({str(tmp_path / "pids")!r}, "a").write(f"{{process.pid}} ")
    return process
processes.subprocess.Popen = popen
with processes.beside([sys.executable, "-c", {other!r}], 3):
    time.sleep(300)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    for pid in (tmp_path / "pids").read_text().split():
        deadline = time.monotonic() + 10
        while alive(int(pid)):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_follower_ends_with_the_process_that_started_it() -> None:
    script = f"""
import os, subprocess, sys
follower = "from speechkit.recipe import processes; processes._POLL_SECONDS = 0.05; processes._end_with_parent()"
child = subprocess.Popen([sys.executable, "-c", follower], env=os.environ | {{"{_PARENT}": str(os.getpid())}})
print(child.pid, flush=True)
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    deadline = time.monotonic() + 60
    while alive(int(done.stdout)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_alone_nothing_is_started() -> None:
    with beside(["no such command"], 1):
        assert join(torch.device("cpu")).size == 1


def test_several_processes_run_one_training_stage() -> None:
    assert the_training([stage(10, "exp/work")]).number == 10
    for stages in ([stage(1, None)], [stage(1, None), stage(10, "exp/work")]):
        with pytest.raises(UsageError, match="several processes run a training stage, not stages 1"):
            the_training(stages)
