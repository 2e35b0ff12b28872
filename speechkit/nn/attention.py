"""Self-attention over frames. B utterances, F frames, D width, H heads, K head width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechkit.nn.linear import Linear


class Attention(nn.Module):
    """Multi-head self-attention, with a gate on the relative position bias where `gated`.

    Source of the gate: Chen et al., "WavLM" (2022), equations (3) to (6), in the form of the released code: with
    (a, b) = sigmoid(gate(x_h)) the bias of a query is multiplied by a · (b · gate_scale − 1) + 2. The gate sees the
    input of this module, split into heads, before the query projection.
    """

    def __init__(self, dim: int, num_heads: int, *, dropout: float, gated: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = Linear(dim, dim)
        self.key = Linear(dim, dim)
        self.value = Linear(dim, dim)
        self.output = Linear(dim, dim)
        if gated:
            self.gate = nn.Linear(dim // num_heads, 8)  # as published: two numbers, each the sum of four rows
            self.gate_scale = nn.Parameter(torch.ones(1, num_heads, 1, 1))
        self.gated = gated

    def forward(self, x: Tensor, bias: Tensor | None, valid: Tensor | None) -> Tensor:
        """Attend.

        Args:
            x: float `(B, F, D)`.
            bias: float `(H, F, F)` for the gate to scale; None without one.
            valid: bool `(B, F)`, true where a frame may be attended to, at least once a row; None: everywhere.
        """
        q, k, v = (self._split(project(x)) for project in (self.query, self.key, self.value))  # (B, H, F, K)
        mask = None if valid is None else valid[:, None, None]
        if bias is not None:
            added = self.gates(x).to(q.dtype) * bias.to(q.dtype)
            mask = added if mask is None else added.masked_fill_(~mask, -torch.inf)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return self.output(y.transpose(1, 2).reshape(x.shape))

    def gates(self, x: Tensor) -> Tensor:
        """The factor of the bias for every head and query, `(B, H, F, 1)`, from the input `(B, F, D)`."""
        weight, bias = self.gate.weight.view(2, 4, -1).sum(1), self.gate.bias.view(2, 4).sum(1)
        a, b = F.linear(self._split(x), weight, bias).sigmoid().chunk(2, dim=-1)
        return a * (b * self.gate_scale - 1) + 2

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
