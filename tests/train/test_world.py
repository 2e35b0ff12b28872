"""Several processes train what one trains: losses and gradient norms are equal, whatever their number."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing
from safetensors.torch import load_file
from torch import nn

from speechkit.errors import UsageError
from speechkit.objectives.losses import Losses
from speechkit.train.loop import train
from speechkit.train.schedules import ScheduleSettings
from speechkit.train.settings import TrainSettings
from speechkit.train.world import World
from tests.train.toy import ToyLoader, ToyModel, ToyObjective

SETTINGS = {
    "learning_rate": 0.02,
    "schedule": ScheduleSettings(),
    "clip": 1.0,
    "ema": 0.9,
    "dtype": "float32",
    "log_every": 1,
    "validate_every": 20,
}


class Droppy(ToyModel):
    """With a branch that some micro-batches leave out, and one that nothing ever uses."""

    def __init__(self) -> None:
        super().__init__(dropout=0.2)
        self.branch = nn.Linear(8, 8)
        self.unused = nn.Linear(2, 2)
        self.dropped = False

    def forward(self, waves: torch.Tensor) -> torch.Tensor:
        hidden = self.encoder(waves.unflatten(1, (-1, 4))).tanh()
        if not self.dropped:
            hidden = hidden + self.branch(hidden)
        return self.head(self.dropout(hidden))[..., 0]


class DroppyObjective(ToyObjective):
    """Leaves the branch out of two micro-batches of three: in some steps out of all of one process."""

    def __call__(self, model: Droppy, batch, step: int) -> Losses:
        model.dropped = batch.number % 3 != 0
        return super().__call__(model, batch, step)


def work(rank: int, size: int, port: int, out: Path, max_steps: int, stop: int) -> None:
    import os

    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    asked = iter(range(1, 10**6))
    train(
        Droppy(),
        DroppyObjective(),
        ToyLoader(per_step=4),
        TrainSettings(max_steps=max_steps, **SETTINGS),
        seed=3,
        out=out,
        validate=lambda model: {"loss": float(model.head.weight.detach().sum())},
        should_stop=lambda: next(asked) == stop and rank == size - 1,  # one process is told
    )
    if sys.platform == "linux":
        threads = [file.read_text() for file in Path("/proc/self/task").glob("*/comm")]
        assert not [name for name in threads if "gloo" in name]  # one that outlives Python aborts the process


def together(size: int, out: Path, max_steps: int = 30, stop: int = 0) -> list[tuple[float, float]]:
    """Loss and gradient norm of every step."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(work, (size, port, out, max_steps, stop), nprocs=size)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(row["loss"], row["gradient_norm"]) for row in rows if row["kind"] == "train"]


def test_any_number_of_processes_computes_what_one_computes(tmp_path: Path) -> None:
    alone = together(1, tmp_path / "1")
    assert len(alone) == 30
    assert alone[-1][0] < alone[0][0]
    for size in (2, 4):
        for expected, found in zip(alone, together(size, tmp_path / str(size)), strict=True):
            assert found == pytest.approx(expected, rel=1e-5)
        weights = load_file(tmp_path / f"{size}/weights/step-00000030.safetensors")
        torch.testing.assert_close(weights["unused.weight"], Droppy().unused.weight.detach())  # no weight decay either


def test_a_training_goes_on_with_another_number_of_processes(tmp_path: Path) -> None:
    alone = together(1, tmp_path / "1")
    assert len(together(4, tmp_path / "x", stop=13)) == 13
    for expected, found in zip(alone, together(2, tmp_path / "x"), strict=True):
        assert found == pytest.approx(expected, rel=1e-5)


def test_micro_batches_must_be_shared_evenly() -> None:
    World(0, 3).check(12)
    with pytest.raises(UsageError, match="3 processes cannot share 4 micro-batches of a step") as caught:
        World(0, 3).check(4)
    assert caught.value.hint.startswith("start 1, 2, 4 of them")


def test_gradients_travel_in_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    sums: list[int] = []

    def twice(flat: torch.Tensor) -> None:
        sums.append(flat.numel())
        flat.mul_(2)

    monkeypatch.setattr("speechkit.train.world._BUCKET_BYTES", 40)
    monkeypatch.setattr("torch.distributed.all_reduce", twice)
    tensors = [torch.full((n,), float(n)) for n in (3, 4, 20, 2, 8)]
    World(0, 2).add(tensors)
    assert sums == [7, 20, 10]
    assert [t.tolist() for t in tensors] == [[2.0 * n] * n for n in (3, 4, 20, 2, 8)]


def test_processes_that_see_different_checkpoints_do_not_begin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(World, "of_first", lambda world, value: 40)
    World(rank=1, size=2).agree(40, tmp_path)
    with pytest.raises(UsageError, match="process 0 goes on at step 40, process 1 finds step 0"):
        World(rank=1, size=2).agree(0, tmp_path)
