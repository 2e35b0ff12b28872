"""Settings, corpora, checkpoints and disks that are wrong, given to `run` with the WavLM recipe."""

from __future__ import annotations

import json
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.audio.test_bad_audio import BAD
from tests.bad_input.conftest import Typed, content
from tests.end_to_end.commands import ROOT, Commands, Done
from tests.end_to_end.conftest import Workspace, corpus, untouched  # noqa: F401 they are fixtures
from tests.end_to_end.test_wavlm_recipe import ran


@pytest.fixture
def workspace(untouched: Workspace, tmp_path: Path) -> Workspace:  # noqa: F811
    """An experiment that has not begun, with a corpus of its own."""
    own = untouched.copy(tmp_path / "egs")
    shutil.copytree(own.corpus, tmp_path / "corpus")
    return Workspace(system=own.system, corpus=tmp_path / "corpus")


def failed(done: Done, says: str) -> None:
    """The last lines are one error and at most one hint, and there is no traceback."""
    lines = done.err.splitlines()
    errors = [n for n, line in enumerate(lines) if line.startswith("speechkit: error: ")]
    assert len(errors) == 1, done.err
    assert [line.partition(":")[0] for line in lines[errors[0] :]] in (["speechkit"], ["speechkit", "hint"])
    assert re.search(says, lines[errors[0]]), lines[errors[0]]
    assert "Traceback" not in done.err
    assert "internal error" not in done.err


def nothing_left(workspace: Workspace) -> None:
    leftovers = [path.relative_to(workspace.system.parent) for path in workspace.system.parent.rglob("*.tmp-*")]
    assert not [path for path in leftovers if "work" not in path.parts]  # a training folder survives interruption
    assert not list(workspace.system.parent.rglob("*.lock"))


# Settings ----------------------------------------------------------------------------------------------------------

FILES = [
    ("sede: 1\n", r"mine\.yaml:1: unknown setting 'sede'"),
    ("\nmodel:\n  encoder:\n    dims: 4\n", r"mine\.yaml:4: unknown setting 'model\.encoder\.dims'"),
    ("seed: many\n", r"mine\.yaml:1: seed: expected int, found 'many'"),
    ("seed: 1.5\n", r"mine\.yaml:1: seed: expected int, found '1\.5'"),
    ("seed: [1]\n", r"mine\.yaml:1: seed: "),
    ("model: 3\n", r"mine\.yaml:1: model: "),
    ("test_sets: test\n", r"mine\.yaml:1: test_sets: "),
    ("test_sets: [[a]]\n", r"mine\.yaml:1: test_sets"),
    ("tokens:\n  kind: syllables\n", r"mine\.yaml:2: tokens\.kind: "),
    ("finetune: {augment: {speed: [0.9, fast]}}\n", r"mine\.yaml:1: finetune\.augment\.speed"),
    ("model: {conv_layers: [[16, 10]]}\n", r"mine\.yaml:1: model\.conv_layers"),
    ("model: {encoder: {num_heads: 5}}\n", r"mine\.yaml:1: model\.encoder: "),
    ("model: {encoder: {num_heads: 0}}\n", r"mine\.yaml:1: model\.encoder: "),
    ("seed: 1\nseed: 2\n", r"mine\.yaml:2: "),
    ("seed: ${nothing}\n", r"mine\.yaml:1: "),
    ("seed: ${oc.env:HOME}\n", r"mine\.yaml:1: "),
    ("seed: ${seed}\n", r"mine\.yaml:1: |seed"),
    ("train_set: !!python/object/apply:os.system ['touch ran']\n", r"mine\.yaml:1: "),
    ("a: &a [*a]\n", r"mine\.yaml"),
    ("- seed\n", r"mine\.yaml:1: expected 'key: value' lines"),
    ("seed: [1\n", r"mine\.yaml:2: not YAML"),
    ("seed: \x00\n", r"mine\.yaml"),
    ("seed: " + "[" * 5000 + "\n", r"mine\.yaml"),
]


