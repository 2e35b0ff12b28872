"""Folders of transformers, read by us and by transformers itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from speechkit.audio.normalize import normalize
from speechkit.compat import load_torchaudio
from speechkit.decode.vocabulary import Vocabulary
from speechkit.errors import ModelError
from speechkit.models.wavlm.config import PRESETS, SpanConfig
from speechkit.models.wavlm.heads import WavLMForCTC
from speechkit.models.wavlm.hugging_face import MODEL_TYPES, transformers_settings
from speechkit.models.wavlm.keys import transformers_names
from speechkit.models.wavlm.model import WavLM
from speechkit.models.wavlm.published import read_hf, save_hf
from tests.models.wavlm import tiny

CLASSES = {
    "wavlm": "WavLM",
    "hubert": "Hubert",
    "wav2vec2": "Wav2Vec2",
    "unispeech": "UniSpeech",
    "unispeech-sat": "UniSpeechSat",
}
SIZES = ["base", "large"]


@pytest.fixture(scope="module")
def transformers() -> ModuleType:
    load_torchaudio()  # transformers imports it, with or without its compiled part
    import transformers

    transformers.logging.set_verbosity_error()
    return transformers


def batch() -> tuple[Tensor, Tensor]:
    waves = torch.randn(2, 4000, generator=torch.Generator().manual_seed(1))
    waves[1, 3000:] = 0
    return waves, torch.tensor([4000, 3000])


def theirs(transformers: ModuleType, model_type: str, size: str, head: str, **settings: Any) -> nn.Module:
    """A tiny network of transformers with every weight away from where it begins."""
    config = getattr(transformers, CLASSES[model_type] + "Config")(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        conv_dim=[16] * 7,
        conv_bias=size == "large",
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        feat_extract_norm="layer" if size == "large" else "group",
        do_stable_layer_norm=size == "large",
        initializer_range=0.3,
        vocab_size=len(tiny.LETTERS),
        pad_token_id=0,
        **({"num_buckets": 32, "max_bucket_distance": 40} if model_type == "wavlm" else {}),
        **settings,
    )
    torch.manual_seed(0)
    return tiny.shaken(getattr(transformers, CLASSES[model_type] + head)(config))


def write_theirs(model: nn.Module, folder: Path) -> None:
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"do_normalize": true, "sampling_rate": 16000}')
    tokens = {s: i for i, s in enumerate(tiny.LETTERS.symbols)}
    (folder / "vocab.json").write_text(json.dumps(tokens))
    (folder / "tokenizer_config.json").write_text('{"pad_token": "<s>"}')


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("model_type", CLASSES)
@torch.no_grad()
def test_networks_of_transformers_give_their_numbers_here(
    transformers: ModuleType, model_type: str, size: str, tmp_path: Path
) -> None:
    model = theirs(transformers, model_type, size, "ForCTC")
    write_theirs(model, tmp_path)
    ours = read_hf(tmp_path)
    assert isinstance(ours, WavLMForCTC)
    assert ours.encoder.config.waveform_eps == 1e-7
    waves, lengths = batch()
    expected = model(waves[:1], output_hidden_states=True)
    torch.testing.assert_close(ours(waves[:1], lengths[:1]).logits, expected.logits, rtol=1e-3, atol=1e-4)
    states = ours.encoder(waves[:1], lengths[:1], layers=True)
    for found, hidden in zip(states.layers[:-1], expected.hidden_states[:-1], strict=True):
        torch.testing.assert_close(found, hidden, rtol=1e-3, atol=1e-4)
    published = WavLMForCTC(replace(ours.encoder.config, published_group_norm=True), ours.vocabulary).eval()
    published.load_state_dict(ours.state_dict())
    valid = torch.arange(4000) < lengths[:, None]
    padded = model(waves, attention_mask=valid.long()).logits
    torch.testing.assert_close(published(waves, lengths).logits, padded, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["wavlm", "hubert", "wav2vec2"])
@torch.no_grad()
def test_our_networks_give_their_numbers_in_transformers(
    transformers: ModuleType, kind: str, size: str, tmp_path: Path
) -> None:
    masks = {"time_mask": SpanConfig(prob=0.3, length=7, min_spans=1), "channel_mask": SpanConfig(prob=0.2, length=5)}
    ours = tiny.recognizer(kind, size, **masks)
    save_hf(ours, tmp_path / "model")
    model = getattr(transformers, CLASSES[kind] + "ForCTC").from_pretrained(tmp_path / "model")
    waves, lengths = batch()
    expected = ours(waves[:1], lengths[:1]).logits
    torch.testing.assert_close(model.eval()(waves[:1]).logits, expected, rtol=1e-3, atol=1e-4)
    processor = transformers.Wav2Vec2Processor.from_pretrained(tmp_path / "model")
    given = processor(waves[0].numpy(), sampling_rate=16000, return_tensors="pt").input_values
    eps = ours.encoder.config.waveform_eps
    torch.testing.assert_close(given, normalize(waves[:1], lengths[:1], eps) if eps else waves[:1], rtol=0, atol=1e-3)
    ids = expected.argmax(-1)[0].tolist()
    merged = [i for n, i in enumerate(ids) if n == 0 or i != ids[n - 1]]
    assert processor.decode(ids) == ours.vocabulary.text(merged)
    again = read_hf(tmp_path / "model")
    assert again.encoder.config == replace(
        ours.encoder.config, waveform_eps=1e-7 if eps else None, feature_grad_mult=1.0
    )
    assert again.vocabulary == ours.vocabulary
    assert again.dropout.p == ours.dropout.p
    for name, tensor in ours.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


@pytest.mark.parametrize("kind", ["wavlm", "hubert", "wav2vec2"])
@torch.no_grad()
def test_bare_encoders_go_both_ways(transformers: ModuleType, kind: str, tmp_path: Path) -> None:
    ours = tiny.encoder(kind, time_mask=SpanConfig())  # without masking there is no mask embedding in the file
    save_hf(ours, tmp_path / "model")
    model, loading = getattr(transformers, CLASSES[kind] + "Model").from_pretrained(
        tmp_path / "model", output_loading_info=True
    )
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    waves, lengths = batch()
    expected = model.eval()(waves[:1]).last_hidden_state
    torch.testing.assert_close(ours(waves[:1], lengths[:1]).output, expected, rtol=1e-3, atol=1e-4)
    again = read_hf(tmp_path / "model")
    assert isinstance(again, WavLM)
    assert not again.mask_embedding.any()
    torch.testing.assert_close(again(waves, lengths).output, ours(waves, lengths).output)


@torch.no_grad()
def test_pre_training_networks_of_transformers_give_their_encoder(transformers: ModuleType, tmp_path: Path) -> None:
    model = theirs(transformers, "wav2vec2", "base", "ForPreTraining", codevector_dim=16, proj_codevector_dim=16)
    write_theirs(model, tmp_path)
    ours = read_hf(tmp_path)
    assert isinstance(ours, WavLM)
    waves, lengths = batch()
    expected = model.wav2vec2(waves[:1]).last_hidden_state
    torch.testing.assert_close(ours(waves[:1], lengths[:1]).output, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_names_and_shapes_of_transformers(transformers: ModuleType, name: str) -> None:
    config = PRESETS[name]
    model_type = MODEL_TYPES[config.kind]
    with torch.device("meta"):
        settings = getattr(transformers, model_type.classes + "Config")(**transformers_settings(config))
        expected = getattr(transformers, model_type.classes + "Model")(settings).state_dict()
        state = WavLM(config).state_dict()
    names = transformers_names(state, "")
    assert {names[n]: t.shape for n, t in state.items()} == {n: t.shape for n, t in expected.items()}


@torch.no_grad()
def test_a_hubert_without_feature_norm_is_read(transformers: ModuleType, tmp_path: Path) -> None:
    model = theirs(transformers, "hubert", "large", "ForCTC", feat_proj_layer_norm=False)
    write_theirs(model, tmp_path)
    waves, lengths = batch()
    ours = read_hf(tmp_path)
    torch.testing.assert_close(ours(waves[:1], lengths[:1]).logits, model(waves[:1]).logits, rtol=1e-3, atol=1e-4)


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"add_adapter": True}, "add_adapter=True"),
        ({"adapter_attn_dim": 16}, "adapter_attn_dim=16"),
        ({"conv_pos_batch_norm": True}, "conv_pos_batch_norm"),
        ({"hidden_act": "relu"}, "hidden_act='relu'"),
        ({"layer_norm_eps": 1e-12}, "layer_norm_eps"),
        ({"architectures": ["WavLMForXVector"]}, "WavLMForXVector"),
        ({"model_type": "bert"}, "'bert'"),
        ({"hidden_size": "wide"}, "wide"),
        ({"conv_kernel": [10, 3]}, "config.json"),
        ({"num_hidden_layers": 1}, "unknown weights: wavlm.encoder.layers.1.attention"),
        ({"num_hidden_layers": 3}, "missing weights: wavlm.encoder.layers.2"),
        ({"intermediate_size": 40}, "intermediate_dense.weight has shape [48, 32], expected [40, 32]"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_loaded_right_is_refused_by_name(settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    save_hf(tiny.recognizer(), tmp_path / "model")
    edit(tmp_path / "model/config.json", **settings)
    with pytest.raises(ModelError) as refused:
        read_hf(tmp_path / "model")
    assert said in str(refused.value)


def test_the_waveform_form_is_where_any_version_of_transformers_writes_it(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_hf(tiny.encoder(), folder)
    assert read_hf(folder).config.waveform_eps is None
    (folder / "preprocessor_config.json").unlink()
    assert read_hf(folder).config.waveform_eps == 1e-7  # the default of the class
    inner = {"feature_extractor": {"do_normalize": False, "sampling_rate": 8000}}
    (folder / "processor_config.json").write_text(json.dumps(inner))
    config = read_hf(folder).config
    assert (config.waveform_eps, config.sample_rate) == (None, 8000)


def test_special_tokens_may_be_objects_and_rows_may_lack_a_token(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_hf(tiny.recognizer(vocabulary=Vocabulary(("a", "b", "|", "", "[PAD]"), blank=4)), folder)
    (folder / "tokenizer_config.json").write_text('{"pad_token": {"content": "[PAD]"}, "do_lower_case": true}')
    edit(folder / "vocab.json", **{"<s>": 5, "</s>": 6})  # beyond the head
    vocabulary = read_hf(folder).vocabulary
    assert vocabulary == Vocabulary(("a", "b", "|", "", "[PAD]"), blank=4, lower_case=True)
    (folder / "tokenizer_config.json").unlink()
    assert read_hf(folder).vocabulary.blank == 4
    (folder / "vocab.json").unlink()
    with pytest.raises(ModelError, match=r"vocab\.json: no such file"):
        read_hf(folder)
    symbols = tmp_path / "mine.json"
    symbols.write_text(json.dumps({"x": 0, "y": 1, "|": 2, "z": 3, "<pad>": 4}))
    assert read_hf(folder, symbols).vocabulary.symbols == ("x", "y", "|", "z", "<pad>")


def test_other_tokenizers_and_vocabularies_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_hf(tiny.recognizer(), folder)
    edit(folder / "tokenizer_config.json", tokenizer_class="Wav2Vec2PhonemeCTCTokenizer")
    with pytest.raises(ModelError, match="Wav2Vec2PhonemeCTCTokenizer"):
        read_hf(folder)
    pieces = Vocabulary(("<s>", "▁a", "b"), blank=0, pieces="sentencepiece")
    with pytest.raises(ModelError, match="sentencepiece"):
        save_hf(tiny.recognizer(vocabulary=pieces), tmp_path / "other")
    assert not (tmp_path / "other").exists()
