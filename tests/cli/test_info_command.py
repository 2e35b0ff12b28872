"""`speechkit info` as a user types it."""

from __future__ import annotations

import argparse
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechkit.cli.main import main
from speechkit.models.wavlm.fairseq import make_container
from speechkit.models.wavlm.published import save_hf, save_original
from tests.pipelines.tiny import save_tiny, tiny_wavlm


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_audio_file_is_a_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write("x.wav", np.zeros((8000, 2)), 16000)
    assert main(["info", "x.wav"]) == 0
    assert capsys.readouterr().out == "x.wav\tWAV PCM_16\t16000 Hz\t2 ch\t0.500 s\t8000 samples\t513 kbit/s\n"
    assert main(["info", "x.wav", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_samples"] == 8000


def test_a_model_is_described_whatever_its_form(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_wavlm(conv_norm="layer", eps=1e-5)
    save_tiny(here)
    save_hf(model, "hf")
    save_original(model.encoder, "encoder.pt")
    parameters = sum(p.numel() for p in model.parameters())
    assert main(["info", "tiny model", "hf", "encoder.pt"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line.pop(0) for line in lines] == ["tiny model", "hf", "encoder.pt"]
    ours, hf, original = lines
    assert ours[0] == "kind wavlm with CTC head (speechkit folder)"
    assert hf[0] == "kind wavlm with CTC head (transformers folder)"
    assert original[0] == "kind wavlm (original container)"
    assert ours[1:5] == [f"parameters {parameters / 1e3:.1f} k", "layers 2", "width 32", "symbols 6"]
    assert ours[-1] == hf[-1] == "pickle globals: none"


def test_the_licence_of_a_published_model_is_told(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speechkit.pipelines.inspect.load", lambda *_, **__: tiny_wavlm().encoder)
    for name in ("hubert-base", "hf:facebook/hubert-base-ls960", "facebook/hubert-base-ls960@main"):
        assert main(["info", name]) == 0
        assert "\tlicence Apache-2.0\t" in capsys.readouterr().out


def test_json_holds_settings_and_tensors(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_tiny(here)
    assert main(["info", "tiny model", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["config"]["encoder"]["dim"] == value["width"] == 32
    assert value["keys"]["head.weight"] == [6, 32]


def test_what_a_pickle_names_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    container = make_container(tiny_wavlm(conv_norm="layer").encoder)
    torch.save(container | {"notes": [argparse.Namespace(x=1)]}, "notes.pt")
    assert main(["info", "notes.pt"]) == 0
    assert capsys.readouterr().out.endswith("\tpickle globals: argparse.Namespace\n")


def test_what_would_run_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (eval, ("open('ran', 'w')",))

    torch.save({"model": {}, "cfg": Evil()}, "evil.pt", pickle_module=pickle)
    assert main(["info", "evil.pt"]) == 4
    assert "builtins.eval" in capsys.readouterr().err
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("none.wav", 3, "none.wav: no such file"),
        ("bad.wav", 3, "bad.wav"),
        ("none", 4, "no model 'none'"),
        ("empty", 3, "empty: a folder without config.json"),
        ("bad.pt", 4, "bad.pt"),
    ],
)
def test_what_cannot_be_described_is_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], name: str, code: int, message: str
) -> None:
    Path("empty").mkdir()
    for path in ("bad.wav", "bad.pt"):
        Path(path).write_bytes(b"nothing")
    assert main(["info", name]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err.splitlines()[0]


def test_one_of_several_may_fail(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write("x.wav", np.zeros(800), 16000)
    assert main(["info", "none.wav", "x.wav"]) == 1
    assert capsys.readouterr().out.startswith("x.wav\t")
