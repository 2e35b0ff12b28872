"""Goldens of the network: forward passes, both padding rules, published files, presets, losses and gradients."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from speechkit.audio.normalize import normalize
from speechkit.data.batch import Batch
from speechkit.decode.ctc import greedy
from speechkit.errors import ModelError
from speechkit.models.wavlm.config import PRESETS, WavLMConfig
from speechkit.models.wavlm.fairseq import encoder_config, read_container
from speechkit.models.wavlm.heads import UnitHead, WavLMForCTC, WavLMForUnits
from speechkit.models.wavlm.keys import fairseq_names, transformers_names
from speechkit.models.wavlm.model import WavLM, chunk_rule_frames
from speechkit.models.wavlm.published import read_hf, read_original
from speechkit.nn.lengths import valid_frames
from speechkit.nn.positions import distance_buckets
from speechkit.objectives.ctc import ctc_losses
from speechkit.objectives.masked_units import MaskedUnits, duplicates, unit_losses
from tests.golden.golden import Case

Network = WavLM | WavLMForUnits | WavLMForCTC


def of_original(case: Case) -> Network:
    """The network of settings and weights under the original names."""
    container = {"cfg": case.config, "model": case.tensors("weights.safetensors")}
    return read_container(container, case.folder)


@contextmanager
def hf_folder(case: Case, weights: str, **files: Any) -> Iterator[Path]:
    """A transformers folder of a case that stores config.json and the weights apart."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.json").write_text((case.folder / "config.json").read_text())
        (folder / "model.safetensors").write_bytes((case.folder / weights).read_bytes())
        files.setdefault("preprocessor_config", {"do_normalize": bool(case.config.get("normalize"))})
        for stem, content in files.items():
            (folder / f"{stem}.json").write_text(json.dumps(content))
        yield folder


def under(model: Network, **settings: Any) -> Network:
    """The same weights under other settings of the encoder."""
    encoder = model if isinstance(model, WavLM) else model.encoder
    config = replace(encoder.config, **settings)
    if isinstance(model, WavLM):
        other: Network = WavLM(config)
    elif isinstance(model, WavLMForCTC):
        other = WavLMForCTC(config, model.vocabulary, final_dropout=model.dropout.p)
    else:
        other = WavLMForUnits(config, model.num_classes, model.settings)
    other.load_state_dict(model.state_dict())
    return other.train(model.training)


def as_published(model: Network) -> Network:
    """The same weights under the rules of the original code."""
    return under(model, frame_rule="chunk", published_group_norm=True)


# forward passes of padded batches


def is_forward(case: Case) -> bool:
    return case.has("weights_hf.safetensors", "gates", "layer_states", "lengths")


@torch.no_grad()
def check_forward(case: Case) -> None:
    loaded = of_original(case)
    waves, lengths = case.inputs["waveform"], case.inputs["lengths"]
    assert isinstance(loaded, WavLM)
    if "raw_waveform" in case.inputs:
        assert loaded.config.waveform_eps is not None
        normalized = normalize(case.inputs["raw_waveform"], lengths, loaded.config.waveform_eps)
        case.equal("waveform", normalized, waves, atol=1e-5)
    model = as_published(loaded)
    states = model(waves, lengths, layers=True)
    encoder, num_frames = model.transformer, states.output.shape[1]
    valid = valid_frames(states.lengths, num_frames)
    case.expect("conv_features", states.features.transpose(1, 2))
    case.expect("normed_features", model.feature_norm(states.features))
    projected = model.project(states.features)
    case.expect("projected_features", projected)
    case.expect("frame_padding_mask", ~valid)
    case.expect("pos_conv", encoder.positions(projected * valid[:, :, None]))
    frames = torch.arange(num_frames)
    config = model.config.encoder
    buckets = distance_buckets(frames[None] - frames[:, None], config.num_buckets, config.max_distance)
    case.expect("position_bucket", buckets)
    case.expect("position_bias", encoder.relative_bias(num_frames))
    inputs = [
        layer.attention_norm(x) if config.norm == "pre" else x
        for layer, x in zip(encoder.layers, states.layers[:-1], strict=True)
    ]
    gates = [layer.attention.gates(x)[..., 0] for layer, x in zip(encoder.layers, inputs, strict=True)]
    case.expect("gates", torch.stack(gates))
    case.expect("layer_states", torch.stack(states.layers))
    case.expect("last", states.output)
    for number, stored in enumerate(case.outputs["layer_states"]):
        case.equal(
            f"last_layer {number}", model(waves, lengths, last_layer=number).output, stored, atol=2e-5, rtol=1e-4
        )
    _check_shortest_alone(case, loaded)
    _check_transformers_twin(case, loaded)
    _check_bf16(case, model)


