"""The files of Microsoft and of fairseq, in and out: encoders, pre-training and CTC, of every age.

What they hold: a mapping with `model` (tensors) and `cfg` (Microsoft: flat; fairseq: a tree), or instead of `cfg` in
older ones `args`, flat. CTC files have the settings of their encoder nested in `w2v_args`. fairseq's dictionaries of
symbols and of units lie in the file as objects of its own, or beside it as text; ours are always beside it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from torch import Tensor, nn

from speechkit.checkpoints.unpickle import Record, plain
from speechkit.checkpoints.weights import Hollow, fill, is_state_dict
from speechkit.decode.vocabulary import Vocabulary
from speechkit.errors import ModelError
from speechkit.models.wavlm.config import SpanConfig, WavLMConfig
from speechkit.models.wavlm.heads import UnitHead, WavLMForCTC, WavLMForUnits
from speechkit.models.wavlm.keys import fairseq_names, without_pretraining
from speechkit.models.wavlm.model import WavLM
from speechkit.models.wavlm.vocabularies import (
    dictionary_text,
    fairseq_vocabulary,
    guessed_vocabulary,
    read_vocabulary,
)
from speechkit.nn.encoder_config import EncoderConfig

Network = TypeVar("Network", bound=nn.Module)

_CTC_PREFIX = "w2v_encoder."
_ENCODER_PREFIX = "w2v_encoder.w2v_model."
# settings with the values under which the network is ours
_REFUSED: Mapping[str, tuple[Any, ...]] = {
    "activation_fn": ("gelu",),
    "expand_attention_head_size": (-1, 0),
    "layer_type": ("transformer",),
    "pos_conv_depth": (1,),
    "conv_pos_batch_norm": (False,),
}
# parts of a network for pre-training that an encoder does not use
_PRETRAINING = (
    *("quantizer.", "project_q.", "input_quantizer.", "project_inp.", "final_proj.", "target_glu."),
    "label_embs_concat",
)
_NUM_SPECIALS = 4  # fairseq counts them among the classes of a label set
_UNITS = "km"  # fairseq's names of label sets, which name their dictionaries, too
_LETTERS = "ltr"
_HUBERT_TASK: dict[str, Any] = {
    "_name": "hubert_pretraining",
    "fine_tuning": True,
    "labels": [_LETTERS],
    "single_target": True,
}
# by kind: fairseq's CTC network, its task, and the task that its encoder came from
_FAIRSEQ: dict[str, tuple[str, dict[str, Any], str]] = {
    "wavlm": ("hubert_ctc", _HUBERT_TASK, "utterance_mixing_pretraining"),
    "hubert": ("hubert_ctc", _HUBERT_TASK, "hubert_pretraining"),
    "wav2vec2": ("wav2vec_ctc", {"_name": "audio_finetuning", "labels": _LETTERS}, "audio_pretraining"),
}
# what fine-tuning sets anew: name in the settings of the CTC model, name in those of its encoder
_FINE_TUNING = {
    "layerdrop": "encoder_layerdrop",
    **{
        n: n
        for n in (
            *("dropout", "attention_dropout", "activation_dropout", "dropout_input", "feature_grad_mult"),
            *("mask_length", "mask_prob", "mask_selection", "mask_other", "no_mask_overlap", "mask_min_space"),
            *("mask_channel_length", "mask_channel_prob", "mask_channel_selection", "mask_channel_other"),
            *("no_mask_channel_overlap", "mask_channel_min_space"),
        )
    },
}


def read_container(container: Any, source: Path, vocab: Path | None = None) -> WavLM | WavLMForCTC | WavLMForUnits:
    """Build the network that a container holds.

    Args:
        container: as unpickled.
        source: its file, for messages and for a `dict.ltr.txt` beside it.
        vocab: the symbols of a CTC file that has none.

    Raises:
        ModelError: it is no such container, or holds something that this network cannot be.
    """
    tensors = container.get("model") if isinstance(container, Mapping) else None
    if not is_state_dict(tensors):
        raise ModelError(
            f"{source}: neither Microsoft's nor fairseq's: no tensors under 'model'",
            hint="a bare state dict has no settings: give the folder that it belongs to",
            code="model.kind",
        )
    assert isinstance(tensors, Mapping)
    settings = _settings(plain(container.get("cfg") or container.get("args")), source)
    tensors = dict(tensors)
    if any(name.startswith(_CTC_PREFIX) for name in tensors):
        vocabulary = _vocabulary(container, tensors, source, vocab)
        return _read_ctc(settings, tensors, source, vocabulary)
    if "label_embs_concat" in tensors:
        return _read_units(settings, tensors, container, source)
    config = settings.encoder(settings.model, source, _kind(settings.model, tensors))
    return _built(lambda: WavLM(config), without_pretraining(tensors, _PRETRAINING), config, source)


@dataclass(frozen=True, slots=True)
class _Settings:
    """Settings of a network, and those of its waveforms (which fairseq counts to the task)."""

    model: dict[str, Any]
    normalize: bool
    sample_rate: int

    def encoder(
        self, model: Mapping[str, Any], source: Path, kind: Literal["wavlm", "hubert", "wav2vec2"]
    ) -> WavLMConfig:
        return encoder_config(model, source, normalize=self.normalize, sample_rate=self.sample_rate, kind=kind)


def _settings(tree: Any, source: Path) -> _Settings:
    if not isinstance(tree, dict) or not tree:
        raise ModelError(f"{source}: no settings under 'cfg' or 'args'", code="model.config")
    model = tree.get("model")
    if not isinstance(model, dict):  # Microsoft's, or fairseq's before it had trees
        return _Settings(tree, bool(tree.get("normalize", False)), int(_number(tree, "sample_rate", 16000, source)))
    task = tree.get("task")
    task = task if isinstance(task, dict) else {}
    normalize = task.get("normalize")
    normalize = model.get("normalize", False) if normalize is None else normalize
    return _Settings(model, bool(normalize), int(_number(task, "sample_rate", 16000, source)))


def _read_ctc(settings: _Settings, tensors: dict[str, Tensor], source: Path, vocabulary: Vocabulary) -> WavLMForCTC:
    inner = _settings(settings.model.get("w2v_args"), source)
    tuned = {inside: settings.model[outside] for outside, inside in _FINE_TUNING.items() if outside in settings.model}
    name = inner.model.get("_name") or inner.model.get("arch") or settings.model.get("_name")
    kind = _kind(inner.model | {"_name": name}, tensors)
    config = settings.encoder(inner.model | tuned, source, kind)
    dropout = _number(settings.model, "final_dropout", 0.0, source)
    tensors = without_pretraining(tensors, tuple(_ENCODER_PREFIX + name for name in _PRETRAINING))
    return _built(lambda: WavLMForCTC(config, vocabulary, final_dropout=dropout), tensors, config, source)


def _read_units(settings: _Settings, tensors: dict[str, Tensor], container: Any, source: Path) -> WavLMForUnits:
    config = settings.encoder(settings.model, source, _kind(settings.model, tensors))
    final_dim = int(_number(settings.model, "final_dim", 0, source))
    head = UnitHead(
        embedding_dim=final_dim if final_dim > 0 else None,
        own_projections=bool(settings.model.get("untie_final_proj", False)),
        target_glu=bool(settings.model.get("target_glu", False)),
        temperature=_number(settings.model, "logit_temp", 0.1, source),
    )
    num_classes = _num_classes(settings.model, container, len(tensors["label_embs_concat"]), source)
    return _built(lambda: WavLMForUnits(config, num_classes, head), tensors, config, source)


def _built(make: Callable[[], Network], tensors: dict[str, Tensor], config: WavLMConfig, source: Path) -> Network:
    with Hollow():
        network = make()
    names = fairseq_names(network.state_dict(), config.conv_norm)
    optional = [n for n in names if n.endswith("mask_embedding")]
    fill(network, tensors, source=source, names=names, optional=optional)
    network.eval()
    return network


def encoder_config(
    cfg: Mapping[str, Any],
    source: str | Path,
    *,
    normalize: bool,
    kind: Literal["wavlm", "hubert", "wav2vec2"],
    sample_rate: int = 16000,
) -> WavLMConfig:
    """The settings of an encoder from those of Microsoft and fairseq; what is absent has the default of their classes.

    Raises:
        ModelError: a setting that this network does not have, or a value that is none.
    """
    for key, accepted in _REFUSED.items():
        if cfg.get(key) is not None and cfg[key] not in accepted:
            raise ModelError(f"{source}: {key}={cfg[key]!r} is not supported", code="model.unsupported")
    relative = bool(cfg.get("relative_position_embedding", False))
    if relative and not cfg.get("gru_rel_pos", False):
        raise ModelError(f"{source}: relative positions with gru_rel_pos=False are not supported")

    def number(key: str, default: float) -> float:
        return _number(cfg, key, default, source)

    try:
        return WavLMConfig(
            kind=kind,
            sample_rate=sample_rate,
            waveform_eps=1e-5 if normalize else None,
            conv_layers=_conv_layers(cfg.get("conv_feature_layers"), source),
            conv_norm="layer" if cfg.get("extractor_mode", "default") == "layer_norm" else "group",
            conv_bias=bool(cfg.get("conv_bias", False)),
            feature_grad_mult=number("feature_grad_mult", 1.0),
            input_dropout=number("dropout_input", 0.0),
            time_mask=_spans(cfg, "mask", 0.65, 2, source),
            channel_mask=_spans(cfg, "mask_channel", 0.0, 0, source),
            encoder=EncoderConfig(
                dim=int(number("encoder_embed_dim", 768)),
                num_layers=int(number("encoder_layers", 12)),
                ffn_dim=int(number("encoder_ffn_embed_dim", 3072)),
                num_heads=int(number("encoder_attention_heads", 12)),
                norm="pre" if cfg.get("layer_norm_first", False) else "post",
                position_kernel=int(number("conv_pos", 128)),
                position_groups=int(number("conv_pos_groups", 16)),
                num_buckets=int(number("num_buckets", 320)) if relative else 0,
                max_distance=int(number("max_distance", 1280)) if relative else EncoderConfig().max_distance,
                dropout=number("dropout", 0.1),
                attention_dropout=number("attention_dropout", 0.1),
                activation_dropout=number("activation_dropout", 0.0),
                layer_drop=number("encoder_layerdrop", 0.0),
            ),
        )
    except ValueError as error:
        raise ModelError(f"{source}: {error}", code="model.config") from error


def fairseq_settings(config: WavLMConfig) -> dict[str, Any]:
    """The settings of an encoder under the names of Microsoft and fairseq."""
    encoder = config.encoder
    relative = encoder.num_buckets > 0
    return {
        "extractor_mode": "layer_norm" if config.conv_norm == "layer" else "default",
        "encoder_layers": encoder.num_layers,
        "encoder_embed_dim": encoder.dim,
        "encoder_ffn_embed_dim": encoder.ffn_dim,
        "encoder_attention_heads": encoder.num_heads,
        "activation_fn": "gelu",
        "layer_norm_first": encoder.norm == "pre",
        "conv_feature_layers": str([tuple(layer) for layer in config.conv_layers]),
        "conv_bias": config.conv_bias,
        "feature_grad_mult": config.feature_grad_mult,
        "normalize": config.waveform_eps is not None,
        "dropout": encoder.dropout,
        "attention_dropout": encoder.attention_dropout,
        "activation_dropout": encoder.activation_dropout,
        "encoder_layerdrop": encoder.layer_drop,
        "dropout_input": config.input_dropout,
        **_span_settings(config.time_mask, "mask"),
        **_span_settings(config.channel_mask, "mask_channel"),
        "conv_pos": encoder.position_kernel,
        "conv_pos_groups": encoder.position_groups,
        "relative_position_embedding": relative,
        **({"num_buckets": encoder.num_buckets, "max_distance": encoder.max_distance} if relative else {}),
        "gru_rel_pos": relative,
    }


def make_container(model: WavLM | WavLMForCTC | WavLMForUnits) -> dict[str, Any]:
    """What a file of Microsoft (a bare encoder) or fairseq (with a head) holds, of plain values and tensors.

    Raises:
        ModelError: these files have no place for such a network.
    """
    encoder = model if isinstance(model, WavLM) else model.encoder
    config = encoder.config
    if not config.feature_norm:
        raise ModelError("Microsoft's and fairseq's files have no place for a model without feature norm")
    state = model.state_dict()
    names = fairseq_names(state, config.conv_norm)
    tensors = {names[n]: t.detach().cpu().clone() for n, t in state.items()}
    settings = fairseq_settings(config)
    if isinstance(model, WavLM):  # Microsoft's code passes over settings that it does not know
        more: dict[str, Any] = {} if config.kind == "wavlm" else {"_name": config.kind}
        more |= {} if config.sample_rate == 16000 else {"sample_rate": config.sample_rate}
        return {"cfg": settings | more, "model": tensors}
    network, tuning_task, pretraining_task = _FAIRSEQ[config.kind]
    waves = {"data": ".", "normalize": settings["normalize"], "sample_rate": config.sample_rate}
    task: dict[str, Any] = waves | {"_name": pretraining_task}
    if config.kind != "wav2vec2":
        rate = {"label_rate": int(config.frame_rate) if config.frame_rate.is_integer() else config.frame_rate}
        task |= rate | {"labels": _label_sets(model) if isinstance(model, WavLMForUnits) else [_UNITS]}
        settings |= rate  # fairseq would look for it at the root of the tree
    if isinstance(model, WavLMForCTC):
        inner = {"_name": None, "model": settings | {"_name": config.kind}, "task": task}
        outer = {"_name": network, "final_dropout": model.dropout.p, "w2v_args": inner}
        outer |= {outside: settings[inside] for outside, inside in _FINE_TUNING.items()}
        no_units = {} if config.kind == "wav2vec2" else {"task_state": {"dictionaries": [None]}}
        return _fairseq_file(outer, waves | tuning_task, tensors) | no_units
    if config.kind == "wav2vec2":
        raise ModelError("fairseq has no wav2vec 2.0 that predicts units", code="model.unsupported")
    head = {
        "_name": config.kind,
        "final_dim": model.settings.embedding_dim or 0,
        "untie_final_proj": model.settings.own_projections,
        "target_glu": model.settings.target_glu,
        "logit_temp": model.settings.temperature,
        "num_classes": list(model.num_classes),
    }
    return _fairseq_file(settings | head, task, tensors)


def dictionaries(model: WavLM | WavLMForCTC | WavLMForUnits) -> dict[str, str]:
    """The dictionaries that belong beside a file, name to content: fairseq looks for them in its setting task.data.

    Raises:
        ModelError: a vocabulary that fairseq's dictionaries cannot hold.
    """
    if isinstance(model, WavLMForCTC):
        return {f"dict.{_LETTERS}.txt": dictionary_text(model.vocabulary)}
    if isinstance(model, WavLMForUnits):
        units = [range(count - _NUM_SPECIALS) for count in model.num_classes]
        names = _label_sets(model)
        return {f"dict.{n}.txt": "".join(f"{i} 1\n" for i in ids) for n, ids in zip(names, units, strict=True)}
    return {}


def _label_sets(model: WavLMForUnits) -> list[str]:
    count = len(model.num_classes)
    return [_UNITS] if count == 1 else [f"{_UNITS}{i}" for i in range(count)]


def _fairseq_file(model: Mapping[str, Any], task: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """A file with what fairseq's loader asks for, as if no update had been made."""
    history = {"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}
    return {
        "args": None,
        "cfg": {"_name": None, "model": model, "task": task},
        "model": tensors,
        "optimizer_history": [history],
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}},
    }


