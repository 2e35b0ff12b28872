"""The first day of a user: recordings read with a model that the recipe trained, or that others published."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

import speechkit
from speechkit.audio.files import read, save
from speechkit.models import load
from speechkit.models.wavlm.published import save_hf
from tests.end_to_end.commands import Commands, Order, environment
from tests.end_to_end.conftest import RATE, Finished, Workspace, say
from tests.end_to_end.conftest import speechkit as typed
from tests.end_to_end.test_wavlm_recipe import states


@pytest.fixture(scope="module")
def model(finished: Finished) -> Path:
    """The folder of the experiment."""
    return finished.workspace.exp


@pytest.fixture
def here(finished: Finished, tmp_path: Path) -> Path:
    """A folder with spaces in its name and the test set's recordings in it."""
    folder = tmp_path / "my first recordings"
    folder.mkdir()
    for path in finished.workspace.corpus.iterdir():
        if path.name.partition("_")[0] in finished.texts:
            (folder / f"{path.name.partition('_')[0]}.wav").write_bytes(path.read_bytes())
    return folder


def texts(folder: Path) -> dict[str, str]:
    """The txt files of a folder, a line a segment, as one line each."""
    return {path.stem: " ".join(path.read_text().split()) for path in sorted(folder.glob("*.txt"))}


# Models ------------------------------------------------------------------------------------------------------------


def test_without_a_model_it_names_one_to_fetch_and_one_that_the_demo_trains(here: Path) -> None:
    done = typed("transcribe", "ann-16.wav", cwd=here)
    assert (done.code, done.out) == (4, "")
    first, hint = done.err.splitlines()
    assert first.startswith("speechkit: error: no model given")
    assert hint.startswith("hint: -m hf:")
    assert "`make demo`" in hint
    assert "-m egs/mini/wavlm/exp/tiny" in hint


def test_the_experiment_is_a_model(here: Path, model: Path, finished: Finished) -> None:
    done = typed("transcribe", "ann-16.wav", "-m", model, cwd=here)
    assert (done.code, done.err) == (0, "")
    assert done.out.split() == finished.texts["ann-16"].split() != []


def test_a_folder_gives_the_texts_that_the_recipe_decoded(
    here: Path, model: Path, finished: Finished, commands: Commands
) -> None:
    done = commands.run("transcribe", ".", "-m", model, "-o", "texts", cwd=here)
    assert texts(here / "texts") == finished.texts
    assert "8 files · 8 ok · 0:00:0" in done.err
    assert done.out == ""


def test_the_same_objects_come_out_in_python(here: Path, model: Path, finished: Finished) -> None:
    found = speechkit.transcribe([here / f"{id}.wav" for id in finished.texts], model)
    assert [transcript.text.split() for transcript in found] == [text.split() for text in finished.texts.values()]
    assert all(0 <= w.start < w.end <= t.duration_s and 0 < w.probability <= 1 for t in found for w in t.words)


def test_a_published_folder_made_of_it_reads_the_same(
    here: Path, model: Path, finished: Finished, commands: Commands
) -> None:
    save_hf(load(model), here / "hf model")
    assert (here / "hf model/vocab.json").is_file()
    commands.run("transcribe", ".", "-m", "hf model", "-o", "texts", "-q", cwd=here)
    assert texts(here / "texts") == finished.texts
    assert commands.run("info", "hf model", cwd=here).out.startswith("kind wavlm with CTC head (transformers folder)")


@pytest.mark.filterwarnings("ignore")
def test_a_folder_that_transformers_wrote_reads_as_transformers_does(
    here: Path, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from speechkit.compat import load_torchaudio

    load_torchaudio()  # transformers imports it
    transformers = pytest.importorskip("transformers")
    import torch

    symbols = ["<pad>", "|", "L", "A", "M", "I", "S", "O"]
    (here / "vocab.json").write_text(json.dumps({symbol: number for number, symbol in enumerate(symbols)}))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(here / "vocab.json", unk_token="<pad>", pad_token="<pad>")
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    processor = transformers.Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer)
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, conv_dim=[16] * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, initializer_range=0.5, vocab_size=len(symbols),
        do_stable_layer_norm=True, feat_extract_norm="layer", pad_token_id=0,
    )  # fmt: skip
    network = transformers.Wav2Vec2ForCTC(config).eval()
    network.save_pretrained(here / "theirs")
    processor.save_pretrained(here / "theirs")
    done = commands.run("transcribe", "ann-16.wav", "bob-19.wav", "-m", "theirs", "--jsonl", cwd=here)
    found = [json.loads(line)["text"] for line in done.out.splitlines()]
    for name, text in zip(("ann-16.wav", "bob-19.wav"), found, strict=True):
        inputs = processor(soundfile.read(here / name)[0], sampling_rate=RATE, return_tensors="pt")
        with torch.no_grad():
            ids = network(**inputs).logits.argmax(-1)
        assert text.split() == processor.batch_decode(ids)[0].split() != []


# Recordings --------------------------------------------------------------------------------------------------------