def _check_shortest_alone(case: Case, model: WavLM) -> None:
    lengths = case.inputs["lengths"]
    row = int(lengths.argmin())
    shortest = case.inputs["waveform"][row : row + 1, : int(lengths[row])]
    case.expect("shortest_alone_last", model(shortest, lengths[row : row + 1]).output)


def _check_transformers_twin(case: Case, original: WavLM) -> None:
    """The same weights in transformers' form, and what it makes of the batch, padding included."""
    with hf_folder(case, "weights_hf.safetensors") as folder:
        twin = read_hf(folder)
    for name, tensor in original.state_dict().items():
        case.equal(name, twin.state_dict()[name], tensor)
    states = under(twin, published_group_norm=True)(case.inputs["waveform"], case.inputs["lengths"], layers=True)
    valid = valid_frames(states.lengths, states.output.shape[1])
    case.expect("hf_frame_attention_mask", valid)
    case.expect("hf_last_hidden_state", states.output)
    ends = case.outputs["hf_hidden_states"][-1], case.outputs["hf_last_hidden_state"]
    normed = torch.equal(*ends)  # some releases of transformers end the list with the final norm
    case.expect("hf_hidden_states", torch.stack([*states.layers[:-1], states.output if normed else states.layers[-1]]))


def _check_bf16(case: Case, model: WavLM) -> None:
    """Half precision is at most twice as far from float32 as the original was."""
    bounds = case.take("bf16_reference_error")
    waves, lengths, last = case.inputs["waveform"], case.inputs["lengths"], case.outputs["last"]
    case.equal("reference_std", last.std(), bounds["reference_std"], rtol=0.02)
    with torch.autocast("cpu", torch.bfloat16):
        errors = {"autocast_bf16": (model(waves, lengths).output.float() - last).abs()}
    half = under(model).bfloat16()
    errors["full_bf16"] = (half(waves.bfloat16(), lengths).output.float() - last).abs()
    for name, error in errors.items():
        assert error.max() < 2 * bounds[f"{name}_max_abs"], f"{name}: largest error {error.max()}"
        assert error.mean() < 2 * bounds[f"{name}_mean_abs"], f"{name}: mean error {error.mean()}"


# single recordings from one frame on


def is_lengths(case: Case) -> bool:
    return case.has("weights.safetensors") and any(n.startswith("waveform_") for n in case.inputs)


@torch.no_grad()
def check_lengths(case: Case) -> None:
    model = of_original(case)
    for name, waves in case.inputs.items():
        size = name.removeprefix("waveform_")
        states = model(waves, torch.tensor([waves.shape[1]]), layers=True)
        case.expect(f"conv_features_{size}", states.features.transpose(1, 2))
        case.expect(f"pos_conv_{size}", model.transformer.positions(model.project(states.features)))
        bias = model.transformer.relative_bias(states.output.shape[1])
        case.expect(f"position_bias_{size}", bias[:, : case.outputs[f"position_bias_{size}"].shape[1]])
        case.expect(f"layer_states_{size}", torch.stack(states.layers))
        case.expect(f"last_{size}", states.output)


# which frames are valid


def is_padding_rules(case: Case) -> bool:
    return case.has("batches", "chunk_mask_0")


def check_padding_rules(case: Case) -> None:
    network = WavLM(WavLMConfig(conv_layers=tuple((8, k, s) for k, s in case.config["conv"])))
    found = []
    for number in range(len(case.json["batches"])):
        lengths = case.inputs[f"lengths_{number}"]
        num_samples = int(lengths.max())
        num_frames = int(network.num_frames(lengths).max())
        chunk = chunk_rule_frames(lengths, num_samples, num_frames)
        conv = network.num_frames(lengths)
        conv = torch.where(conv > 0, conv, num_frames)  # transformers takes rows without a frame for full; ours has 0
        for name, frames, sense in (("chunk", chunk, False), ("conv", conv, True)):
            case.expect(f"{name}_valid_frames_{number}", frames)
            mask = valid_frames(frames, num_frames)
            stored = f"{name}_valid_mask_{number}" if sense else f"{name}_mask_{number}"
            case.expect(stored, mask if sense else ~mask)
        found.append(
            {
                "lengths": lengths.tolist(),
                "frames": num_frames,
                "extra": num_samples % num_frames,
                "chunk": num_samples // num_frames,
                "chunk_valid": chunk.tolist(),
                "conv_valid": conv.tolist(),
            }
        )
    case.equal("batches", found, case.take("batches"))


# published files


def is_container(case: Case) -> bool:
    return case.has("container.pt", "last", "waveform")


