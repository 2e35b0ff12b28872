"""Files of Microsoft and fairseq, as the years have left them."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any

import omegaconf
import pytest
import torch

from speechkit.decode.vocabulary import Vocabulary
from speechkit.errors import ModelError
from speechkit.models.wavlm.config import PRESETS, SpanConfig
from speechkit.models.wavlm.fairseq import encoder_config, make_container
from speechkit.models.wavlm.heads import UnitHead, WavLMForCTC, WavLMForUnits
from speechkit.models.wavlm.model import WavLM
from speechkit.models.wavlm.published import read_original, save_original
from tests.models.wavlm import tiny

LIBRISPEECH = Vocabulary((*tiny.SPECIALS, *"|ETAONIHSRDLUMWCFGYPBVK'XJQZ"), blank=0)


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    states = a.state_dict(), b.state_dict()
    return states[0].keys() == states[1].keys() and all(torch.equal(t, states[1][n]) for n, t in states[0].items())


@pytest.mark.parametrize("size", ["base", "large"])
@pytest.mark.parametrize("kind", ["wavlm", "hubert", "wav2vec2"])
def test_recognizers_come_back_as_they_went(kind: str, size: str, tmp_path: Path) -> None:
    spans = SpanConfig(prob=0.4, length=6, selection="poisson", other=2.0, no_overlap=True, min_space=2)
    model = tiny.recognizer(kind, size, time_mask=spans)
    save_original(model, tmp_path / "model.pt")
    again = read_original(tmp_path / "model.pt")
    assert isinstance(again, WavLMForCTC)
    assert same(model, again)
    assert again.vocabulary == model.vocabulary  # from dict.ltr.txt beside the file
    assert again.dropout.p == model.dropout.p
    expected = replace(model.encoder.config, encoder=replace(model.encoder.config.encoder, init_std=0.02))
    assert again.encoder.config == expected


def test_bare_encoders_come_back_as_they_went(tmp_path: Path) -> None:
    for size in ("base", "large"):
        model = tiny.encoder("wavlm", size)
        save_original(model, tmp_path / "model.pt")
        again = read_original(tmp_path / "model.pt")
        assert isinstance(again, WavLM)
        assert same(model, again)
        assert not again.training
    container = torch.load(tmp_path / "model.pt", weights_only=True)  # holds nothing but plain values
    assert container["cfg"]["relative_position_embedding"] is True


@pytest.mark.parametrize(
    "head",
    [UnitHead(embedding_dim=12), UnitHead(embedding_dim=None, own_projections=False, target_glu=True, temperature=0.2)],
)
def test_models_in_pre_training_come_back_as_they_went(head: UnitHead, tmp_path: Path) -> None:
    model = tiny.predictor(head=head)
    save_original(model, tmp_path / "model.pt")
    again = read_original(tmp_path / "model.pt")
    assert isinstance(again, WavLMForUnits)
    assert same(model, again)
    assert (again.num_classes, again.settings) == (model.num_classes, model.settings)


def test_the_presets_are_what_published_settings_say() -> None:
    for name in ("wavlm-base", "wavlm-large"):
        settings = make_container(WavLM(replace(PRESETS[name], encoder=replace(tiny.ENCODER), conv_layers=tiny.CONVS)))[
            "cfg"
        ]
        assert settings["max_distance"] == 40
    defaults = encoder_config({}, "cfg", normalize=False, kind="hubert")
    assert (defaults.time_mask.prob, defaults.feature_grad_mult, defaults.encoder.num_buckets) == (0.65, 1.0, 0)
    relative = {"relative_position_embedding": True, "gru_rel_pos": True}
    assert encoder_config(relative, "cfg", normalize=True, kind="wavlm").encoder.max_distance == 1280


class ExtractorMode(Enum):
    """An enum as fairseq's settings hold them."""

    default = "default"
    layer_norm = "layer_norm"


