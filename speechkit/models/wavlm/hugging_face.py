"""The folders of transformers, in and out: WavLM, HuBERT and wav2vec 2.0, with and without a CTC head."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from speechkit.checkpoints.weights import Hollow, fill, find_weights, read_json, read_weights, write_safetensors
from speechkit.errors import ModelError
from speechkit.models.wavlm.config import SpanConfig, WavLMConfig
from speechkit.models.wavlm.heads import WavLMForCTC
from speechkit.models.wavlm.keys import transformers_names, without_pretraining
from speechkit.models.wavlm.model import WavLM
from speechkit.models.wavlm.vocabularies import folder_vocabulary, read_vocabulary, tokenizer_files
from speechkit.nn.encoder_config import EncoderConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _ModelType:
    """A family of transformers: our kind, the prefix of its encoder's weights, its class names without the ending."""

    kind: Literal["wavlm", "hubert", "wav2vec2"]
    prefix: str
    classes: str


MODEL_TYPES = {  # UniSpeech's encoders are wav2vec 2.0's
    "wavlm": _ModelType("wavlm", "wavlm.", "WavLM"),
    "hubert": _ModelType("hubert", "hubert.", "Hubert"),
    "wav2vec2": _ModelType("wav2vec2", "wav2vec2.", "Wav2Vec2"),
    "unispeech": _ModelType("wav2vec2", "unispeech.", "UniSpeech"),
    "unispeech-sat": _ModelType("wav2vec2", "unispeech_sat.", "UniSpeechSat"),
}
_HEADS = ("Model", "ForCTC", "ForPreTraining")
# settings with the values under which the network is ours
_REFUSED: Mapping[str, tuple[Any, ...]] = {
    "add_adapter": (False,),
    "adapter_attn_dim": (),
    "conv_pos_batch_norm": (False,),
    "hidden_act": ("gelu",),
    "feat_extract_activation": ("gelu",),
    "layer_norm_eps": (1e-5,),
}
_PRETRAINING = ("quantizer.", "project_hid.", "project_q.", "ctc_proj.", "label_embeddings_concat", "speaker_proj.")
_OLD_NAMES = {
    "conv.weight_g": "conv.parametrizations.weight.original0",
    "conv.weight_v": "conv.parametrizations.weight.original1",
}


def read_folder(folder: Path, vocab: Path | None = None) -> WavLM | WavLMForCTC:
    """Build the network of a folder.

    Args:
        folder: with config.json and weights.
        vocab: symbols instead of the folder's own.

    Raises:
        ModelError: a file is missing or damaged, or the network has parts that ours has not.
    """
    settings = read_json(folder / "config.json")
    model_type = MODEL_TYPES.get(str(settings.get("model_type")))
    if model_type is None:
        found, known = settings.get("model_type"), ", ".join(MODEL_TYPES)
        raise ModelError(f"{folder}: model_type {found!r} is none of {known}", code="model.kind")
    config = encoder_config(settings, _preprocessor(folder), folder)
    _check_architecture(settings, model_type, folder)
    weights = find_weights(folder)
    tensors = {_new_name(n): t for n, t in read_weights(weights).items()}
    prefix = model_type.prefix if any(n.startswith(model_type.prefix) for n in tensors) else ""
    with Hollow():
        network: WavLM | WavLMForCTC
        if "lm_head.weight" in tensors:
            num_rows = len(tensors["lm_head.weight"])
            vocabulary = (
                folder_vocabulary(folder, num_rows, settings.get("pad_token_id"))
                if vocab is None
                else read_vocabulary(vocab)
            )
            dropout = float(settings.get("final_dropout", 0.0))
            network = WavLMForCTC(config, vocabulary, final_dropout=dropout)
        else:
            network = WavLM(config)
            tensors = without_pretraining(tensors, _PRETRAINING)
    names = transformers_names(network.state_dict(), prefix)
    optional = [n for n in names if n.endswith("mask_embedding")]  # not saved by models that do not mask
    fill(network, tensors, source=weights, names=names, optional=optional)
    return network.eval()


