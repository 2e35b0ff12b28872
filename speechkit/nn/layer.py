"""One layer of an encoder: attention and a feed-forward network, each with a residual connection and a norm."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from speechkit.nn.attention import Attention
from speechkit.nn.linear import Linear, gelu


class EncoderLayer(nn.Module):
    """A Transformer layer with its norms after the residual additions (`post`) or before attention and network (`pre`).

    Source: Vaswani et al., "Attention is all you need" (2017), section 3.
    """

    def __init__(
        self,
        dim: int,
        ffn_dim: int,
        num_heads: int,
        *,
        norm: Literal["post", "pre"],
        gated: bool,
        dropout: float,
        attention_dropout: float,
        activation_dropout: float,
    ) -> None:
        super().__init__()
        self.attention = Attention(dim, num_heads, dropout=attention_dropout, gated=gated)
        self.attention_norm = nn.LayerNorm(dim)
        self.fc1 = Linear(dim, ffn_dim)
        self.fc2 = Linear(ffn_dim, dim)
        self.ffn_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.activation_dropout = nn.Dropout(activation_dropout)
        self.pre_norm = norm == "pre"

    def forward(self, x: Tensor, bias: Tensor | None, valid: Tensor | None) -> Tensor:
        """Float `(B, F, D)` to the same; bias and valid as in `Attention`."""
        if self.pre_norm:
            x = x + self.dropout(self.attention(self.attention_norm(x), bias, valid))
            return x + self._feed_forward(self.ffn_norm(x))
        x = self.attention_norm(x + self.dropout(self.attention(x, bias, valid)))
        return self.ffn_norm(x + self._feed_forward(x))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.fc2(self.activation_dropout(gelu(self.fc1(x)))))
