"""tokenizers/kmeans on a few seconds of generated audio, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from speechkit.cli.main import main
from speechkit.models import save
from speechkit.models.wavlm.config import WavLMConfig
from speechkit.models.wavlm.model import WavLM
from speechkit.nn.encoder_config import EncoderConfig
from speechkit.stages.units import read_units
from speechkit.tokenizers.kmeans import KMeans

RECIPE = Path(__file__).parents[2] / "tokenizers/kmeans"
PHONES = {"low": 200.0, "mid": 900.0, "high": 3500.0}  # Hz
SECONDS = 0.3  # of each

PREPARE = """
from speechkit.data.kaldi.tables import DataDir
from speechkit.files import write_text

def prepare(corpus_dir, data_dir, *, nj):
    for name in ("train", "test"):
        ids = {path.stem: str(path) for path in sorted((corpus_dir / name).glob("*.wav"))}
        DataDir(wav_scp=ids, utt2spk={id: id.partition("-")[0] for id in ids}).write(data_dir / name)
        if (corpus_dir / name / "phones").exists():
            write_text(data_dir / name / "phones", (corpus_dir / name / "phones").read_text())
"""


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """egs/tones/kmeans with its corpus beside egs: utterances of three tones, whose times only `test` tells."""
    folder = tmp_path / "egs/tones/kmeans"
    folder.mkdir(parents=True)
    (folder.parent / "prepare.py").write_text(PREPARE)
    for name, count in (("train", 4), ("test", 2)):
        (tmp_path / "corpus" / name).mkdir(parents=True)
        ids = [f"{name}{n % 2}-{n}" for n in range(count)]
        lines = [line for n in range(count) for line in write_utterance(tmp_path / "corpus" / name, ids[n], n)]
        if name == "test":
            (tmp_path / "corpus/test/phones").write_text("".join(lines))
    return folder


def write_utterance(folder: Path, id: str, number: int) -> list[str]:
    """Every phone twice, from another one on in each utterance; the lines of its alignment."""
    names = (list(PHONES) * 3)[number : number + 6]
    time = np.arange(round(SECONDS * 16000)) / 16000
    waves = [0.3 * np.sin(2 * np.pi * PHONES[name] * time) for name in names]
    soundfile.write(folder / f"{id}.wav", np.concatenate(waves), 16000)
    return [f"{id} 1 {i * SECONDS:.3f} {SECONDS:.3f} {name}\n" for i, name in enumerate(names)]


def run(system: Path, *words: str) -> int:
    corpus = str(system.parents[2] / "corpus")
    return main(["run", str(RECIPE), "--in", str(system), "--data-dir", corpus, "--conf", "tiny", *words])


def scores(system: Path, tag: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((system / f"exp/{tag}/scores.json").read_text())
    return found


def test_units_of_mfcc_tell_tones_apart_and_the_second_run_does_nothing(
    system: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--set", "test_sets=[test]", "units.clusters=8")
    assert run(system, *words) == 0
    out, err = capsys.readouterr()
    units, rate = read_units(system / "exp/tiny/units")
    assert rate == 50
    assert sorted(units) == ["test0-0", "test1-1", "train0-0", "train0-2", "train1-1", "train1-3"]
    assert all(len(row) in (89, 90) and row.max() < 8 for row in units.values())  # 1.8 s
    score = scores(system, "tiny")
    assert list(score) == ["test"]  # train has no phones
    assert score["test"]["phone_purity"] > 0.9
    assert score["test"]["phones"] == 3
    assert f"test: phone purity {score['test']['phone_purity']:.3f}, cluster purity" in out
    results = (system / "exp/tiny/RESULTS.md").read_text()
    assert "features: MFCC with deltas, one every 20 ms" in results
    assert f"PNMI {score['test']['pnmi']:.3f}" in results

    assert run(system, *words) == 0
    assert capsys.readouterr().err.count("skipped") == err.count("done in") == 8
    assert not (system / "RESULTS.md").exists()
    assert run(system, *words, "--stages", "36") == 0
    assert (system / "RESULTS.md").read_text() == results


def test_units_of_a_layer_of_any_encoder(system: Path) -> None:
    torch.manual_seed(0)
    encoder = EncoderConfig(dim=16, num_layers=2, ffn_dim=16, num_heads=2, position_kernel=8, position_groups=2)
    save(WavLM(WavLMConfig(conv_layers=((16, 10, 160), (16, 4, 4)), encoder=encoder)), system.parent / "encoder")
    words = ("--tag", "layer", "--set", "test_sets=[test]", "encoder=./encoder", "units.layer=1", "units.clusters=4")
    assert run(system, *words) == 0
    kmeans = KMeans.load(system / "exp/layer/kmeans")
    units, rate = read_units(system / "exp/layer/units")
    assert (kmeans.centers.shape, rate) == ((4, 16), 25.0)  # the width and the rate of this encoder
    assert all(len(row) == 45 for row in units.values())
    assert scores(system, "layer")["test"]["frames"] == 2 * 45


def test_an_encoder_that_is_nowhere_is_named(system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(system, "--tag", "path", "--set", "encoder=../gone") == 3
    assert "stage 7 (learn_units) needs ../gone, which no stage makes" in capsys.readouterr().err
    assert run(system, "--tag", "name", "--set", "encoder=wavlm-bas") == 4
    assert "no model 'wavlm-bas'\nhint: did you mean wavlm-base?" in capsys.readouterr().err
