from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch

import speechkit
from speechkit.checkpoints.hub import HubId
from speechkit.errors import ModelError
from speechkit.models import PUBLISHED, load, save
from speechkit.models.wavlm.config import PRESETS
from speechkit.models.wavlm.heads import UnitHead
from speechkit.models.wavlm.published import save_hf, save_original
from tests.models.hub_cache import COMMIT, empty_hub, lay
from tests.models.wavlm import tiny

MAKERS = {
    "encoder": tiny.encoder,
    "units": lambda: tiny.predictor(head=UnitHead(embedding_dim=12, target_glu=True)),
    "ctc": lambda: tiny.recognizer(size="large"),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_our_folders_come_back_as_they_went(kind: str, tmp_path: Path) -> None:
    model = MAKERS[kind]()
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    assert type(again) is type(model)
    assert not again.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    encoders = [m if kind == "encoder" else m.encoder for m in (model, again)]
    assert encoders[0].config == encoders[1].config
    if kind == "ctc":
        assert (again.vocabulary, again.dropout.p) == (model.vocabulary, model.dropout.p)
    if kind == "units":
        assert (again.num_classes, again.settings) == (model.num_classes, model.settings)
    assert "parameters" in (tmp_path / "model/card.md").read_text()


def test_other_networks_have_no_folder_form(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Linear"):
        save(torch.nn.Linear(2, 2), tmp_path / "model")


def test_published_forms_are_recognized_by_what_they_are(tmp_path: Path) -> None:
    model = tiny.recognizer()
    save_hf(model, tmp_path / "folder")
    save_original(model, tmp_path / "file.pt")
    waves, lengths = torch.randn(1, 3000), torch.tensor([3000])
    with torch.no_grad():
        expected = model(waves, lengths).logits
        for path in (tmp_path / "folder", str(tmp_path / "file.pt")):
            assert torch.equal(load(path)(waves, lengths).logits, expected)


def test_what_is_no_model_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"kind": "vocoder"}')
    with pytest.raises(ModelError, match="kind 'vocoder'"):
        load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="model_type 'bert'"):
        load(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ModelError, match=r"a folder without config\.json"):
        load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="a model is a folder or a file"):
        load(tmp_path / "model.safetensors")


@pytest.mark.parametrize("missing", ["weight", "extra", "shape"])
def test_folders_whose_weights_do_not_fit_are_refused(missing: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save(tiny.recognizer(), tmp_path / "model")
    path = tmp_path / "model/model.safetensors"
    tensors = load_file(path)
    said = {"weight": "missing weights: head.bias", "extra": "unknown weights: more", "shape": "head.bias has shape"}
    if missing == "weight":
        del tensors["head.bias"]
    elif missing == "extra":
        tensors["more"] = torch.ones(1)
    else:
        tensors["head.bias"] = torch.ones(3)
    save_file(tensors, path)
    with pytest.raises(ModelError, match=said[missing]):
        load(tmp_path / "model")


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("wavlm-basee", "no model 'wavlm-basee'", "did you mean wavlm-base"),
        ("zzzz", "no model 'zzzz'", "hf:owner/name"),
        ("exp/run/model.pt", "no model", "known names"),
        ("./model", "no model", "known names"),
        ("hf:justone", "no hub id", "hf:owner/name"),
        ("hf:a/b@", "no hub id", "hf:owner/name"),
        ("hf:a//b", "no hub id", "hf:owner/name"),
        ("hf:--a/b..c", "no hub id", ""),
    ],
)
def test_unknown_names_suggest(name: str, message: str, hint: str) -> None:
    with pytest.raises(ModelError, match=message) as refused:
        load(name, offline=True)
    assert hint in refused.value.hint


def test_every_preset_has_its_published_weights() -> None:
    assert {name: p.kind for name, p in PUBLISHED.items()} == {name: p.kind for name, p in PRESETS.items()}
    assert all(p.sample_rate == PRESETS[name].sample_rate for name, p in PUBLISHED.items())


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return empty_hub(tmp_path / "hub", monkeypatch)


@pytest.mark.parametrize("name", ["hf:owner/tiny", "owner/tiny", "hf:owner/tiny@main", f"hf:owner/tiny@{COMMIT}"])
def test_cached_models_of_the_hub_load_without_a_network(name: str, hub: Path, tmp_path: Path) -> None:
    model = tiny.recognizer()
    save_hf(model, tmp_path / "model")
    lay(tmp_path / "model", hub, "owner/tiny")
    for offline in (True, False):
        again = load(name, offline=offline)
        assert all(torch.equal(again.state_dict()[n], t) for n, t in model.state_dict().items())


def test_a_preset_is_its_published_weights_and_never_random_ones(hub: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="microsoft/wavlm-base@main: not in the cache, and offline") as refused:
        load("wavlm-base", offline=True)
    assert "speechkit models pull microsoft/wavlm-base" in refused.value.hint
    assert refused.value.exit_code == 4
    save_hf(tiny.encoder(), tmp_path / "model")
    lay(tmp_path / "model", hub, "microsoft/wavlm-base")
    assert torch.equal(load("wavlm-base", offline=True).mask_embedding, tiny.encoder().mask_embedding)


def test_other_revisions_and_half_finished_downloads_are_not_taken(hub: Path, tmp_path: Path) -> None:
    save_hf(tiny.encoder(), tmp_path / "model")
    (tmp_path / "model/model.safetensors").rename(tmp_path / "model/model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (tmp_path / "model/model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    lay(tmp_path / "model", hub, "owner/tiny")
    for name in ("hf:owner/tiny", "hf:owner/tiny@v2"):
        with pytest.raises(ModelError, match="not in the cache") as refused:
            load(name, offline=True)
    assert refused.value.hint.endswith("speechkit models pull owner/tiny@v2")


def test_no_network_is_said_with_the_command_that_fetches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="cannot download") as refused:
        load("hf:owner/tiny")
    assert "speechkit models pull owner/tiny" in refused.value.hint


def test_hub_ids_have_a_revision() -> None:
    assert HubId.parse("a/b") == HubId(repo="a/b", revision="main")
    assert HubId.parse("a/b@c/d") == HubId(repo="a/b", revision="c/d")


def test_speechkit_imports_neither_torch_nor_numpy_until_asked() -> None:
    code = "import sys, speechkit; print([m for m in ('torch', 'numpy') if m in sys.modules], speechkit.load.__name__)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["[]", "load"]
    assert speechkit.load is load
    with pytest.raises(AttributeError, match="nothing"):
        speechkit.nothing  # noqa: B018
