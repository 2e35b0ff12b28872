"""`speechkit data why` tells what trainings really saw."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from speechkit.cli.main import main
from speechkit.data.batch import Batch
from speechkit.data.loader import Loader, Step
from tests.conftest import logging_kept
from tests.end_to_end.commands import ROOT, Commands
from tests.end_to_end.conftest import Finished, Workspace, speechkit

NOISY = (
    "noise_set=test",
    "rir_set=dev",
    "finetune.augment.reverb_prob=0.5",
    "finetune.augment.noise_prob=0.5",
    "finetune.channel_mask={prob: 0.5, length: 4, min_masks: 0}",
    "finetune.mask.prob=0.4",
    "finetune.micro_batches=2",
    "finetune.batch.batch_seconds=4",
    "pretrain_1.mixing={prob: 0.8, noise_prob: 0.5}",
    "pretrain_1.batch.batch_seconds=5",
    "init=pretrain_1",
)
Seen = dict[str, list[list[Batch]]]


@pytest.fixture(scope="module")
def trained(untouched: Workspace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Seen]:
    """A noisy experiment, and the batches that its two trainings were given, by step."""
    workspace = untouched.copy(tmp_path_factory.mktemp("noisy egs"))
    seen: Seen = {}
    steps = Loader.steps

    def watched(self: Loader, *which: int) -> Iterator[Step]:
        training = "pretrain_1" if "units" in self.labels else "finetune"
        for step in steps(self, *which):
            batches: list[Batch] = []

            def load(loading: Iterator[Batch], batches: list[Batch] = batches) -> Iterator[Batch]:
                for batch in loading:
                    batches.append(batch)
                    yield batch

            object.__setattr__(step, "_loading", load(step.load()))
            seen.setdefault(training, []).append(batches)
            yield step

    with logging_kept(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loader, "steps", watched)
        assert main([*workspace.command, *NOISY, "--stop-stage", "30"]) == 0
    return workspace, seen


def told(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    capsys.readouterr()
    assert main(["data", "why", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def drawn(value: Any) -> Any:
    """What `--json` says as the tensor says it."""
    if not isinstance(value, dict):
        return value
    frames = [i for first, end in value["spans"] for i in range(first, end)]
    assert len(frames) == value["count"]
    return frames


@pytest.mark.parametrize("training", ["pretrain_1", "finetune"])
def test_it_tells_what_the_training_saw(
    trained: tuple[Workspace, Seen], training: str, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace, seen = trained
    assert len(seen[training]) == 6
    names: set[str] = set()
    epochs = set()
    for step, batches in enumerate(seen[training]):
        found = told(capsys, workspace.exp, "--training", training, "--step", step)["micro_batches"]
        assert [batch["number"] for batch in found] == [batch.number for batch in batches]
        for one, batch in zip(found, batches, strict=True):
            assert batch.lengths is not None
            assert batch.waves is not None
            rows = one["utterances"]
            assert one["epoch"] == batch.epoch
            assert [row["id"] for row in rows] == batch.ids
            assert [row["num_samples"] for row in rows] == batch.lengths.tolist()
            assert one["padding"] == pytest.approx(1 - float(batch.lengths.sum()) / batch.waves.numel())
            added = {"rir.utterance", "noise.utterance", "mix.utterance"} & set(rows[0]["draws"])
            assert set(rows[0]["draws"]) - added == set(batch.draws) - {"mix.overlap"}  # that is measured
            for name in set(batch.draws) - {"mix.overlap"}:
                values = batch.draws[name]
                is_mask = values.dtype == torch.bool and values.ndim == 2
                expected = [row.nonzero()[:, 0].tolist() for row in values] if is_mask else values.tolist()
                assert [drawn(row["draws"][name]) for row in rows] == expected, name
            names |= set(batch.draws) | added
            epochs.add(batch.epoch)
    assert len(epochs) > 1
    assert names >= {"mask.time", *{"finetune": FINETUNE, "pretrain_1": PRETRAIN}[training]}


FINETUNE = {"speed", "tilt", "volume", "noise.pick", "noise.offset", "noise.snr", "noise.utterance", "mask.feat"} | {
    "rir.pick",
    "rir.utterance",
}
PRETRAIN = {"crop", "mix.pick", "mix.noise", "mix.length", "mix.start", "mix.other", "mix.energy", "mix.utterance"}


@pytest.mark.parametrize(("training", "group"), [("pretrain_1", "mix"), ("finetune", "noise"), ("finetune", "rir")])
def test_it_names_what_was_added(
    trained: tuple[Workspace, Seen], training: str, group: str, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace, _ = trained
    name = "dev" if group == "rir" else "test"
    text = (workspace.system.parent / "data" / name / "text").read_text()
    recordings = sorted(line.split()[0] for line in text.splitlines())
    kinds = set()
    for step in range(6):
        for batch in told(capsys, workspace.exp, "--training", training, "--step", step)["micro_batches"]:
            ids = [row["id"] for row in batch["utterances"]]
            for row in batch["utterances"]:
                draws = row["draws"]
                pick, is_noise = draws[f"{group}.pick"], draws.get(f"{group}.noise", True)
                expected = None if pick < 0 else recordings[pick] if is_noise else ids[pick]
                assert draws[f"{group}.utterance"] == expected
                kinds.add("none" if pick < 0 else "noise" if is_noise else "row")
    assert kinds == {"none", "noise", *(["row"] if group == "mix" else [])}


def test_people_get_a_line_an_utterance(trained: tuple[Workspace, Seen], capsys: pytest.CaptureFixture[str]) -> None:
    workspace, seen = trained
    capsys.readouterr()
    assert main(["data", "why", str(workspace.exp), "--step", "3"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    first, second = seen["finetune"][3]
    assert lines[0][:3] == [f"micro-batch {first.number}", f"epoch {first.epoch}", f"{len(first.ids)} utterances"]
    assert lines[0][-1].startswith("padding ")
    ids = [line[0].strip() for line in lines if line[0].startswith("  ")]
    assert ids == first.ids + second.ids
    speed = float(first.draws["speed"][0])
    assert f"speed {speed:g}" in lines[1]
    assert any("noise none" in line for line in lines)
    assert any(column.startswith("mask.time ") and " in " in column for line in lines for column in line)


def test_it_reads_no_audio_and_works_as_a_command(
    trained: tuple[Workspace, Seen], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, seen = trained
    copy = workspace.copy(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    hidden = workspace.corpus.rename(workspace.corpus.with_name("hidden"))
    try:
        done = speechkit("data", "why", copy.exp, "--step", "5", "--json", cwd=tmp_path)
    finally:
        hidden.rename(workspace.corpus)
    assert (done.code, done.err) == (0, "")
    batches = json.loads(done.out)["micro_batches"]
    assert [[row["id"] for row in b["utterances"]] for b in batches] == [b.ids for b in seen["finetune"][5]]


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (["--step", "6"], 2, "step 6: finetune has 6 steps", "steps are counted from 0: the last one is 5"),
        (["--step", "0", "--training", "pretrain_1x"], 2, "has no training 'pretrain_1x'", "did you mean pretrain_1?"),
        (
            ["--step", "0", "--training", "decode"],
            2,
            "has no training 'decode'",
            "it has pretrain_1, ",
        ),
        (["--step", "-1"], 2, "'-1' is not a whole number", "see speechkit data"),
        (["--step", "0", "--recipe", "nowhere"], 2, "nowhere: no recipe.py there", "give a folder with recipe.py"),
    ],
)
def test_wrong_words_are_a_line_and_a_hint(
    finished: Finished, commands: Commands, words: list[str], code: int, message: str, hint: str
) -> None:
    done = commands.run("data", "why", finished.workspace.exp, *words, code=code)
    assert done.out == ""
    first, second = done.err.splitlines()
    assert first.startswith("speechkit: error: ")
    assert message in first
    assert second.startswith(f"hint: {hint}")


def test_the_recipe_may_lie_elsewhere(finished: Finished, commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/recipe.py").write_text((ROOT / "recipes/wavlm/recipe.py").read_text())
    words = ["data", "why", finished.workspace.exp, "--step", "2", "--training", "pretrain_2"]
    assert commands.run(*words, "--recipe", tmp_path / "mine").out == commands.run(*words).out


def test_what_never_trained_says_so(finished: Finished, commands: Commands, tmp_path: Path) -> None:
    workspace = finished.workspace.copy(tmp_path)
    why = ["data", "why", workspace.exp, "--step", "0"]
    (workspace.exp / ".stages/30_finetune.json").unlink()
    done = commands.run(*why, code=3)
    assert "finetune has not been trained\nhint: run the recipe up to stage 30 first" in done.err
    config = workspace.exp / "config.yaml"
    config.write_text(config.read_text().replace("init: pretrain_2", "init: random"))
    done = commands.run(*why, "--training", "pretrain_1", code=2)
    assert "pretrain_1 takes no part in it: init is " in done.err
    for record in (workspace.exp / ".stages").glob("*.json"):
        record.unlink()
    assert "nothing has been trained in it\nhint: run the recipe first" in commands.run(*why, code=3).err
    done = commands.run("data", "why", workspace.exp.with_name("tinny"), "--step", "0", code=3)
    assert done.err.splitlines()[1] == "hint: did you mean tiny?"


def test_other_settings_or_lists_than_those_of_the_training_are_refused(
    finished: Finished, commands: Commands, tmp_path: Path
) -> None:
    workspace = finished.workspace.copy(tmp_path)
    why = ["data", "why", workspace.exp, "--step", "0"]
    config = workspace.exp / "config.yaml"
    before = config.read_text()
    config.write_text(before.replace("seed: 0", "seed: 7"))
    assert "finetune ran with other settings: seed 0 -> 7\nhint: " in commands.run(*why, code=2).err
    config.write_text(before)
    lists = workspace.exp / "finetune/train.jsonl"
    lists.write_text("".join(lists.read_text().splitlines(keepends=True)[1:]))
    assert f"{lists}: is not what finetune ran with\nhint: " in commands.run(*why, code=3).err
    lists.unlink()
    assert f"{lists}: is gone, finetune ran with it\nhint: " in commands.run(*why, code=3).err
