"""Every stage of recipes/wavlm killed at random moments: the same command completes, and nothing is half-written."""

from __future__ import annotations

import json
import os
import random
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.end_to_end.commands import Commands, Order
from tests.end_to_end.conftest import Finished, Workspace
from tests.end_to_end.test_wavlm_recipe import STAGES, ran

KILLS = 5  # of each stage, one after the other
FOLDERS = [  # the outputs that are folders
    "data",
    *(f"wavlm/exp/tiny/{name}" for name in ("tokens", "*/kmeans", "*/model", "finetune/weights", "decode/test")),
]
DATED = re.compile(r"report\.html|RESULTS\.md")  # they say when they were made


@dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """A run that nothing happened to: its files, and how many times each stage touched a file."""

    outputs: dict[str, bytes]
    touches: dict[str, int]


@pytest.fixture(scope="module")
def undisturbed(untouched: Workspace, tmp_path_factory: pytest.TempPathFactory, commands: Commands) -> Undisturbed:
    folder = tmp_path_factory.mktemp("tally")
    workspace = untouched.copy(folder)
    tally = folder / "tally.json"
    commands.run(*workspace.command, order=Order(below=str(folder), tally=str(tally)))
    return Undisturbed(outputs=workspace.outputs(), touches=json.loads(tally.read_text()))


def moments(label: str, touches: int) -> Iterator[tuple[int, float]]:
    """Which touch of a file, and how many seconds after it: drawn by the name of the stage."""
    drawn = random.Random(f"killed {label}")
    for number in range(KILLS):
        yield drawn.randint(1, touches), (drawn.random() * 0.03 if number % 2 else 0.0)


def test_what_a_killed_stage_left_in_its_scratch_folder_is_in_nobodys_way(
    workspace: Workspace, commands: Commands
) -> None:
    left = workspace.exp / ".scratch/31_average/model"
    left.mkdir(parents=True)
    (left / "card.md").write_text("config.json was moved to its place already\n")
    commands.run(*workspace.command, "--stages", "31", "--force-stage", "31")
    assert not left.parent.exists()


def test_what_a_killed_run_left_of_a_record_is_none(workspace: Workspace, commands: Commands) -> None:
    record = json.loads((workspace.exp / ".stages/05_learn_tokens.json").read_text())
    left = workspace.exp / ".stages/.05_learn_tokens.tmp-1.json"
    left.write_text(json.dumps({**record, "command": "speechkit killed", "corpus_dir": "/x", "started": "2999"}))
    os.utime(left, (0, 0))
    words = [word for word in workspace.command if word not in ("--data-dir", str(workspace.corpus))]
    commands.run(*words, "decode.batch_seconds=60")  # the corpus is that of the last run
    assert "speechkit killed" not in (workspace.exp / "RESULTS.md").read_text()
    commands.run(*words, "--stages", "5", "--force-stage", "5")
    assert not left.exists()


def test_two_runs_give_the_same_bytes(undisturbed: Undisturbed, finished: Finished) -> None:
    assert set(undisturbed.touches) == {stage.label for stage in STAGES}
    assert min(undisturbed.touches.values()) > 5
    assert finished.workspace.outputs().keys() == undisturbed.outputs.keys()
    check_same(finished.workspace, undisturbed, "another run")


def test_a_stage_killed_while_it_replaces_its_outputs_makes_them_again(
    undisturbed: Undisturbed, workspace: Workspace, commands: Commands
) -> None:
    label = STAGES[0].label
    words = [*workspace.command, "--stages", "1"]
    for touch in range(undisturbed.touches[label] - 12, undisturbed.touches[label] + 1):
        order = Order(below=str(workspace.system.parent), stage=label, touch=touch)
        done = commands.run(*words, "--force-stage", "1", code=None, order=order)
        assert done.code in (-signal.SIGKILL, 0), done.err
        check_whole(workspace, f"touch {touch}")
        commands.run(*words)
        assert workspace.outputs().keys() == undisturbed.outputs.keys()
        check_same(workspace, undisturbed, f"touch {touch}")
    assert ran(commands.run(*workspace.command).err) == []


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True], ids=["all but trainings", "trainings"])
def test_a_killed_stage_leaves_nothing_half_written_and_the_same_command_completes(
    undisturbed: Undisturbed, untouched: Workspace, tmp_path: Path, commands: Commands, training: bool
) -> None:
    workspace = untouched.copy(tmp_path)
    victims = [stage for stage in STAGES if (stage.work is not None) == training]
    num_killed = 0
    for stage in victims:
        for number, (touch, seconds) in enumerate(moments(stage.label, undisturbed.touches[stage.label])):
            order = Order(below=str(tmp_path), stage=stage.label, touch=touch, seconds=seconds)
            done = commands.run(*workspace.command, "--stop-stage", stage.number, code=None, order=order)
            where = f"{stage} at touch {touch} of {undisturbed.touches[stage.label]} + {seconds:.3f} s"
            if number and done.code == 0:  # the signal was too late, or less was left to do than in one go
                break
            assert done.code == -signal.SIGKILL, f"{where}: {done.code}\n{done.err}"
            num_killed += 1
            check_whole(workspace, where)
            if not training:
                check_same(workspace, undisturbed, where)
    assert num_killed > 1.5 * len(victims)
    commands.run(*workspace.command)
    lines = commands.run(*workspace.command, "--list", "--json").out.splitlines()
    assert {row["state"] for row in map(json.loads, lines) if row["group"] != "upload"} == {"done", "skipped"}
    outputs = workspace.outputs()
    assert outputs.keys() == undisturbed.outputs.keys() | {n for n in outputs if "/weights/" in n and training}
    check_whole(workspace, "the end")
    if not training:
        check_same(workspace, undisturbed, "the end")
        assert outputs["wavlm/exp/tiny/decode/test/text"] == undisturbed.outputs["wavlm/exp/tiny/decode/test/text"]
    for name in ("pretrain_1", "pretrain_2", "finetune"):
        rows = [json.loads(line) for line in (workspace.exp / name / "metrics.jsonl").read_text().splitlines()]
        assert [row["step"] for row in rows if row["kind"] == "train"] == [1, 2, 3, 4, 5, 6]
    assert ran(commands.run(*workspace.command).err) == []


def check_whole(workspace: Workspace, where: str) -> None:
    """Every output that is there under its name can be read to its end, and none is a temporary file."""
    for name, content in workspace.outputs().items():
        assert ".tmp-" not in name, f"{where}: {name}"
        path = workspace.system.parent / name
        if path.suffix == ".safetensors":
            assert load_file(path), f"{where}: {name}"
        elif path.suffix == ".json":
            assert json.loads(content), f"{where}: {name}"
        elif path.suffix == ".jsonl":
            assert content.endswith(b"\n"), f"{where}: {name}"
            assert all(json.loads(line) for line in content.splitlines()), f"{where}: {name}"
        elif path.suffix == ".html":
            assert content.rstrip().endswith(b"</html>"), f"{where}: {name}"
        elif content:
            assert content.endswith(b"\n"), f"{where}: {name}"
    folders = [folder for pattern in FOLDERS for folder in workspace.system.parent.glob(pattern)]
    assert not [path for folder in folders for path in folder.rglob("*.tmp-*")], where


def check_same(workspace: Workspace, undisturbed: Undisturbed, where: str) -> None:
    """Every output that is there has the bytes of the undisturbed run."""
    for name, content in workspace.outputs().items():
        if not DATED.search(name) and not name.endswith("metrics.jsonl"):  # which tells times
            assert content == undisturbed.outputs[name], f"{where}: {name}"
