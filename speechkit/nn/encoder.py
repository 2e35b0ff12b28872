"""The one encoder of all systems: a Transformer over frames. B utterances, F frames, D width, H heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from speechkit.nn.encoder_config import EncoderConfig
from speechkit.nn.layer import EncoderLayer
from speechkit.nn.lengths import valid_frames
from speechkit.nn.positions import ConvPositions, RelativeBias


class Encoder(nn.Module):
    """Positional convolution and Transformer layers; the relative position bias is made once for all layers.

    Attributes:
        recompute: in training, keep only the input of each layer and compute the rest again on the way back.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.recompute = False
        self.positions = ConvPositions(config.dim, config.position_kernel, config.position_groups)
        self.norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)
        gated = config.num_buckets > 0
        self.relative_bias = RelativeBias(config.num_buckets, config.max_distance, config.num_heads) if gated else None
        self.layers = nn.ModuleList(
            EncoderLayer(
                config.dim,
                config.ffn_dim,
                config.num_heads,
                norm=config.norm,
                gated=gated,
                dropout=config.dropout,
                attention_dropout=config.attention_dropout,
                activation_dropout=config.activation_dropout,
            )
            for _ in range(config.num_layers)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw linear maps and the bias table from N(0, init_std), biases 0 (BERT's initialization)."""
        for module in self.layers.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=self.config.init_std)
                nn.init.zeros_(module.bias)
        if self.relative_bias is not None:
            nn.init.normal_(self.relative_bias.weight, std=self.config.init_std)

    def forward(
        self,
        x: Tensor,
        lengths: Tensor,
        *,
        layers: bool = False,
        last_layer: int | None = None,
        dropped_layers: frozenset[int] = frozenset(),
    ) -> tuple[Tensor, list[Tensor]]:
        """Encode a padded batch.

        Args:
            x: float `(B, F, D)`.
            lengths: int64 `(B,)` frames, on any device; a row without any gives finite numbers that mean nothing.
            layers: collect the states.
            last_layer: stop after this many layers, without the final norm.
            dropped_layers: layers to skip, from 0; layer 0 cannot be.

        Returns:
            Output `(B, F, D)`, and if asked for the input of the first layer and the raw output of each layer.
        """
        self._check(last_layer, dropped_layers)
        valid = self._valid(lengths, x)
        x = self._enter(x, valid)
        states = [x]
        bias = None if self.relative_bias is None else self.relative_bias(x.shape[1])
        for number, layer in enumerate(self.layers[:last_layer]):
            x = x if number in dropped_layers else self._run(layer, x, bias, valid)
            states.append(x)
        if self.config.norm == "pre" and last_layer is None:
            x = self.norm(x)
        return x, states if layers else []

    def _run(self, layer: nn.Module, x: Tensor, bias: Tensor | None, valid: Tensor | None) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(layer, x, bias, valid, use_reentrant=False)
        return layer(x, bias, valid)

    def _check(self, last_layer: int | None, dropped_layers: frozenset[int]) -> None:
        if last_layer is not None and not 0 <= last_layer <= len(self.layers):
            raise ValueError(f"layer {last_layer} of an encoder that has {len(self.layers)}")
        if 0 in dropped_layers:
            raise ValueError("layer 0 cannot be dropped")

    def _valid(self, lengths: Tensor, x: Tensor) -> Tensor | None:
        """Bool `(B, F)`; None where nothing is padded and asking costs no synchronization with a device."""
        num_frames = x.shape[1]
        if lengths.device.type == "cpu" and bool((lengths >= num_frames).all()):
            return None
        return valid_frames(lengths.to(x.device).clamp(min=1), num_frames)  # attention to nothing would be NaN

    def _enter(self, x: Tensor, valid: Tensor | None) -> Tensor:
        if valid is not None:
            x = x.masked_fill(~valid[:, :, None], 0.0)
        x = x + self.positions(x)
        return self.dropout(self.norm(x) if self.config.norm == "post" else x)