@torch.no_grad()
def check_container(case: Case) -> None:
    models: list[Network] = [read_original(case.folder / "container.pt")]
    if (case.folder / "hf").is_dir():
        models.append(read_hf(case.folder / "hf"))
    waves = case.inputs["waveform"]
    lengths = torch.tensor([waves.shape[1]])
    for model in models:
        encoder = model if isinstance(model, WavLM) else model.encoder
        assert (encoder.config.waveform_eps is not None) == case.config["normalize"]
        if encoder.config.waveform_eps == 1e-5:  # the stored waveform was made with it
            normalized = normalize(case.inputs["raw_waveform"], lengths, 1e-5)
            case.equal("waveform", normalized, waves, atol=1e-5)
        case.expect("last", encoder(waves, lengths).output)
        if isinstance(model, WavLMForCTC):
            case.expect("logits", model(waves, lengths).logits)
            case.equal("vocab", list(model.vocabulary.symbols), case.config["vocab"])
            case.equal("blank", model.vocabulary.symbols[model.vocabulary.blank], case.config["blank"])


def is_recognizer(case: Case) -> bool:
    return case.has("ids", "texts", "waveform_0")


@torch.no_grad()
def check_recognizer(case: Case) -> None:
    file = case.folder / "container.pt"
    model = read_original(file) if file.exists() else read_hf(case.folder / "hf")
    assert isinstance(model, WavLMForCTC)
    ids, texts = [], []
    for number in range(len(case.inputs)):
        waves = case.inputs[f"waveform_{number}"][None]
        lengths = torch.tensor([waves.shape[1]])
        if model.encoder.config.waveform_eps is not None:
            waves = normalize(waves, lengths, model.encoder.config.waveform_eps)
        output = model(waves, lengths)
        case.expect(f"logits_{number}", output.logits[0])
        ids.append(output.logits[0].argmax(-1).tolist())
        texts.append(model.vocabulary.text(greedy(output.logits, output.lengths, blank=model.vocabulary.blank)[0]))
    case.equal("ids", ids, case.take("ids"))
    case.equal("texts", texts, case.take("texts"))


def is_refusal(case: Case) -> bool:
    return case.has("must_say", "hf")


def check_refusal(case: Case) -> None:
    with pytest.raises(ModelError) as refused:
        read_hf(case.folder / "hf")
    said = case.take("must_say")
    case.equal("must_say", said if said in str(refused.value) else str(refused.value), said)


# names, shapes and numbers of parameters at full size


def is_preset(case: Case) -> bool:
    return case.has("full.keys.json")


def check_preset(case: Case) -> None:
    stored = json.loads((case.folder / "full.keys.json").read_text())
    shapes = stored["preset"]
    width = shapes["mask_emb" if "mask_emb" in shapes else "masked_spec_embed"][0]
    presets = [p for name, p in PRESETS.items() if name.startswith("wavlm-") and p.encoder.dim == width]
    assert presets
    for config in presets:
        with torch.device("meta"):
            network = _preset_network(config, shapes)
        state = network.state_dict()
        original = "mask_emb" in shapes
        names = fairseq_names(state, config.conv_norm) if original else transformers_names(state, "")
        case.equal("preset", {names[n]: list(t.shape) for n, t in state.items()}, shapes)
        case.equal("parameters", sum(p.numel() for p in network.parameters()), stored["parameters"])
        for settings in (stored.get("config"), case.config):
            if settings:
                ours = encoder_config(settings, case.folder, normalize=settings["normalize"], kind="wavlm")
                assert ours == config


def _preset_network(config: WavLMConfig, shapes: Mapping[str, list[int]]) -> nn.Module:
    if "label_embs_concat" not in shapes:
        return WavLM(config)
    num_classes, width = shapes["label_embs_concat"]
    return WavLMForUnits(config, [num_classes], UnitHead(embedding_dim=width))


# losses and gradients


def expect_gradients(case: Case, network: nn.Module, names: Mapping[str, str]) -> None:
    """Compare the norm of every parameter's gradient; −1 stands for none."""
    for name, parameter in network.named_parameters():
        norm = torch.tensor(-1.0) if parameter.grad is None else parameter.grad.norm()
        case.expect(f"gradnorm/{names[name]}", norm)


def is_masked_prediction(case: Case) -> bool:
    return case.has("targets_0", "mask", "logits_masked_0", "weights.safetensors")