def rewritten(container: Mapping[str, Any], form: str) -> dict[str, Any]:
    """The same content with its settings in another form."""
    settings = dict(container["cfg"])
    inner = settings["model"]["w2v_args"]["model"]
    if form == "omegaconf":
        settings["model"]["normalize"] = "${task.normalize}"
        return {**container, "cfg": omegaconf.OmegaConf.create(settings)}
    if form == "enum":
        inner["extractor_mode"] = ExtractorMode(inner["extractor_mode"])
        return {**container, "cfg": settings}
    if form == "omegaconf with enum":
        config = omegaconf.OmegaConf.create(settings)
        config.model.w2v_args.model.extractor_mode = ExtractorMode(inner["extractor_mode"])
        return {**container, "cfg": config}
    flat = settings["model"] | {"normalize": settings["task"]["normalize"], "arch": "hubert_ctc"}
    flat["w2v_args"] = argparse.Namespace(**inner)
    if form == "namespace with a tree inside":
        flat["w2v_args"] = settings["model"]["w2v_args"]
    return {"args": argparse.Namespace(**flat), "model": container["model"]}


@pytest.mark.parametrize(
    "form", ["omegaconf", "enum", "omegaconf with enum", "namespace", "namespace with a tree inside"]
)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_settings_of_every_age_are_understood(form: str, zipped: bool, tmp_path: Path) -> None:
    model = tiny.recognizer("hubert", "large")
    save_original(model, tmp_path / "plain.pt")
    container = rewritten(make_container(model), form)
    torch.save(container, tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
    again = read_original(tmp_path / "model.pt")
    assert same(model, again)
    assert again.encoder.config == read_original(tmp_path / "plain.pt").encoder.config


def test_parts_that_only_pre_training_uses_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    container = make_container(tiny.recognizer("hubert"))
    container["model"]["w2v_encoder.w2v_model.label_embs_concat"] = torch.zeros(3, 4)
    torch.save(container, tmp_path / "ctc.pt")
    (tmp_path / "dict.ltr.txt").write_text("| 1\n" + "".join(f"{c} 1\n" for c in "ETAOIN'"))
    assert same(read_original(tmp_path / "ctc.pt"), tiny.recognizer("hubert"))
    container = make_container(tiny.encoder("wav2vec2"))
    container["model"] |= {"quantizer.vars": torch.zeros(2), "project_q.weight": torch.zeros(2)}
    torch.save(container, tmp_path / "encoder.pt")
    again = read_original(tmp_path / "encoder.pt")
    assert same(again, tiny.encoder("wav2vec2"))
    assert again.config.kind == "wav2vec2"
    assert "label_embs_concat" in caplog.text
    assert "quantizer.vars" in caplog.text


def test_fine_tuning_settings_override_those_of_the_encoder(tmp_path: Path) -> None:
    container = make_container(tiny.recognizer())
    container["cfg"]["model"] |= {"layerdrop": 0.3, "mask_prob": 0.2, "feature_grad_mult": 0.0, "dropout": 0.25}
    torch.save(container, tmp_path / "model.pt")
    symbols = tmp_path / "letters.txt"
    symbols.write_text("| 9\n" + "".join(f"{c} 1\n" for c in "ETAOIN'"))
    config = read_original(tmp_path / "model.pt", symbols).encoder.config
    assert (config.encoder.layer_drop, config.encoder.dropout) == (0.3, 0.25)
    assert (config.time_mask.prob, config.feature_grad_mult) == (0.2, 0.0)


def test_letters_come_from_the_user_then_the_file_beside_then_librispeech(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(make_container(tiny.recognizer(vocabulary=LIBRISPEECH)), tmp_path / "model.pt")
    assert read_original(tmp_path / "model.pt").vocabulary == LIBRISPEECH
    assert "LibriSpeech" in caplog.text
    (tmp_path / "dict.ltr.txt").write_text("".join(f"{c} 1\n" for c in reversed(LIBRISPEECH.symbols[4:])))
    beside = read_original(tmp_path / "model.pt").vocabulary
    assert beside.symbols == (*tiny.SPECIALS, *reversed(LIBRISPEECH.symbols[4:]))
    mine = tmp_path / "mine.txt"
    mine.write_text("".join(f"▁{c} 1\n" for c in range(28)))
    assert read_original(tmp_path / "model.pt", mine).vocabulary.pieces == "sentencepiece"
    mine.write_text("a 1\nb 1\n")
    with pytest.raises(ModelError, match="32 rows in the CTC head, 6 symbols"):
        read_original(tmp_path / "model.pt", mine)
    mine.write_text("nonsense\n")
    with pytest.raises(ModelError, match="symbol count"):
        read_original(tmp_path / "model.pt", mine)


def test_a_head_of_another_size_needs_its_letters(tmp_path: Path) -> None:
    torch.save(make_container(tiny.recognizer()), tmp_path / "model.pt")
    with pytest.raises(ModelError, match="12 rows") as refused:
        read_original(tmp_path / "model.pt")
    assert "--vocab" in refused.value.hint


def test_vocabularies_of_other_makes_cannot_go_to_fairseq(tmp_path: Path) -> None:
    model = tiny.recognizer(vocabulary=Vocabulary(("a", "b", "|", "[PAD]"), blank=3))
    with pytest.raises(ModelError, match="begin with"):
        save_original(model, tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"expand_attention_head_size": 64}, "expand_attention_head_size=64"),
        ({"layer_type": "conformer"}, "layer_type='conformer'"),
        ({"pos_conv_depth": 5}, "pos_conv_depth=5"),
        ({"conv_pos_batch_norm": True}, "conv_pos_batch_norm"),
        ({"activation_fn": "relu"}, "activation_fn='relu'"),
        ({"gru_rel_pos": False}, "gru_rel_pos"),
        ({"encoder_layers": "many"}, "encoder_layers='many'"),
        ({"conv_feature_layers": "[(16, 10, 5)] + __import__('os').getpid()"}, "conv_feature_layers"),
        ({"conv_feature_layers": "[(16, 10, 5)] * 10 ** 9"}, "conv_feature_layers"),
        ({"encoder_attention_heads": 5}, "multiple"),
        ({"encoder_layers": 3}, "missing weights: encoder.layers.2"),
        ({"encoder_layers": 1}, "unknown weights: encoder.layers.1"),
        ({"conv_bias": True}, "missing weights: feature_extractor.conv_layers.0.0.bias"),
        ({"encoder_ffn_embed_dim": 47}, "encoder.layers.0.fc1.weight has shape [48, 32], expected [47, 32]"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_loaded_right_is_refused_by_name(settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    container = make_container(tiny.encoder())
    container["cfg"] |= settings
    torch.save(container, tmp_path / "model.pt")
    with pytest.raises(ModelError) as refused:
        read_original(tmp_path / "model.pt")
    assert said in str(refused.value)
    assert str(tmp_path / "model.pt") in str(refused.value)


@pytest.mark.parametrize("settings", [{"streaming": False, "spk_layer": 12}, {"expand_attention_head_size": -1}])
def test_settings_that_change_nothing_are_passed_over(settings: dict[str, Any], tmp_path: Path) -> None:
    container = make_container(tiny.encoder())
    container["cfg"] |= settings
    torch.save(container, tmp_path / "model.pt")
    assert same(read_original(tmp_path / "model.pt"), tiny.encoder())


@pytest.mark.parametrize(
    ("container", "said"),
    [
        ([1, 2], "neither"),
        ({"cfg": {}, "model": {}}, "neither"),
        ({"model": {"mask_emb": torch.zeros(2)}}, "no settings"),
        ({"mask_emb": torch.zeros(2)}, "neither"),
    ],
)
def test_other_files_are_refused(container: Any, said: str, tmp_path: Path) -> None:
    torch.save(container, tmp_path / "model.pt")
    with pytest.raises(ModelError, match=said):
        read_original(tmp_path / "model.pt")


def test_class_counts_that_do_not_add_up_are_refused(tmp_path: Path) -> None:
    container = make_container(tiny.predictor())
    container["cfg"]["model"]["num_classes"] = [11, 8]
    torch.save(container, tmp_path / "model.pt")
    with pytest.raises(ModelError, match="18 class embeddings"):
        read_original(tmp_path / "model.pt")


def test_weights_in_half_precision_become_float32(tmp_path: Path) -> None:
    container = make_container(tiny.encoder())
    container["model"] = {n: t.half() for n, t in container["model"].items()}
    torch.save(container, tmp_path / "model.pt")
    assert all(p.dtype == torch.float32 for p in read_original(tmp_path / "model.pt").parameters())
