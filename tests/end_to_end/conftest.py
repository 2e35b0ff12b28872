"""A corpus of tones that stand for words, and the WavLM recipe run on it once, through the command line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from speechkit import draws
from speechkit.audio.files import save
from tests.end_to_end.commands import ROOT, Commands, Done, environment, serving

RATE = 16000
WORDS = {"la": 440.0, "mi": 1000.0, "so": 2200.0}  # Hz
SPEAKERS = {"ann": (0.5, 1.0), "bob": (0.3, 1.06)}  # loudness, and what the frequencies are multiplied by
UTTERANCES = 20  # of each speaker

PREPARE = """
from speechkit.data.kaldi.utterances import DataDir

SETS = {"train": range(12), "dev": range(12, 16), "test": range(16, 20)}

def prepare(corpus_dir, data_dir, *, nj, spelling="lower"):
    for name, numbers in SETS.items():
        files = {path.stem.partition("_")[0]: path for path in sorted(corpus_dir.glob("*.wav"))}
        files = {id: path for id, path in files.items() if int(id[4:]) in numbers}
        text = {id: path.stem.partition("_")[2].replace("_", " ") for id, path in files.items()}
        DataDir(
            wav_scp={id: str(path) for id, path in files.items()},
            text={id: words if spelling == "lower" else words.upper() for id, words in text.items()},
            utt2spk={id: id[:3] for id in files},
        ).write(data_dir / name)
"""

CONVS = ", ".join(f"[16, {kernel}, {stride}]" for kernel, stride in ((10, 5), *[(3, 2)] * 4, (2, 2), (2, 2)))
TRAINING = ("max_steps=6", "max_minutes=null", "validate_every=2", "dtype=float32", "log_every=1")
SETTINGS = (
    "min_crop_seconds=0.4",
    f"model.conv_layers=[{CONVS}]",
    *(f"model.encoder.{s}" for s in ("dim=16", "num_layers=2", "ffn_dim=32", "num_heads=2", "position_kernel=8")),
    "model.encoder.position_groups=2",
    "units_1.clusters=8",
    "units_2.clusters=8",
    "tokens.kind=characters",
    *(f"{stage}.train.{s}" for stage in ("pretrain_1", "pretrain_2", "finetune") for s in TRAINING),
)


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """A folder egs/CORPUS/SYSTEM, the corpus beside egs, and the experiment `tiny` in it."""

    system: Path
    corpus: Path

    @property
    def exp(self) -> Path:
        return self.system / "exp/tiny"

    @property
    def command(self) -> list[str]:
        """The words after `speechkit`, as run.sh would say them."""
        words = ["run", ROOT / "recipes/wavlm", "--in", self.system, "--data-dir", self.corpus, "--conf", "tiny"]
        return [str(word) for word in [*words, "--set", *SETTINGS]]

    def copy(self, folder: Path) -> Workspace:
        """The same experiment elsewhere."""
        shutil.copytree(self.system.parent, folder / self.system.parent.name, symlinks=True)
        return Workspace(system=folder / self.system.parent.name / self.system.name, corpus=self.corpus)

    def outputs(self) -> dict[str, bytes]:
        """Every file below data, dump and exp but records, logs and what trainings continue from."""
        places = [self.system.parent / "data", self.system.parent / "dump", self.exp]
        files = [(p.relative_to(self.system.parent), p) for place in places for p in place.rglob("*") if p.is_file()]
        apart = {".stages", "log", "work"}
        hidden = [(n, p) for n, p in files if any(part.startswith(".") for part in n.parts)]
        return {str(n): p.read_bytes() for n, p in files if (n, p) not in hidden and not apart & set(n.parts)}


def say(words: list[str], speaker: str, id: str) -> np.ndarray:
    """The words as tones with pauses and a little noise, float32 `(T,)`."""
    loudness, factor = SPEAKERS[speaker]
    time = np.arange(RATE // 4) / RATE
    pause = np.zeros(RATE // 10)
    tones = [loudness * np.sin(2 * np.pi * WORDS[word] * factor * time) * np.hanning(len(time)) for word in words]
    wave = np.concatenate([pause, *(part for tone in tones for part in (tone, pause))])
    noise = draws.normal(draws.words(0, 0, "test", [id], 2 * len(wave)))[0]
    return (wave + 0.003 * noise[: len(wave)]).astype(np.float32)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files `ann-00_la_mi.wav`: one to three words each, 0.45 to 1.15 s."""
    folder = tmp_path_factory.mktemp("corpus")
    names = list(WORDS)
    for voice, speaker in enumerate(SPEAKERS):
        for number in range(UTTERANCES):
            words = [names[(number // 3 + place * (1 + number % 2) + voice) % 3] for place in range(1 + number % 3)]
            id = f"{speaker}-{number:02d}"
            save(folder / f"{id}_{'_'.join(words)}.wav", say(words, speaker, id), RATE)
    return folder


@pytest.fixture(scope="session")
def untouched(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Workspace:
    """A workspace in which nothing has run yet; to be copied, not used."""
    system = tmp_path_factory.mktemp("my egs") / "tones/wavlm"
    system.mkdir(parents=True)
    (system.parent / "prepare.py").write_text(PREPARE)
    return Workspace(system=system, corpus=corpus)


def speechkit(*words: object, cwd: Path) -> Done:
    """Run a command line as users do, in a new interpreter."""
    command = [sys.executable, "-m", "speechkit", *map(str, words)]
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, check=False)
    return Done(code=done.returncode, out=done.stdout, err=done.stderr)


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A workspace in which all stages have run, and what they said; to be copied, not changed."""

    workspace: Workspace
    first: Done

    @property
    def texts(self) -> dict[str, str]:
        """What the model reads in the test set, by utterance."""
        lines = (self.workspace.exp / "decode/test/text").read_text().splitlines()
        return {id: text for id, _, text in (line.partition(" ") for line in lines)}


@pytest.fixture(scope="session")
def finished(untouched: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The recipe, run through the command line."""
    workspace = untouched.copy(tmp_path_factory.mktemp("finished egs"))
    first = speechkit(*workspace.command, cwd=workspace.system)
    assert first.code == 0, first.err
    return Finished(workspace=workspace, first=first)


@pytest.fixture
def workspace(finished: Finished, tmp_path: Path) -> Workspace:
    """A copy of the finished experiment, to do things to."""
    return finished.workspace.copy(tmp_path)


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """Commands that start at once; see there."""
    with serving(tmp_path_factory.mktemp("commands")) as server:
        yield server