@pytest.mark.parametrize(("text", "says"), FILES)
def test_a_settings_file_is_refused(text: str, says: str, typed: Typed) -> None:
    Path("mine.yaml").write_text(text)
    Path("x/wavlm").mkdir(parents=True)
    said = typed.refused("run", ROOT / "recipes/wavlm", "--in", "x/wavlm", "--conf", "mine.yaml", code=2)
    assert re.search(says, said.splitlines()[0]), said
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("seed", "--set seed: expected key.path=value"),
        ("=1", "--set =1: expected key.path=value"),
        ("seed=", "seed: expected int"),
        ("sede=1", "--set sede: unknown setting 'sede'"),
        ("model.encoder.dim=[1]", "--set model.encoder.dim"),
        ("model=3", "--set model"),
        ("seed.a=1", "seed"),
        ("test_sets=[a", "--set test_sets=[a: not a YAML value"),
        ("train_set=!!python/name:os.system", "--set train_set"),
        ("..=1", "--set "),
        ("test_sets=[]", "test_sets: none is named"),
        ("init=pretrian_2", "init: 'pretrian_2' is neither"),
        ("min_seconds=nan", "min_seconds: expected float"),
        ("decode.beam_size=0", "beam_size is 0, it must be at least 1"),
        ("decode.batch_seconds=0", "batch_seconds is 0.0, it must be at least 0.1"),
        ("decode.lm.order=1", "order is 1, KenLM reads models of at least 2 words"),
        ("decode.lm.order=7", "order is 7, it must be from 0 to 6"),
        ("decode.lm.lm_weight=-1", "lm_weight is -1.0, it must be at least 0"),
        ("units_1.clusters=0", "clusters is 0"),
        ("units_1.frame_shift_ms=0", "frame_shift_ms is 0.0"),
        ("units_2.layer=99", "units_2.layer is 99, the model has 3"),
        ("pretrain_1.mask.length=0", "length is 0"),
        ("pretrain_1.mask.prob=5", "prob is 5.0, it must be from 0 to 1"),
        ("finetune.train.max_steps=0", "max_steps is 0"),
        ("finetune.train.learning_rate=-1", "learning_rate is -1.0, it must be positive"),
        ("finetune.train.schedule.warmup=-1", "warmup is -1.0"),
        ("finetune.augment.speed=[0]", "factors must be from 0.1 to 10"),
        ("finetune.augment.noise_prob=1", "no noise_set"),
        ("finetune.augment.reverb_prob=1", "no rir_set"),
        ("finetune.workers=-1", "workers is -1"),
        ("finetune.batch.batch_seconds=0", "batch_seconds is 0.0"),
        ("finetune.batch.max_cuts=0", "max_cuts is 0"),
        ("model.encoder.layer_drop=2", "layer_drop is 2.0"),
    ],
)
def test_a_word_of_set_is_refused(word: str, says: str, typed: Typed) -> None:
    Path("x/wavlm").mkdir(parents=True)
    said = typed.refused("run", ROOT / "recipes/wavlm", "--in", "x/wavlm", "--conf", "tiny", "--set", word, code=2)
    assert says in said.splitlines()[0]


def test_a_settings_file_that_cannot_be_read_is_refused(typed: Typed) -> None:
    Path("x/wavlm").mkdir(parents=True)
    Path("folder.yaml").mkdir()
    Path("latin.yaml").write_bytes("init: Müller\n".encode("latin-1"))
    for name in ("none.yaml", "folder.yaml", "latin.yaml", "none", "tny"):
        said = typed.refused("run", ROOT / "recipes/wavlm", "--in", "x/wavlm", "--conf", name, code=2)
        assert name in said.splitlines()[0]


# Corpora -----------------------------------------------------------------------------------------------------------

PREPARES = [
    ("def prepare(", 1, "SyntaxError"),
    ("import nothing_of_that_name", 1, "ModuleNotFoundError"),
    ("x = 1", 1, "AttributeError"),
    ("def prepare(corpus_dir, data_dir, *, nj): raise ValueError('no corpus')", 1, "ValueError: no corpus"),
    ("def prepare(corpus_dir, data_dir, *, nj): pass", 1, "it made no data"),
    ("def prepare(corpus_dir, data_dir, *, nj): data_dir.mkdir()", 3, "data/train"),
    (
        "from speechkit.errors import InputError\n"
        "def prepare(corpus_dir, data_dir, *, nj): raise InputError('tones not found: pass --data-dir DIR')",
        3,
        "tones not found",
    ),
]


@pytest.mark.parametrize(("text", "code", "says"), PREPARES)
def test_a_prepare_that_fails_is_told_in_a_line(
    text: str, code: int, says: str, workspace: Workspace, commands: Commands
) -> None:
    (workspace.system.parent / "prepare.py").write_text(text)
    done = commands.run(*workspace.command, "--stop-stage", "2", code=code)
    lines = [line for line in done.err.splitlines() if not line.startswith("  ")]
    assert sum(line.startswith("speechkit: error: ") for line in lines) == 1
    assert says in next(line for line in lines if line.startswith("speechkit: error: "))
    nothing_left(workspace)