def test_a_pipe_on_standard_input_reads_as_the_file(
    here: Path, model: Path, finished: Finished, commands: Commands
) -> None:
    command = f'cat ann-17.wav | "{sys.executable}" -m speechkit transcribe - -m "{model}" -f json'
    done = subprocess.run(
        ["bash", "-c", command], cwd=here, env=environment(), capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["text"].split() == finished.texts["ann-17"].split()
    assert done.stderr == ""


def test_telephone_stereo_is_read_and_v_says_what_was_done(here: Path, model: Path, commands: Commands) -> None:
    audio = read(here / "ann-16.wav").samples[0]
    narrow = audio.reshape(-1)[: len(audio) // 2 * 2].reshape(-1, 2).mean(1)
    save(here / "call.wav", np.stack([narrow, narrow]), 8000)
    save(here / "mono.wav", narrow, 8000)
    done = commands.run("transcribe", "call.wav", "-m", model, "-v", cwd=here)
    assert "call.wav: 2 channels, averaged" in done.err
    assert "call.wav: resampled from 8000 to 16000 Hz" in done.err
    assert "device " in done.err
    assert done.out != ""
    assert commands.run("transcribe", "mono.wav", "-m", model, cwd=here).out == done.out
    assert commands.run("transcribe", "call.wav", "-m", model, cwd=here).err == ""


def test_the_text_is_the_same_whatever_the_batch(here: Path, model: Path, commands: Commands) -> None:
    found = []
    for seconds in ("1", "3.5", "120"):
        words = ["transcribe", ".", "-m", model, "-o", seconds, "-f", "txt,ctm", "-q", "--batch-seconds", seconds]
        commands.run(*words, cwd=here)
        lines = {p.name: p.read_text().splitlines() for p in (here / seconds).glob("[ab]*")}
        found.append({name: [line.split()[:5] for line in some] for name, some in lines.items()})  # times, no scores
    assert len(found[0]) == 16
    assert found[0] == found[1] == found[2]


def test_json_lines_are_all_that_goes_to_standard_output(here: Path, model: Path, commands: Commands) -> None:
    (here / "cut.wav").write_bytes((here / "ann-16.wav").read_bytes()[:9000])
    (here / "bad.wav").write_bytes(b"no sound")
    done = commands.run("transcribe", ".", "-m", model, "--jsonl", "-v", code=1, cwd=here)
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["input"] for row in rows] == sorted(path.name for path in here.iterdir())
    assert [row["input"] for row in rows if not row["ok"]] == ["bad.wav"]
    assert "the file holds" in next(row for row in rows if row["input"] == "cut.wav")["warnings"][0]


def test_words_are_aligned_within_the_recording(here: Path, model: Path, commands: Commands) -> None:
    (here / "said.txt").write_text("la so\nmi\n")
    out = commands.run("align", "ann-17.wav", "said.txt", "-m", model, cwd=here).out
    rows = [line.split() for line in out.splitlines()]
    assert [row[4] for row in rows] == ["la", "so", "mi"]
    ends = [float(row[2]) + float(row[3]) for row in rows]
    assert ends == sorted(ends)
    assert ends[-1] <= soundfile.info(here / "ann-17.wav").duration + 1e-3


# Interruptions -----------------------------------------------------------------------------------------------------


def test_a_folder_run_killed_again_and_again_ends_with_the_outputs_of_an_undisturbed_one(
    here: Path, model: Path, commands: Commands
) -> None:
    words = ["transcribe", here, "-m", model, "-f", "txt,json", "-q", "--batch-seconds", "1", "-o"]
    commands.run(*words, here / "undisturbed")
    drawn, out, kills = random.Random("transcribe"), here / "out", 0
    for _ in range(40):
        order = Order(below=str(out), touch=drawn.randint(2, 40))
        done = commands.run(*words, out, "--resume", code=None, order=order)
        if done.code == 0:
            break
        assert done.code == -signal.SIGKILL, done.err
        kills += 1
        for path in out.glob("*.json"):
            assert json.loads(path.read_text())["text"] is not None
    assert kills > 2
    commands.run(*words, out, "--resume")
    names = sorted(p.name for p in (here / "undisturbed").iterdir())
    assert sorted(p.name for p in out.iterdir()) == names
    for name in names:
        if not name.startswith("."):
            assert (out / name).read_bytes() == (here / "undisturbed" / name).read_bytes()


def test_ctrl_c_in_transcribe(here: Path, model: Path, commands: Commands) -> None:
    out = here / "out"
    words = ["transcribe", here, "-m", model, "-o", out, "--batch-seconds", "1", "--no-progress"]
    done = commands.run(*words, code=130, order=Order(below=str(out), touch=30, number=signal.SIGINT))
    assert done.err == "speechkit: interrupted\n"
    assert done.out == ""
    assert not list(out.glob(".*.tmp-*"))
    assert not (out / ".speechkit.lock").exists()
    assert 0 < len(list(out.glob("*.txt"))) < 8
    commands.run(*words, "--resume")
    assert len(list(out.glob("*.txt"))) == 8


LONG = "pretrain_1.train.max_steps=1000000"


def interrupted(
    commands: Commands, workspace: Workspace, number: int, rows: Callable[[], int], words: list[str]
) -> tuple[int, str]:
    """Start a training, send it a signal once it has made three more steps, and give its code and what it said."""
    running = commands.start(*words)
    first = rows()
    running.until("third step", lambda: rows() >= first + 3)
    running.send(number)
    done = running.wait()
    assert done.out == ""
    return done.code, done.err


def test_ctrl_c_in_training_writes_a_checkpoint_from_which_the_same_command_goes_on(
    untouched: Workspace, tmp_path: Path, commands: Commands
) -> None:
    workspace = untouched.copy(tmp_path)
    words = [*workspace.command, LONG, "pretrain_1.train.validate_every=1000000"]
    work = workspace.exp / "pretrain_1/work"

    def rows() -> int:
        metrics = work / "metrics.jsonl"
        return metrics.read_text().count("\n") if metrics.exists() else 0

    reached = [0]
    for number, code, name in (
        (signal.SIGINT, 130, "Ctrl-C"),
        (signal.SIGTERM, 143, "SIGTERM"),
        (signal.SIGUSR1, 0, "SIGUSR1"),
    ):
        found, said = interrupted(commands, workspace, number, rows, words)
        assert found == code
        lines = said.splitlines()
        assert f"{name}: stopping at the next safe point" in said
        assert "Traceback" not in said
        assert lines[-1].startswith("next: speechkit run ")
        assert lines[-1].endswith(" --stage 10")
        assert f"stage 10 (pretrain_1): {'goes on' if reached[-1] else 'begins'} (" in said
        assert states(commands, workspace, LONG, "pretrain_1.train.validate_every=1000000")[10] == "partial"
        reached.append(max(int(path.name.rpartition("-")[2]) for path in (work / "checkpoints").iterdir()))
        assert not (workspace.exp / ".lock").exists()
        assert not list(workspace.system.parent.rglob("*.tmp-*"))
    assert reached == sorted(set(reached))
    steps = [json.loads(line)["step"] for line in (work / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, reached[-1] + 1))


def test_ctrl_c_in_another_stage_ends_it_at_once(untouched: Workspace, tmp_path: Path, commands: Commands) -> None:
    workspace = untouched.copy(tmp_path)
    words = [*workspace.command, "--stop-stage", "3"]
    order = Order(below=str(tmp_path), stage="03_index_audio", touch=20, number=signal.SIGINT)
    done = commands.run(*words, code=130, order=order)
    assert done.err.splitlines()[-1] == "speechkit: interrupted"
    assert not list((workspace.system.parent / "dump").rglob("*.jsonl"))
    assert not list(workspace.system.parent.rglob("*.tmp-*"))
    assert "stage 3 (index_audio): begins" in commands.run(*words).err


def test_a_reader_that_leaves_ends_the_command_silently(here: Path, model: Path) -> None:
    samples = np.concatenate([say(["la", "mi", "so"], "ann", f"x{n}") for n in range(20)])
    for number in range(30):  # more than a pipe holds
        save(here / f"long-{number}.wav", samples, RATE)
    command = (
        f'"{sys.executable}" -m speechkit transcribe . -m "{model}" --jsonl -q | head -1; echo "${{PIPESTATUS[0]}}"'
    )
    done = subprocess.run(
        ["bash", "-c", command], cwd=here, env=environment(), capture_output=True, text=True, check=True
    )
    first, code = done.stdout.splitlines()
    assert json.loads(first)["input"] == "ann-16.wav"
    assert code == "141"
    assert done.stderr == ""


# The command itself ------------------------------------------------------------------------------------------------


def cpu_seconds(*words: str, times: int) -> tuple[float, str]:
    """The processor time of a Python command, the least of several, and what it said on standard error."""
    spent = []
    for _ in range(times):
        process = subprocess.Popen(
            [sys.executable, *words], env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stderr.close()
        assert process.returncode == 0
        spent.append(usage.ru_utime + usage.ru_stime)
    return min(spent), said


def test_help_imports_neither_torch_nor_numpy_and_takes_under_half_the_time_of_importing_torch() -> None:
    for words in (["--help"], ["transcribe", "--help"], ["run", "--help"], ["data", "--help"], ["eval", "--help"]):
        seconds, said = cpu_seconds("-X", "importtime", "-m", "speechkit", *words, times=2)
        imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in said.splitlines()}
        assert "argparse" in imported
        assert not imported & {"torch", "transformers", "lhotse"}, words
        if words == ["--help"]:
            assert "numpy" not in imported
            torch_seconds, _ = cpu_seconds("-c", "import torch", times=2)
            assert seconds < 0.5 * torch_seconds


def test_reading_with_a_model_does_not_import_a_compiler(here: Path, model: Path) -> None:
    words = ["-X", "importtime", "-m", "speechkit", "transcribe", here / "ann-16.wav", "-m", model]
    _, said = cpu_seconds(*map(str, words), times=1)
    imported = {line.rpartition("|")[2].strip() for line in said.splitlines()}
    assert "torch" in imported
    assert not imported & {"torch._dynamo", "sympy", "matplotlib", "transformers"}  # each takes up to a second
