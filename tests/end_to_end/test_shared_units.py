"""A stage that works in pieces: the same bytes whoever computes them, and nothing is computed twice."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from speechkit import jobs
from speechkit.cli.main import main
from speechkit.files import lock
from speechkit.models import save
from speechkit.models.wavlm.config import WavLMConfig
from speechkit.models.wavlm.model import WavLM
from speechkit.nn.encoder_config import EncoderConfig
from speechkit.recipe import record
from speechkit.stages import units
from tests.conftest import logging_kept
from tests.end_to_end.test_kmeans_recipe import PREPARE, RECIPE, write_utterance

UTTERANCES = 7  # each a piece of its own
LAYER = ("--set", "encoder=./encoder", "units.layer=1", "units.clusters=4")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """egs/tones/kmeans, all of whose stages up to the units have run in one process."""
    system = tmp_path_factory.mktemp("shared") / "egs/tones/kmeans"
    system.mkdir(parents=True)
    (system.parent / "prepare.py").write_text(PREPARE)
    for name in ("train", "test"):
        (system.parents[2] / "corpus" / name).mkdir(parents=True)
    for number in range(UTTERANCES):
        write_utterance(system.parents[2] / "corpus/train", f"train-{number}", number % 4)
    torch.manual_seed(0)
    encoder = EncoderConfig(dim=16, num_layers=2, ffn_dim=16, num_heads=2, position_kernel=8, position_groups=2)
    save(WavLM(WavLMConfig(conv_layers=((16, 10, 160), (16, 4, 4)), encoder=encoder)), system.parent / "encoder")
    with logging_kept(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "PIECE_SECONDS", 1.0)
        assert run(system, "--stop-stage", "8") == 0
    return system


@pytest.fixture
def system(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it whose units are to be made again."""
    monkeypatch.setattr(units, "PIECE_SECONDS", 1.0)
    shutil.copytree(finished.parents[2], tmp_path / "copy")
    system = tmp_path / "copy/egs/tones/kmeans"
    units_of(system).unlink()
    return system


def run(system: Path, *words: str) -> int:
    corpus = str(system.parents[2] / "corpus")
    return main(["run", str(RECIPE), "--in", str(system), "--data-dir", corpus, "--conf", "tiny", *LAYER, *words])


def units_of(system: Path) -> Path:
    return system / "exp/tiny/units"


def pieces(system: Path) -> Path:
    return system / "exp/tiny/.pieces/08_label_units"


def test_units_are_lines_sorted_by_id(finished: Path) -> None:
    first, *lines = units_of(finished).read_text().splitlines()
    assert first == "# units per second: 25"
    assert [line.split()[0] for line in lines] == [f"train-{n}" for n in range(UTTERANCES)]
    assert not pieces(finished).exists()


