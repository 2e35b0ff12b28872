"""WavLM, and HuBERT and wav2vec 2.0, which are the same network without the gated relative position bias.

Sources: Chen et al., "WavLM" (2022); Hsu et al., "HuBERT" (2021); Baevski et al., "wav2vec 2.0" (2020).
B utterances, T samples, F frames, C channels of the front end, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from speechkit.models.wavlm.config import WavLMConfig
from speechkit.nn.conv_front_end import ConvFrontEnd
from speechkit.nn.encoder import Encoder
from speechkit.nn.states import States, stack_states

_SPARE_FRAMES = 100  # of padding a row: with more of it a CPU is faster one row at a time


class WavLM(nn.Module):
    """Waveforms to frame states, 50 a second in the published models."""

    def __init__(self, config: WavLMConfig) -> None:
        super().__init__()
        self.config = config
        channels, dim = config.conv_layers[-1][0], config.encoder.dim
        self.front_end = ConvFrontEnd(
            config.conv_layers,
            config.conv_norm,
            bias=config.conv_bias,
            published_group_norm=config.published_group_norm,
        )
        self.feature_norm = nn.LayerNorm(channels) if config.feature_norm else nn.Identity()
        self.feature_projection = nn.Linear(channels, dim) if channels != dim else nn.Identity()
        self.input_dropout = nn.Dropout(config.input_dropout)
        self.mask_embedding = nn.Parameter(torch.empty(dim).uniform_())
        self.transformer = Encoder(config.encoder)

    def forward(
        self,
        waves: Tensor,
        lengths: Tensor,
        *,
        mask: Tensor | None = None,
        channel_mask: Tensor | None = None,
        layers: bool = False,
        last_layer: int | None = None,
        dropped_layers: frozenset[int] = frozenset(),
    ) -> States:
        """Encode a padded batch.

        Args:
            waves: float `(B, T)`, normalized where `config.waveform_eps` says so, padded with zeros.
            lengths: int64 `(B,)` samples. A row shorter than one frame gets 0 frames. On the CPU they tell without
                waiting for another device whether anything is padded; if not, attention takes a faster kernel.
            mask: bool `(B, F)`, true where the frame is replaced by the mask embedding. With fewer columns than there
                are frames, the last frames are cut off: those that have no labels in pre-training.
            channel_mask: bool `(B, D)`, true where a channel is set to 0.
            layers: return the states of all layers.
            last_layer: stop after this many layers; the output then is raw, without the final norm.
            dropped_layers: layers to skip, counted from 0; never 0 itself.

        Raises:
            ValueError: T is shorter than one frame.
        """
        if waves.shape[1] < self.config.field_samples:
            raise ValueError(f"{waves.shape[1]} samples: one frame takes {self.config.field_samples}")
        if self._spares_padding(waves, lengths):
            rows = self._one_by_one(waves, lengths, mask, channel_mask, layers, last_layer, dropped_layers)
            num_frames = int(self.num_frames(torch.tensor(waves.shape[1])))
            return stack_states(rows, num_frames if mask is None else min(num_frames, mask.shape[1]))
        features = self.features(waves, lengths.to(waves.device))
        if mask is not None:
            features = features[:, : mask.shape[1]]
        frames = self._valid_lengths(lengths, waves.shape[1], features.shape[1])
        x = self.project(features)
        if mask is not None:
            x = torch.where(mask[:, :, None], self.mask_embedding.to(x.dtype), x)
        if channel_mask is not None:
            x = x.masked_fill(channel_mask[:, None], 0.0)
        output, states = self.transformer(
            x, frames, layers=layers, last_layer=last_layer, dropped_layers=dropped_layers
        )
        return States(
            output=output,
            lengths=frames.to(output.device),
            frame_rate=self.config.frame_rate,
            layers=states,
            features=features,
        )

    def features(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """The front end's output `(B, F, C)`, its gradient scaled."""
        scale = self.config.feature_grad_mult
        with torch.set_grad_enabled(torch.is_grad_enabled() and scale > 0):
            features: Tensor = self.front_end(waves, lengths)
        return features if scale in (0.0, 1.0) or not features.requires_grad else scale_gradient(features, scale)

    def project(self, features: Tensor) -> Tensor:
        """Features `(B, F, C)` to the width of the Transformer, `(B, F, D)`."""
        return self.input_dropout(self.feature_projection(self.feature_norm(features)))

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.config.frame_rate

    def num_frames(self, lengths: Tensor) -> Tensor:
        """How many frames each of `(B,)` lengths in samples gives; 0 below `config.field_samples`."""
        return self.front_end.num_frames(lengths)

    def _spares_padding(self, waves: Tensor, lengths: Tensor) -> bool:
        """Whether a CPU would spend its time on padding, and a row is the same without it."""
        if waves.device.type != "cpu" or torch.compiler.is_compiling():
            return False
        if self.config.published_group_norm or self.config.frame_rule == "chunk":
            return False
        padding = waves.numel() - int(lengths.sum())
        return padding > _SPARE_FRAMES * self.config.hop_samples * len(waves)

    def _one_by_one(
        self,
        waves: Tensor,
        lengths: Tensor,
        mask: Tensor | None,
        channel_mask: Tensor | None,
        layers: bool,
        last_layer: int | None,
        dropped_layers: frozenset[int],
    ) -> list[States]:
        """Each row as a batch of its own, without padding."""
        samples = lengths.clamp(min=self.config.field_samples)
        sizes = zip(samples.tolist(), self.num_frames(samples).tolist(), strict=True)
        return [
            self(
                waves[n : n + 1, :row_samples],
                lengths[n : n + 1],
                mask=None if mask is None else mask[n : n + 1, :row_frames],
                channel_mask=None if channel_mask is None else channel_mask[n : n + 1],
                layers=layers,
                last_layer=last_layer,
                dropped_layers=dropped_layers,
            )
            for n, (row_samples, row_frames) in enumerate(sizes)
        ]

    def _valid_lengths(self, lengths: Tensor, num_samples: int, num_frames: int) -> Tensor:
        if self.config.frame_rule == "chunk":
            return chunk_rule_frames(lengths, num_samples, num_frames)
        return self.num_frames(lengths).clamp(max=num_frames)


def chunk_rule_frames(lengths: Tensor, num_samples: int, num_frames: int) -> Tensor:
    """The valid frames of each row as the original code counts them.

    It cuts the padded row into as many chunks as there are frames; a frame is padding when its whole chunk is.

    Args:
        lengths: int64 `(B,)` samples.
        num_samples: T of the padded batch.
        num_frames: F.
    """
    chunk = num_samples // num_frames
    return (lengths + chunk - 1).div(chunk, rounding_mode="floor").clamp(max=num_frames)


def scale_gradient(x: Tensor, scale: float) -> Tensor:
    """The same numbers, whose gradient is multiplied by `scale`."""
    scaled: Tensor = _ScaleGradient.apply(x, scale)  # type: ignore[no-untyped-call]
    return scaled


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.scale, None