def _kind(cfg: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Literal["wavlm", "hubert", "wav2vec2"]:
    if cfg.get("relative_position_embedding"):
        return "wavlm"
    name = str(cfg.get("_name") or cfg.get("arch") or "")
    wav2vec2 = name.startswith("wav2vec") or any("quantizer." in key for key in tensors)
    return "wav2vec2" if wav2vec2 else "hubert"


def _number(cfg: Mapping[str, Any], key: str, default: float, source: str | Path) -> float:
    value = cfg.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModelError(f"{source}: setting {key}={value!r} is no number", code="model.config")
    return value


def _spans(cfg: Mapping[str, Any], name: str, prob: float, min_spans: int, source: str | Path) -> SpanConfig:
    return SpanConfig(
        prob=_number(cfg, f"{name}_prob", prob, source),
        length=int(_number(cfg, f"{name}_length", 10, source)),
        selection=str(cfg.get(f"{name}_selection", "static")),
        other=_number(cfg, f"{name}_other", 0.0, source),
        no_overlap=bool(cfg.get(f"no_{name}_overlap", False)),
        min_space=int(_number(cfg, f"{name}_min_space", 1, source)),
        min_spans=min_spans,
    )


def _span_settings(spans: SpanConfig, name: str) -> dict[str, Any]:
    return {
        f"{name}_length": spans.length,
        f"{name}_prob": spans.prob,
        f"{name}_selection": spans.selection,
        f"{name}_other": spans.other,
        f"no_{name}_overlap": spans.no_overlap,
        f"{name}_min_space": spans.min_space,
    }


def _conv_layers(value: Any, source: str | Path) -> tuple[tuple[int, int, int], ...]:
    """The layers of the front end: code in a text, of which sums, multiples and lists of triples are understood."""
    if value is None:
        return WavLMConfig().conv_layers
    try:
        layers = _evaluate(ast.parse(value.strip(), mode="eval").body) if isinstance(value, str) else value
        triples = tuple((int(c), int(k), int(s)) for c, k, s in layers)
    except (SyntaxError, TypeError, ValueError) as error:
        raise ModelError(f"{source}: conv_feature_layers={value!r} is not understood", code="model.config") from error
    return triples


def _evaluate(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=int() as number):
            return number
        case ast.List(elts=items):
            return [_evaluate(i) for i in items]
        case ast.Tuple(elts=items):
            return tuple(_evaluate(i) for i in items)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _evaluate(left) + _evaluate(right)
        case ast.BinOp(left=left, op=ast.Mult(), right=ast.Constant(value=int() as times)) if 0 <= times <= 64:
            return _evaluate(left) * times
    raise ValueError(ast.dump(node))


def _num_classes(cfg: Mapping[str, Any], container: Any, num_rows: int, source: Path) -> list[int]:
    state = container.get("task_state")
    dictionaries = state.get("dictionaries") if isinstance(state, Mapping) else None
    if isinstance(cfg.get("num_classes"), list):
        counts = [int(n) for n in cfg["num_classes"]]
    elif dictionaries:
        counts = [len(_symbols(d) or ()) for d in dictionaries]
    else:
        counts = [num_rows]
    if sum(counts) != num_rows:
        raise ModelError(f"{source}: {num_rows} class embeddings for label sets of {counts} classes")
    return counts


def _vocabulary(container: Any, tensors: Mapping[str, Tensor], source: Path, vocab: Path | None) -> Vocabulary:
    num_rows = len(tensors["w2v_encoder.proj.weight"]) if "w2v_encoder.proj.weight" in tensors else 0
    state = container.get("task_state")
    symbols = _symbols(state.get("target_dictionary")) if isinstance(state, Mapping) else None
    beside = source.parent / "dict.ltr.txt"
    if vocab is not None:
        vocabulary = read_vocabulary(vocab)
    elif symbols is not None:
        vocabulary = fairseq_vocabulary(symbols)
    elif beside.exists():
        vocabulary = read_vocabulary(beside)
    else:
        vocabulary = guessed_vocabulary(num_rows, source)
    if len(vocabulary) != num_rows:
        raise ModelError(
            f"{source}: {num_rows} rows in the CTC head, {len(vocabulary)} symbols in the vocabulary",
            hint="give its own: --vocab dict.ltr.txt",
            code="model.vocabulary",
        )
    return vocabulary


def _symbols(dictionary: Any) -> list[str] | None:
    """The symbols of fairseq's Dictionary."""
    state = dictionary.state if isinstance(dictionary, Record) else None
    symbols = state.get("symbols") if isinstance(state, Mapping) else None
    return [str(s) for s in symbols] if isinstance(symbols, list) else None
