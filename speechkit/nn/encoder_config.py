"""Sizes and settings of the encoder, without torch, so that recipes can be planned without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderConfig:
    """Sizes and settings of an encoder; the defaults are those of WavLM Base.

    Attributes:
        dim: D.
        num_layers: number of layers.
        ffn_dim: width inside the feed-forward networks.
        num_heads: H.
        norm: after the residual additions (`post`) or before attention and feed-forward network (`pre`).
        position_kernel: taps of the positional convolution.
        position_groups: its groups.
        num_buckets: of the gated relative position bias; 0: there is none.
        max_distance: where its last bucket begins, about, in frames.
        dropout: of the input and of what attention and feed-forward networks add.
        attention_dropout: of the attention weights.
        activation_dropout: inside the feed-forward networks.
        layer_drop: probability to skip a layer in training; whoever trains draws and passes `dropped_layers`.
        init_std: standard deviation of the initial weights.
    """

    dim: int = 768
    num_layers: int = 12
    ffn_dim: int = 3072
    num_heads: int = 12
    norm: Literal["post", "pre"] = "post"
    position_kernel: int = 128
    position_groups: int = 16
    num_buckets: int = 320
    max_distance: int = 800
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.0
    layer_drop: float = 0.05
    init_std: float = 0.02

    def __post_init__(self) -> None:
        for name in ("dim", "ffn_dim", "num_heads", "position_kernel", "position_groups"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be positive")
        for name in ("dropout", "attention_dropout", "activation_dropout", "layer_drop"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be from 0 to less than 1")
        if self.dim % self.num_heads or self.dim % self.position_groups:
            raise ValueError(
                f"width {self.dim} must be a multiple of {self.num_heads} heads and {self.position_groups} groups"
            )