def write_folder(model: WavLM | WavLMForCTC, folder: Path) -> None:
    """Write what transformers reads into an existing folder."""
    encoder = model if isinstance(model, WavLM) else model.encoder
    config = encoder.config
    model_type = MODEL_TYPES[config.kind]
    head = "Model" if isinstance(model, WavLM) else "ForCTC"
    settings = transformers_settings(config) | {"architectures": [model_type.classes + head]}
    files = {}
    if isinstance(model, WavLMForCTC):
        settings |= {
            "vocab_size": len(model.vocabulary),
            "pad_token_id": model.vocabulary.blank,
            "final_dropout": model.dropout.p,
            "ctc_loss_reduction": "sum",
            "ctc_zero_infinity": True,
        }
        files = tokenizer_files(model.vocabulary)
    files |= {"config.json": _json(settings), "preprocessor_config.json": _json(_preprocessor_settings(config))}
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    state = model.state_dict()
    names = transformers_names(state, "" if isinstance(model, WavLM) else model_type.prefix)
    masks = config.time_mask.prob > 0 or config.channel_mask.prob > 0  # else transformers has no such weight
    kept = {names[n]: t.cpu() for n, t in state.items() if masks or not n.endswith("mask_embedding")}
    write_safetensors(folder / "model.safetensors", kept)


def encoder_config(settings: Mapping[str, Any], preprocessor: Mapping[str, Any], source: Path) -> WavLMConfig:
    """The settings of an encoder from a config.json and a preprocessor_config.json.

    Raises:
        ModelError: a setting that this network does not have, or a value that is none.
    """
    for key, accepted in _REFUSED.items():
        if settings.get(key) is not None and settings[key] not in accepted:
            raise ModelError(f"{source}: {key}={settings[key]!r} is not supported", code="model.unsupported")
    kind = MODEL_TYPES[str(settings["model_type"])].kind
    masking = settings.get("apply_spec_augment", True)
    try:
        return WavLMConfig(
            kind=kind,
            sample_rate=int(preprocessor.get("sampling_rate", 16000)),
            waveform_eps=1e-7 if preprocessor.get("do_normalize", True) else None,
            conv_layers=_conv_layers(settings),
            conv_norm="layer" if settings.get("feat_extract_norm", "group") == "layer" else "group",
            conv_bias=bool(settings.get("conv_bias", False)),
            feature_norm=kind != "hubert" or bool(settings.get("feat_proj_layer_norm", True)),
            feature_grad_mult=1.0,
            input_dropout=float(settings.get("feat_proj_dropout", 0.0)),
            time_mask=_spans(settings, "mask_time", 0.05, 2, masking=masking),
            channel_mask=_spans(settings, "mask_feature", 0.0, 0, masking=masking),
            encoder=EncoderConfig(
                dim=int(settings.get("hidden_size", 768)),
                num_layers=int(settings.get("num_hidden_layers", 12)),
                ffn_dim=int(settings.get("intermediate_size", 3072)),
                num_heads=int(settings.get("num_attention_heads", 12)),
                norm="pre" if settings.get("do_stable_layer_norm", False) else "post",
                position_kernel=int(settings.get("num_conv_pos_embeddings", 128)),
                position_groups=int(settings.get("num_conv_pos_embedding_groups", 16)),
                num_buckets=int(settings.get("num_buckets", 320)) if kind == "wavlm" else 0,
                max_distance=int(settings.get("max_bucket_distance", 800)),
                dropout=float(settings.get("hidden_dropout", 0.1)),
                attention_dropout=float(settings.get("attention_dropout", 0.1)),
                activation_dropout=float(settings.get("activation_dropout", 0.1)),
                layer_drop=float(settings.get("layerdrop", 0.1)),
                init_std=float(settings.get("initializer_range", 0.02)),
            ),
        )
    except (TypeError, ValueError) as error:
        raise ModelError(f"{source}: config.json: {error}", code="model.config") from error