@pytest.mark.parametrize("count", [1, 3, 7])
def test_any_number_of_shards_gives_the_bytes_of_one(
    finished: Path, system: Path, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in reversed(range(count)):
        assert run(system, "--stages", "8", "--shard", f"{index}/{count}") == 0
        left = sum(len(range(i, UTTERANCES, count)) for i in range(index))
        assert f"stage 8 (label_units): shard {index}/{count} is done, {left} of 7 pieces are left" in (
            capsys.readouterr().err
        )
        assert units_of(system).exists() == (index == 0)
    assert units_of(system).read_bytes() == units_of(finished).read_bytes()
    found = record.read(system / "exp/tiny/.stages/08_label_units.json")
    assert found is not None
    assert found.status == "done"
    assert not pieces(system).exists()

    assert run(system, "--stages", "8", "--shard", f"0/{count}") == 0  # a scheduler may start it twice
    assert "skipped" in capsys.readouterr().err


@pytest.mark.parametrize("executor", [["--nj", "2"], ["--nj", "2", "--executor", "ray"]], ids=["processes", "ray"])
def test_processes_and_ray_give_the_bytes_of_one(
    finished: Path, system: Path, executor: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "ray" in executor and find_spec("ray") is None:
        pytest.skip("ray is not installed")
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert run(system, "--stages", "8", *executor) == 0
    assert units_of(system).read_bytes() == units_of(finished).read_bytes()


def test_a_stage_that_was_killed_goes_on_with_the_pieces_that_are_missing(
    finished: Path, system: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    computed: list[str] = []

    def compute(work: units._Labels, piece: jobs.Piece[units.Utterance], output: Path) -> dict[str, int]:
        computed.append(piece.name)
        if len(computed) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return label(work, piece, output)

    label = units._Labels.__call__
    monkeypatch.setattr(units._Labels, "__call__", compute)
    assert run(system, "--stages", "8") == 128 + signal.SIGTERM
    assert not units_of(system).exists()
    assert len(list(pieces(system).glob("*.units"))) == 3
    capfd.readouterr()
    assert run(system, "--stages", "8", "--list") == 0
    assert " partial " in next(line for line in capfd.readouterr().out.splitlines() if "label_units" in line)
    assert run(system, "--stages", "8") == 0
    assert "stage 8 (label_units): goes on" in capfd.readouterr().err
    assert computed == ["000000", "000001", "000002", "000003", "000003", "000004", "000005", "000006"]
    assert units_of(system).read_bytes() == units_of(finished).read_bytes()


def test_a_stage_without_pieces_and_several_stages_cannot_be_shared(
    system: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(system, "--stages", "7", "--shard", "0/2") == 2
    assert "--shard is for one stage that works in pieces, not for 7\nhint: " in capsys.readouterr().err
    assert run(system, "--stages", "7-8", "--shard", "0/2") == 2
    assert "not for 7, 8\nhint: choose one with --stages; stages that can be shared: 8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variables", "share"),
    [
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "3"}, "2/3"),
        ({"JOB_COMPLETION_INDEX": "0", "WORLD_SIZE": "3"}, "0/3"),
        ({"RANK": "1", "WORLD_SIZE": "3"}, "1/3"),
    ],
    ids=["slurm", "kubernetes", "torchrun"],
)
def test_auto_is_the_share_that_the_scheduler_says(
    system: Path,
    variables: dict[str, str],
    share: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert run(system, "--stages", "8", "--shard", "auto") == 0
    assert f"shard {share} is done" in capsys.readouterr().err


def test_a_share_that_is_none_is_refused(system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(system, "--stages", "8", "--shard", "auto") == 2
    assert "--shard: auto: none of SLURM_ARRAY_TASK_ID/SLURM_ARRAY_TASK_COUNT" in capsys.readouterr().err
    assert run(system, "--stages", "8", "--shard", "2/2") == 2
    assert "no shard 2/2: they count from 0 to 1" in capsys.readouterr().err


def test_an_array_that_is_no_whole_range_is_refused(
    system: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("ID", "17"), ("MIN", "3"), ("COUNT", "2")):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    assert run(system, "--stages", "8", "--shard", "auto") == 2
    assert "SLURM_ARRAY_TASK_ID=17 of 2: the array is no whole range, give I/N" in capsys.readouterr().err


def test_a_forced_stage_uses_none_of_the_pieces_that_are_there(
    system: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(system, "--stages", "8", "--shard", "1/3") == 0
    computed: list[str] = []
    label = units._Labels.__call__
    monkeypatch.setattr(
        units._Labels, "__call__", lambda work, piece, output: computed.append(piece.name) or label(work, piece, output)
    )
    assert run(system, "--stages", "8", "--force-stage", "8", "--shard", "0/3") == 2
    assert "--force-stage and --shard do not go together\nhint: " in capsys.readouterr().err
    assert run(system, "--stages", "8", "--force-stage", "8") == 0
    assert len(computed) == UTTERANCES


def test_a_share_says_who_puts_the_pieces_together_and_fails_if_nobody_knows_whether_it_lives(
    system: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    owner = {"host": "elsewhere", "boot_id": "b", "pid": 1, "user": "ann", "started": "2026-01-01 00:00:00"}
    lock_file = system / "exp/tiny/.lock"
    lock_file.write_text(json.dumps(owner))
    assert run(system, "--stages", "8", "--shard", "0/1") == 75
    assert "exp/tiny is in use by ann@elsewhere pid 1" in capsys.readouterr().err
    lock_file.unlink()
    with lock(lock_file, "exp/tiny"):
        assert run(system, "--stages", "8", "--shard", "0/1") == 0
    assert "another process puts the pieces together: exp/tiny is in use by" in capsys.readouterr().err
    assert run(system, "--stages", "8", "--shard", "0/1") == 0
    assert units_of(system).exists()
