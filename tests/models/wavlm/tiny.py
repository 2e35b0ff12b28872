"""Networks small enough for tests, with weights that make every part count."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from speechkit.decode.vocabulary import Vocabulary
from speechkit.models.wavlm.config import WavLMConfig
from speechkit.models.wavlm.heads import UnitHead, WavLMForCTC, WavLMForUnits
from speechkit.models.wavlm.model import WavLM
from speechkit.nn.encoder_config import EncoderConfig

CONVS = ((16, 10, 5), (16, 3, 2), (16, 3, 2), (16, 3, 2), (16, 3, 2), (16, 2, 2), (16, 2, 2))
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
LETTERS = Vocabulary((*SPECIALS, "|", *"ETAOIN'"), blank=0)

ENCODER = EncoderConfig(
    dim=32,
    num_layers=2,
    ffn_dim=48,
    num_heads=4,
    position_kernel=16,
    position_groups=4,
    num_buckets=32,
    max_distance=40,
    init_std=0.3,
)


def config(kind: str = "wavlm", size: str = "base", **settings: Any) -> WavLMConfig:
    """A tiny network of a kind: like the base models or like the large ones."""
    encoder = ENCODER if kind == "wavlm" else replace(ENCODER, num_buckets=0, max_distance=800)
    if size == "large":
        settings = {"conv_norm": "layer", "waveform_eps": 1e-5, "conv_bias": kind == "wav2vec2"} | settings
        encoder = replace(encoder, norm="pre")
    return WavLMConfig(**({"kind": kind, "conv_layers": CONVS, "encoder": encoder} | settings))


def encoder(*arguments: Any, **settings: Any) -> WavLM:
    torch.manual_seed(0)
    return shaken(WavLM(config(*arguments, **settings)))


def recognizer(*arguments: Any, vocabulary: Vocabulary = LETTERS, **settings: Any) -> WavLMForCTC:
    torch.manual_seed(0)
    return shaken(WavLMForCTC(config(*arguments, **settings), vocabulary, final_dropout=0.1))


def predictor(*arguments: Any, num_classes: tuple[int, ...] = (11, 7), head: UnitHead | None = None) -> WavLMForUnits:
    torch.manual_seed(0)
    return shaken(WavLMForUnits(config(*arguments), num_classes, head or UnitHead(embedding_dim=12)))


def shaken(network: Any) -> Any:
    """Norms, biases and gains away from where they begin, so that a mix-up of two shows."""
    for parameter in network.parameters():
        if parameter.dim() == 1 or parameter.shape[:2] == (1, 1) or parameter.dim() == 4:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return network.eval()