def transformers_settings(config: WavLMConfig) -> dict[str, Any]:
    """The settings of an encoder under the names of transformers."""
    encoder = config.encoder
    channels, kernels, strides = zip(*config.conv_layers, strict=True)
    settings = {
        "model_type": config.kind,
        "hidden_size": encoder.dim,
        "num_hidden_layers": encoder.num_layers,
        "num_attention_heads": encoder.num_heads,
        "intermediate_size": encoder.ffn_dim,
        "hidden_act": "gelu",
        "hidden_dropout": encoder.dropout,
        "activation_dropout": encoder.activation_dropout,
        "attention_dropout": encoder.attention_dropout,
        "feat_proj_dropout": config.input_dropout,
        "layerdrop": encoder.layer_drop,
        "initializer_range": encoder.init_std,
        "layer_norm_eps": 1e-5,
        "feat_extract_norm": config.conv_norm,
        "feat_extract_activation": "gelu",
        "conv_dim": list(channels),
        "conv_kernel": list(kernels),
        "conv_stride": list(strides),
        "conv_bias": config.conv_bias,
        "num_feat_extract_layers": len(channels),
        "num_conv_pos_embeddings": encoder.position_kernel,
        "num_conv_pos_embedding_groups": encoder.position_groups,
        "do_stable_layer_norm": encoder.norm == "pre",
        "apply_spec_augment": True,
        "mask_time_prob": config.time_mask.prob,
        "mask_time_length": config.time_mask.length,
        "mask_time_min_masks": config.time_mask.min_spans,
        "mask_feature_prob": config.channel_mask.prob,
        "mask_feature_length": config.channel_mask.length,
        "mask_feature_min_masks": config.channel_mask.min_spans,
        "add_adapter": False,
    }
    if config.kind == "wavlm":
        settings |= {"num_buckets": encoder.num_buckets, "max_bucket_distance": encoder.max_distance}
    if config.kind == "hubert":
        settings |= {"feat_proj_layer_norm": config.feature_norm, "conv_pos_batch_norm": False}
    elif not config.feature_norm:
        raise ModelError(f"transformers has no {config.kind} without feature norm", code="model.unsupported")
    return settings


def _check_architecture(settings: Mapping[str, Any], model_type: _ModelType, folder: Path) -> None:
    for architecture in settings.get("architectures") or ():
        if architecture not in [model_type.classes + head for head in _HEADS]:
            raise ModelError(
                f"{folder}: {architecture} is not supported; {', '.join(model_type.classes + h for h in _HEADS)} are",
                code="model.unsupported",
            )


def _conv_layers(settings: Mapping[str, Any]) -> tuple[tuple[int, int, int], ...]:
    keys = ("conv_dim", "conv_kernel", "conv_stride")
    columns = [settings.get(k, [c[i] for c in WavLMConfig().conv_layers]) for i, k in enumerate(keys)]
    return tuple((int(c), int(k), int(s)) for c, k, s in zip(*columns, strict=True))


def _spans(settings: Mapping[str, Any], name: str, prob: float, min_spans: int, *, masking: bool) -> SpanConfig:
    return SpanConfig(
        prob=float(settings.get(f"{name}_prob", prob)) if masking else 0.0,
        length=int(settings.get(f"{name}_length", 10)),
        min_spans=int(settings.get(f"{name}_min_masks", min_spans)),  # WavLM's class has none for features
    )


def _preprocessor(folder: Path) -> Mapping[str, Any]:
    """What is done to waveforms, from wherever the version of transformers that wrote the folder put it."""
    if (folder / "preprocessor_config.json").exists():
        return read_json(folder / "preprocessor_config.json")
    path = folder / "processor_config.json"
    inner = read_json(path).get("feature_extractor") if path.exists() else None
    if isinstance(inner, dict):
        return inner
    log.warning("%s has no preprocessor_config.json: waveforms are normalized, as transformers would", folder)
    return {}


def _preprocessor_settings(config: WavLMConfig) -> dict[str, Any]:
    return {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "sampling_rate": config.sample_rate,
        "do_normalize": config.waveform_eps is not None,
        "return_attention_mask": config.conv_norm == "layer",
        "padding_side": "right",
        "padding_value": 0.0,
    }


def _new_name(name: str) -> str:
    for old, new in _OLD_NAMES.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
