"""Settings and presets of WavLM, HuBERT and wav2vec 2.0, without torch, so that recipes can be planned without it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from speechkit.nn.encoder_config import EncoderConfig

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
        if not self.conv_layers or min(map(min, self.conv_layers)) < 1:
            raise ValueError(f"conv_layers are {self.conv_layers}: channels, kernel and stride must be positive")
        if self.sample_rate < 1:
            raise ValueError(f"sample_rate is {self.sample_rate}, it must be positive")

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