def test_without_a_prepare_it_says_so(workspace: Workspace, commands: Commands) -> None:
    (workspace.system.parent / "prepare.py").unlink()
    failed(
        commands.run(*workspace.command, code=3), r"stage 1 \(prepare_data\) needs prepare\.py, which no stage makes"
    )
    assert list(workspace.system.iterdir()) == []


def test_a_corpus_that_is_not_there_is_refused(workspace: Workspace, commands: Commands) -> None:
    words = [word if word != str(workspace.corpus) else "nowhere" for word in workspace.command]
    failed(commands.run(*words, code=3), "--data-dir nowhere: no such folder")
    assert list(workspace.system.iterdir()) == []


IN_HEADER = [bad for bad in BAD if bad.name not in ("cut.flac", "start.flac", "flipped.flac", "nan.wav", "inf.wav")]


@pytest.mark.parametrize("bad", IN_HEADER[::3], ids=lambda bad: bad.name)
def test_a_recording_that_cannot_be_read_stops_the_run_by_file_and_line(
    bad: object, workspace: Workspace, commands: Commands, tmp_path: Path
) -> None:
    victim = next(workspace.corpus.glob("ann-05_*"))
    victim.write_bytes(bad.make(tmp_path))  # type: ignore[attr-defined]
    done = commands.run(*workspace.command, code=3)
    failed(done, r"stage 2 \(validate_data\): 1 errors? in the data, the first: .*data/train/wav\.scp:6: E163 ")
    assert ran(done.err) == [1, 2]
    nothing_left(workspace)


