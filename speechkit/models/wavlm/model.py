"""WavLM, and HuBERT and wav2vec 2.0, which are the same network without the gated relative position bias.

Sources: Chen et al., "WavLM" (2022); Hsu et al., "HuBERT" (2021); Baevski et al., "wav2vec 2.0" (2020).
B utterances, T samples, F frames, C channels of the front end, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from speechkit.nn.conv_front_end import ConvFrontEnd
from speechkit.nn.encoder import Encoder, EncoderConfig
from speechkit.nn.states import States

_PUBLISHED_CONVS = ((512, 10, 5), (512, 3, 2), (512, 3, 2), (512, 3, 2), (512, 3, 2), (512, 2, 2), (512, 2, 2))


@dataclass(frozen=True, kw_only=True, slots=True)
class SpanConfig:
    """How spans were masked when a published model was trained: kept for its next training, not read by the network.

    Attributes:
        prob: masked share if no spans overlapped; 0: no masking.
        length: of a span.
        selection: how lengths are distributed: static, uniform, normal, poisson.
        other: the second parameter of that distribution.
        no_overlap: whether spans stay apart, by `min_space`.
        min_space: the least distance of spans that do not overlap.
        min_spans: spans an utterance at least.
    """

    prob: float = 0.0
    length: int = 10
    selection: str = "static"
    other: float = 0.0
    no_overlap: bool = False
    min_space: int = 1
    min_spans: int = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class WavLMConfig:
    """The network; the defaults are those of WavLM Base.

    Attributes:
        kind: whose network it is. WavLM has the relative position bias, the others have none.
        sample_rate: Hz.
        waveform_eps: each waveform is normalized to mean 0 and variance 1 over its own samples before it comes here,
            with this added to the variance (1e-5 in Microsoft's and fairseq's models, 1e-7 in transformers'); None:
            it comes as it is.
        conv_layers: (channels, kernel, stride) of the front end.
        conv_norm: of the front end, see `ConvFrontEnd`.
        conv_bias: whether its convolutions have biases.
        feature_norm: whether a LayerNorm comes before the projection to D.
        feature_grad_mult: factor of the gradient that enters the front end; 0 freezes it.
        input_dropout: after the projection.
        encoder: the Transformer.
        time_mask: spans of frames, as the model was trained.
        channel_mask: spans of channels.
        frame_rule: which frames of a padded row are valid. `conv`: those that the row alone would give. `chunk`: as
            the original code has it, often one more, which sees padding.
        published_group_norm: statistics over the padding too, see `ConvFrontEnd`.
    """

    kind: Literal["wavlm", "hubert", "wav2vec2"] = "wavlm"
    sample_rate: int = 16000
    waveform_eps: float | None = None
    conv_layers: tuple[tuple[int, int, int], ...] = _PUBLISHED_CONVS
    conv_norm: Literal["group", "layer"] = "group"
    conv_bias: bool = False
    feature_norm: bool = True
    feature_grad_mult: float = 0.1
    input_dropout: float = 0.1
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    time_mask: SpanConfig = field(default_factory=lambda: SpanConfig(prob=0.8))
    channel_mask: SpanConfig = field(default_factory=lambda: SpanConfig(min_spans=0))
    frame_rule: Literal["conv", "chunk"] = "conv"
    published_group_norm: bool = False

    def __post_init__(self) -> None:
        if (self.kind == "wavlm") != (self.encoder.num_buckets > 0):
            raise ValueError(f"{self.kind} with {self.encoder.num_buckets} buckets: WavLM alone has a relative bias")

    @property
    def hop_samples(self) -> int:
        """From the start of one frame to that of the next."""
        return math.prod(stride for _, _, stride in self.conv_layers)

    @property
    def field_samples(self) -> int:
        """What one frame sees; nothing shorter gives a frame."""
        samples = 1
        for _, kernel, stride in reversed(self.conv_layers):
            samples = (samples - 1) * stride + kernel
        return samples

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop_samples


def _large(**settings: Any) -> EncoderConfig:
    return EncoderConfig(dim=1024, num_layers=24, ffn_dim=4096, num_heads=16, **settings)


_LARGE = WavLMConfig(
    waveform_eps=1e-5,
    conv_norm="layer",
    feature_grad_mult=1.0,
    input_dropout=0.0,
    encoder=_large(norm="pre", dropout=0.0, attention_dropout=0.0, layer_drop=0.0),
)
_HUBERT_LARGE = replace(_LARGE, kind="hubert", encoder=replace(_LARGE.encoder, num_buckets=0))
_WAV2VEC2_BASE = WavLMConfig(kind="wav2vec2", encoder=EncoderConfig(num_buckets=0), time_mask=SpanConfig(prob=0.65))

PRESETS = {
    "wavlm-base": WavLMConfig(),
    "wavlm-base-plus": WavLMConfig(),
    "wavlm-large": _LARGE,
    "hubert-base": WavLMConfig(kind="hubert", encoder=EncoderConfig(num_buckets=0)),
    "hubert-large": _HUBERT_LARGE,
    "wav2vec2-base": _WAV2VEC2_BASE,
    "wav2vec2-large": replace(_WAV2VEC2_BASE, encoder=_large(num_buckets=0, layer_drop=0.2)),
    "wav2vec2-large-lv60": replace(
        _HUBERT_LARGE, kind="wav2vec2", conv_bias=True, feature_grad_mult=1.0, time_mask=SpanConfig(prob=0.65)
    ),
}


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
            lengths: int64 `(B,)` samples. A row shorter than one frame gets 0 frames.
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
        features = self.features(waves, lengths)
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
            output=output, lengths=frames, frame_rate=self.config.frame_rate, layers=states, features=features
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