def check_masked_prediction(case: Case) -> None:
    model = as_published(of_original(case)).train()
    assert isinstance(model, WavLMForUnits)
    waves, lengths, mask = case.inputs["waveform"], case.inputs["lengths"], case.inputs["mask"]
    states = model.encoder(waves, lengths, mask=mask)
    valid = valid_frames(states.lengths, mask.shape[1])
    case.expect("x", states.output)
    case.expect("frame_padding_mask", ~valid)
    penalty = states.features.square().mean()
    case.expect("features_pen", penalty)
    parts = {"m": mask & valid} | ({} if case.config["skip_nomask"] else {"u": ~mask & valid})
    for letter, selected in parts.items():
        _check_predictions(case, model, states.output, letter, selected)
    size = valid.sum() if case.config["pred_nomask_weight"] else parts["m"].sum()
    case.expect("sample_size", size)
    case.expect("loss_features_pen", case.config["loss_weights"][0] * penalty * size)
    objective = MaskedUnits(
        num_frames=lambda n: chunk_rule_frames(n, waves.shape[1], mask.shape[1]),
        label_sets=_label_sets(case),
        masked_weight=case.config["pred_masked_weight"],
        unmasked_weight=case.config["pred_nomask_weight"],
        feature_penalty=case.config["loss_weights"][0],
    )
    batch = _unit_batch(case)
    losses = objective(model, batch, 0)
    loss = losses.total(objective.counts(batch)) * case.outputs["sample_size"]
    case.expect("loss", loss)
    loss.backward()
    expect_gradients(case, model, fairseq_names(model.state_dict(), model.encoder.config.conv_norm))


def _label_sets(case: Case) -> list[str]:
    return [f"units.{k}" for k in range(len(case.config["num_classes"]))]


def _unit_batch(case: Case) -> Batch:
    labels = {name: case.inputs[f"targets_{k}"] for k, name in enumerate(_label_sets(case))}
    num_rows = len(case.inputs["lengths"])
    return Batch(
        ids=[str(i) for i in range(num_rows)],
        number=0,
        epoch=0,
        waves=case.inputs["waveform"],
        lengths=case.inputs["lengths"],
        labels=labels,
        label_lengths={name: torch.full((num_rows,), t.shape[1]) for name, t in labels.items()},
        weights=torch.ones(num_rows),
        draws={"mask.time": case.inputs["mask"]},
    )


def _check_predictions(case: Case, model: WavLMForUnits, output: Tensor, letter: str, selected: Tensor) -> None:
    name = {"m": "masked", "u": "unmasked"}[letter]
    for k, (logits, embeddings) in enumerate(
        zip(model.logits(output[selected]), model.class_embeddings(), strict=True)
    ):
        targets = case.inputs[f"targets_{k}"][:, : selected.shape[1]][selected]
        positive = logits.gather(1, targets[:, None])
        negatives = logits.scatter(1, targets[:, None], -torch.inf)
        case.expect(f"logits_{name}_{k}", torch.cat([positive, negatives], 1))
        losses, correct = unit_losses(logits, targets, duplicates(embeddings))
        case.expect(f"loss_{letter}_{k}", losses.sum())
        case.expect(f"correct_{letter}_{k}", correct.sum())
        case.expect(f"count_{letter}_{k}", selected.sum())


def is_ctc_step(case: Case) -> bool:
    return case.has("labels", "attention_mask", "log_probs", "weights.safetensors")


def check_ctc_step(case: Case) -> None:
    vocabulary = {"<pad>": case.config["blank"]}
    vocabulary |= {f"<{i}>": i for i in range(case.config["vocab_size"]) if i != case.config["blank"]}
    with hf_folder(case, "weights.safetensors", vocab=vocabulary) as folder:
        loaded = read_hf(folder)
    model = under(loaded, published_group_norm=True, feature_grad_mult=0.0).train()
    assert isinstance(model, WavLMForCTC)
    lengths, labels = case.inputs["lengths"], case.inputs["labels"]
    valid = valid_frames(lengths, case.inputs["waveform"].shape[1])
    case.equal("attention_mask", valid.long(), case.inputs["attention_mask"])
    output = model(case.inputs["waveform"], lengths)
    target_lengths = (labels != -100).sum(1)
    case.expect("logits", output.logits)
    case.expect("log_probs", output.logits.log_softmax(-1))
    case.expect("greedy_ids", output.logits.argmax(-1))
    case.expect("input_lengths", output.lengths)
    case.expect("target_lengths", target_lengths)
    losses = ctc_losses(output.logits, output.lengths, labels, target_lengths, case.config["blank"])
    case.expect("loss_per_item", losses)
    case.expect("loss_sum", losses.sum())
    case.expect("loss_sentence_avg", losses.mean())
    case.expect("loss_mean_hf", (losses / target_lengths).mean())
    losses.sum().backward()
    expect_gradients(case, model, transformers_names(model.state_dict(), "wavlm."))


CHECKS = [
    (is_forward, check_forward),
    (is_refusal, check_refusal),
    (is_preset, check_preset),
    (is_recognizer, check_recognizer),
    (is_container, check_container),
    (is_masked_prediction, check_masked_prediction),
    (is_ctc_step, check_ctc_step),
    (is_lengths, check_lengths),
    (is_padding_rules, check_padding_rules),
]