def broken(path: Path) -> None:
    """A recording whose header is good and whose samples are not."""
    samples = soundfile.read(path, dtype="float32")[0]
    samples[len(samples) // 2] = np.nan
    soundfile.write(path, samples, 16000, subtype="FLOAT")


def test_a_recording_that_breaks_off_is_silence_in_training_and_named_in_the_log(
    workspace: Workspace, commands: Commands
) -> None:
    broken(next(workspace.corpus.glob("ann-05_*")))
    done = commands.run(*workspace.command)
    assert done.out.startswith("WER ")
    bad = workspace.exp / "log/bad_cuts.jsonl"
    assert "ann-05" in {json.loads(line)["id"] for line in bad.read_text().splitlines()}


def test_too_many_recordings_that_break_off_stop_the_run(workspace: Workspace, commands: Commands) -> None:
    for path in workspace.corpus.glob("*-0?_*"):
        broken(path)
    done = commands.run(*workspace.command, code=3)
    failed(done, r"stage \d+ \(\w+\): .*cannot be read")
    nothing_left(workspace)


def test_a_test_recording_that_breaks_off_stops_decoding_and_is_named(workspace: Workspace, commands: Commands) -> None:
    broken(next(workspace.corpus.glob("bob-17_*")))
    done = commands.run(*workspace.command, code=3)
    failed(done, r"stage 32 \(decode\): .*bob-17_.*holds NaN")
    assert not list((workspace.exp / "decode").rglob("*"))
    nothing_left(workspace)


@pytest.mark.parametrize(
    ("settings", "code", "says"),
    [
        (["min_seconds=50"], 3, r"stage 4 \(filter_lengths\): .*every utterance is outside 50\.0 to"),
        (["min_crop_seconds=50"], 3, r"stage 4 \(filter_lengths\): .*every utterance is outside 50\.0 to"),
        (["test_sets=[tset]"], 3, r"needs data/tset|data/tset"),
        (["train_set=nothing"], 3, "data/nothing"),
        (["units_1.clusters=100000"], 3, r"stage 7 \(learn_units_1\): .*100000"),
        (["tokens.kind=sentencepiece", "tokens.size=5000"], 3, r"stage 5 \(learn_tokens\): .*5000"),
        (["init=nowhere/model"], 3, r"nowhere/model"),
        (["noise_set=noise"], 3, r"data/noise"),
    ],
)
def test_settings_that_the_data_do_not_allow(
    settings: list[str], code: int, says: str, workspace: Workspace, commands: Commands
) -> None:
    done = commands.run(*workspace.command, *settings, code=code)
    failed(done, says)
    nothing_left(workspace)


# Checkpoints and locks ---------------------------------------------------------------------------------------------

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "model.safetensors": lambda b: b[:-5] + bytes([b[-5] ^ 1]) + b[-4:],
    "optimizer.safetensors": lambda b: b[: len(b) // 2],
    "state.json": lambda b: b"",
}


def test_damaged_checkpoints_are_passed_over(workspace: Workspace, commands: Commands) -> None:
    words = [*workspace.command, "--stop-stage", "10"]
    commands.run(*words)
    good = {n: c for n, c in workspace.outputs().items() if "pretrain_1/model" in n}
    record = workspace.exp / ".stages/10_pretrain_1.json"
    checkpoints = sorted((workspace.exp / "pretrain_1/work/checkpoints").iterdir())
    assert len(checkpoints) == 2
    for name, change in DAMAGES.items():
        log = workspace.exp / "log/10_pretrain_1.log"
        log.unlink()
        record.write_text(json.dumps({**json.loads(record.read_text()), "status": "partial"}))
        path = checkpoints[-1] / name
        path.write_bytes(change(path.read_bytes()))
        done = commands.run(*words)
        assert "stage 10 (pretrain_1): goes on" in done.err
        assert f"{checkpoints[-1]} is damaged" in log.read_text()
        assert {n: workspace.outputs()[n] for n in good} == good


def test_an_output_that_was_damaged_is_made_again(workspace: Workspace, commands: Commands) -> None:
    words = [*workspace.command, "--stop-stage", "8"]
    commands.run(*words)
    good = workspace.outputs()
    for path in (workspace.exp / "units_1/kmeans/model.safetensors", workspace.system.parent / "data/train/text"):
        path.write_bytes(path.read_bytes()[:-20])
        done = commands.run(*words)
        assert ran(done.err)[0] in (1, 7)
        assert workspace.outputs() == good


@pytest.mark.parametrize("lock", ["", "not json", "{}", '{"pid": "x"}', "[]", "\xff"])
def test_a_lock_that_makes_no_sense_does_not_keep_anybody_out_for_ever(
    lock: str, workspace: Workspace, commands: Commands
) -> None:
    import os

    workspace.exp.mkdir(parents=True)
    path = workspace.exp / ".lock"
    path.write_bytes(lock.encode("latin-1"))
    os.utime(path, (0, 0))
    done = commands.run(*workspace.command, "--stop-stage", "1", code=None)
    assert done.code == 0, done.err
    assert not path.exists()


def test_the_lock_of_another_machine_is_kept_and_named(workspace: Workspace, commands: Commands) -> None:
    workspace.exp.mkdir(parents=True)
    owner = {"host": f"not-{socket.gethostname()}", "boot_id": "x", "pid": 1, "user": "ann", "started": "10:02"}
    (workspace.exp / ".lock").write_text(json.dumps(owner))
    done = commands.run(*workspace.command, code=75)
    failed(done, "exp/tiny is in use by ann@not-.* pid 1 since 10:02")
    assert done.err.splitlines()[-1] == f"hint: if that run is gone, delete {workspace.exp / '.lock'}"
    assert (workspace.exp / ".lock").exists()


# Outputs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["wavlm/exp", "wavlm/exp/tiny", "dump"])
def test_a_file_where_a_folder_should_be_is_refused(name: str, workspace: Workspace, commands: Commands) -> None:
    path = workspace.system.parent / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine\n")
    done = commands.run(*workspace.command, "--stop-stage", "3", code=5)
    failed(done, "cannot write")
    assert path.read_text() == "mine\n"
    nothing_left(workspace)


@pytest.mark.slow
def test_a_disk_that_gets_full_stops_every_stage_cleanly(
    workspace: Workspace, commands: Commands, tmp_path: Path
) -> None:
    stopped: dict[int, int] = {}
    for max_bytes in (3000, 8000, 64_000, 256_000):
        done = commands.run(*workspace.command, code=None, max_bytes=max_bytes)
        where = f"{max_bytes} bytes: {done.err}"
        if done.code == 0:
            break
        assert done.code == 5, where
        failed(done, "cannot write|File too large")
        stopped[(ran(done.err) or [0])[-1]] = max_bytes
        nothing_left(workspace)
        for path, kept in content(workspace.exp).items():
            if kept and path.suffix == ".json":
                assert json.loads(kept), where
    assert len(stopped) >= 3
    commands.run(*workspace.command)
    assert ran(commands.run(*workspace.command).err) == []
