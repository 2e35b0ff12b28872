"""Our own model folders of these networks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from torch import nn

from speechkit.checkpoints.folder import WEIGHTS, read_settings, write_folder
from speechkit.checkpoints.weights import Hollow, fill, read_safetensors
from speechkit.decode.vocabulary import Vocabulary
from speechkit.models.wavlm.config import WavLMConfig
from speechkit.models.wavlm.heads import UnitHead, WavLMForCTC, WavLMForUnits
from speechkit.models.wavlm.model import WavLM

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderFile:
    """config.json of an encoder."""

    kind: Literal["wavlm"] = "wavlm"
    encoder: WavLMConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitsFile:
    """config.json of a model in pre-training."""

    kind: Literal["wavlm-units"] = "wavlm-units"
    encoder: WavLMConfig
    num_classes: tuple[int, ...]
    head: UnitHead


@dataclass(frozen=True, kw_only=True, slots=True)
class CTCFile:
    """config.json of a model with a CTC head."""

    kind: Literal["wavlm-ctc"] = "wavlm-ctc"
    encoder: WavLMConfig
    vocabulary: Vocabulary
    final_dropout: float = 0.0


def save(model: WavLM | WavLMForUnits | WavLMForCTC, folder: str | Path) -> None:
    """Write a model folder, whole or not at all."""
    write_folder(folder, _settings(model), model.state_dict(), _card(model))


def read_encoder(folder: Path) -> WavLM:
    """Read the folder of an encoder; like the other readers it raises ModelError where files are damaged."""
    settings = read_settings(folder, EncoderFile)
    with Hollow():
        model = WavLM(settings.encoder)
    return _filled(model, folder)


def read_units(folder: Path) -> WavLMForUnits:
    """Read the folder of a model in pre-training."""
    settings = read_settings(folder, UnitsFile)
    with Hollow():
        model = WavLMForUnits(settings.encoder, settings.num_classes, settings.head)
    return _filled(model, folder)


def read_ctc(folder: Path) -> WavLMForCTC:
    """Read the folder of a model with a CTC head."""
    settings = read_settings(folder, CTCFile)
    with Hollow():
        model = WavLMForCTC(settings.encoder, settings.vocabulary, final_dropout=settings.final_dropout)
    return _filled(model, folder)


def _filled(model: Network, folder: Path) -> Network:
    fill(model, read_safetensors(folder / WEIGHTS), source=folder / WEIGHTS)
    model.eval()
    return model


def _settings(model: WavLM | WavLMForUnits | WavLMForCTC) -> EncoderFile | UnitsFile | CTCFile:
    if isinstance(model, WavLMForUnits):
        return UnitsFile(encoder=model.encoder.config, num_classes=model.num_classes, head=model.settings)
    if isinstance(model, WavLMForCTC):
        return CTCFile(encoder=model.encoder.config, vocabulary=model.vocabulary, final_dropout=model.dropout.p)
    return EncoderFile(encoder=model.config)


def _card(model: WavLM | WavLMForUnits | WavLMForCTC) -> str:
    config = model.config if isinstance(model, WavLM) else model.encoder.config
    waveform = "as they are" if config.waveform_eps is None else "normalized to mean 0 and variance 1"
    lines = [
        f"- network: {config.kind}, {config.encoder.num_layers} layers of width {config.encoder.dim}",
        f"- parameters: {sum(p.numel() for p in model.parameters()):,}",
        f"- input: waveforms at {config.sample_rate} Hz, {waveform}",
        f"- output: {config.frame_rate:g} frames a second",
    ]
    if isinstance(model, WavLMForCTC):
        lines.append(f"- text: CTC over {len(model.vocabulary)} symbols ({model.vocabulary.pieces})")
    if isinstance(model, WavLMForUnits):
        lines.append(f"- predicts hidden units: {' and '.join(map(str, model.num_classes))} classes")
    return f"# {type(model).__name__}\n\n" + "\n".join(lines) + '\n\nLoad it with `speechkit.load("FOLDER")`.\n'
