"""The mel spectrograms of synthesizers, vocoders and codecs, for padded batches.

Letters: B batch, T samples, F frames, D mel bins, N frames of a block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from speechkit.audio.framing import by_blocks, extend, matmul, valid, zero_padding

_SLANEY_BREAK_HZ = 1000.0  # linear below, logarithmic above
_SLANEY_BREAK_MEL = 15.0


@dataclass(frozen=True, kw_only=True, slots=True)
class MelConfig:
    """Settings of a mel spectrogram; the defaults are SpeechT5's.

    Attributes:
        sample_rate: Hz.
        n_fft: samples of the FFT.
        win_samples: samples of the periodic Hann window, in the middle of the FFT's.
        hop_samples: samples between frames.
        num_mel_bins: filters.
        low_hz: lower edge of the first filter.
        high_hz: upper edge of the last.
        scale: `slaney` with its area norm, or `htk` without one.
        frames: `centered` on multiples of the hop, 1 + N // hop; `whole`, N // hop, from a signal that is longer by
            n_fft − hop; `ceil`, likewise, the last one filled up with zeros.
        edge: how the signal goes on beyond its ends.
        power: 1 for magnitudes, 2 for power.
        magnitude_eps: added to the power under the root of a magnitude.
        unit_window: divide the spectrum by the root of the window's energy.
        log: of the filters' outputs.
        floor: what they are raised to, or increased by, before that.
        add_floor: increased instead of raised.
        top_db: with `log` "db", clip to so much below the utterance's largest value; never for parts of one.
    """

    sample_rate: int = 16_000
    n_fft: int = 1024
    win_samples: int = 1024
    hop_samples: int = 256
    num_mel_bins: int = 80
    low_hz: float = 80.0
    high_hz: float = 7600.0
    scale: Literal["slaney", "htk"] = "slaney"
    frames: Literal["centered", "whole", "ceil"] = "centered"
    edge: Literal["reflect", "zeros"] = "reflect"
    power: Literal[1, 2] = 1
    magnitude_eps: float = 0.0
    unit_window: bool = False
    log: Literal["log10", "ln", "db", "none"] = "log10"
    floor: float = 1e-10
    add_floor: bool = False
    top_db: float | None = None


PRESETS = {
    "speecht5": MelConfig(),
    "hifigan": MelConfig(
        sample_rate=22_050, low_hz=0.0, high_hz=8000.0, frames="whole", magnitude_eps=1e-9, log="ln", floor=1e-5
    ),
    "vocos": MelConfig(
        sample_rate=24_000, num_mel_bins=100, low_hz=0.0, high_hz=12_000.0, scale="htk", log="ln", floor=1e-7
    ),
}


def codec_config(n_fft: int, *, log: bool, sample_rate: int = 24_000) -> MelConfig:
    """One scale of the mel loss of EnCodec and AudioCraft.

    The scales are 64 … 1024, in EnCodec's paper up to 2048. At 24 kHz some of the 64 filters of the small ones are
    empty; their columns are constant.
    """
    return MelConfig(
        sample_rate=sample_rate,
        n_fft=n_fft,
        win_samples=n_fft,
        hop_samples=n_fft // 4,
        num_mel_bins=64,
        low_hz=64.0,
        high_hz=sample_rate / 2,
        scale="htk",
        frames="ceil",
        power=2,
        unit_window=True,
        log="log10" if log else "none",
        floor=1e-5 if log else 0.0,
        add_floor=True,
    )


def librosa_config(*, n_fft: int, win_samples: int, hop_samples: int, num_mel_bins: int, sample_rate: int) -> MelConfig:
    """The decibels of librosa's `melspectrogram` and `power_to_db`, for pictures."""
    return MelConfig(
        sample_rate=sample_rate,
        n_fft=n_fft,
        win_samples=win_samples,
        hop_samples=hop_samples,
        num_mel_bins=num_mel_bins,
        low_hz=0.0,
        high_hz=sample_rate / 2,
        edge="zeros",
        power=2,
        log="db",
        top_db=80.0,
    )


def num_frames(lengths: Tensor, config: MelConfig) -> Tensor:
    """Frames int64 `(B,)` of recordings of `lengths` samples; none of a recording without samples."""
    hop = config.hop_samples
    if config.frames == "ceil":
        return (lengths + hop - 1).div(hop, rounding_mode="floor")
    counts = lengths.div(hop, rounding_mode="floor")
    return counts if config.frames == "whole" else torch.where(lengths == 0, 0, counts + 1)


def log_mel(waves: Tensor, lengths: Tensor, config: MelConfig) -> tuple[Tensor, Tensor]:
    """Compute the mel spectrogram of every row, as of that row alone.

    Args:
        waves: float `(B, T)` in ±1.
        lengths: int64 `(B,)` samples.
        config: settings.

    Returns:
        Float32 `(B, F, D)`, 0 beyond a row's own frames, with F the frames of T samples; and the frames `(B,)`.
    """
    counts = num_frames(lengths, config)
    most = int(num_frames(torch.tensor(waves.shape[1]), config))
    if most == 0:
        return waves.new_zeros(len(waves), 0, config.num_mel_bins, dtype=torch.float32), counts
    before = config.n_fft // 2 if config.frames == "centered" else (config.n_fft - config.hop_samples) // 2
    extended = extend(waves.float(), lengths, before, before, config.edge)
    # zeros for windows that begin in a row and end behind all rows
    windows = torch.nn.functional.pad(extended, (0, config.n_fft)).unfold(1, config.n_fft, config.hop_samples)
    mel = by_blocks(windows[:, :most], config.num_mel_bins, lambda block: _mel(block, config))
    mel = _logarithm(mel, config)
    if config.top_db is not None:
        padding = ~valid(counts, most, mel.device)[..., None]
        loudest = mel.masked_fill(padding, -math.inf).amax(dim=(1, 2))
        mel = torch.maximum(mel, (loudest - config.top_db)[:, None, None])
    return zero_padding(mel, counts), counts


def _mel(windows: Tensor, config: MelConfig) -> Tensor:
    window = _window(config, windows.device)
    spectrum = torch.fft.rfft(windows * window)
    if config.power == 1 and config.magnitude_eps == 0:
        magnitude = spectrum.abs()
    else:
        magnitude = torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag) + config.magnitude_eps
        magnitude = magnitude.sqrt() if config.power == 1 else magnitude
    return matmul(magnitude, mel_bank(config, windows.device).T)


def _logarithm(mel: Tensor, config: MelConfig) -> Tensor:
    mel = mel + config.floor if config.add_floor else mel.clamp(min=config.floor)
    match config.log:
        case "log10":
            return mel.log10()
        case "ln":
            return mel.log()
        case "db":
            return 10 * mel.log10()
        case "none":
            return mel


@lru_cache(maxsize=64)
def _window(config: MelConfig, device: torch.device) -> Tensor:
    window = torch.hann_window(config.win_samples, dtype=torch.float64)
    if config.unit_window:
        window = window / window.square().sum().sqrt()
    left = (config.n_fft - config.win_samples) // 2
    return torch.nn.functional.pad(window, (left, config.n_fft - config.win_samples - left)).float().to(device)


@lru_cache(maxsize=64)
def mel_bank(config: MelConfig, device: torch.device) -> Tensor:
    """Triangles that are linear in Hz between edges equally spaced in mel, float32 `(D, n_fft / 2 + 1)`."""
    to_mel, to_hz = _SCALES[config.scale]
    low, high = (to_mel(torch.tensor(f, dtype=torch.float64)).item() for f in (config.low_hz, config.high_hz))
    edges = to_hz(torch.linspace(low, high, config.num_mel_bins + 2, dtype=torch.float64))
    left, center, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    frequency = torch.linspace(0, config.sample_rate / 2, config.n_fft // 2 + 1, dtype=torch.float64)
    weights = torch.minimum((frequency - left) / (center - left), (right - frequency) / (right - center)).clamp(min=0)
    if config.scale == "slaney":
        weights = weights * (2 / (right - left))
    return weights.float().to(device)


def _slaney_mel(hz: Tensor) -> Tensor:
    above = _SLANEY_BREAK_MEL + 27 * (hz.clamp(min=1e-3) / _SLANEY_BREAK_HZ).log() / math.log(6.4)
    return torch.where(hz < _SLANEY_BREAK_HZ, 3 * hz / 200, above)


def _slaney_hz(mel: Tensor) -> Tensor:
    above = _SLANEY_BREAK_HZ * ((mel - _SLANEY_BREAK_MEL) * math.log(6.4) / 27).exp()
    return torch.where(mel < _SLANEY_BREAK_MEL, 200 * mel / 3, above)


def _htk_mel(hz: Tensor) -> Tensor:
    return 2595 * (1 + hz / 700).log10()


def _htk_hz(mel: Tensor) -> Tensor:
    return 700 * (10 ** (mel / 2595) - 1)


_SCALES = {"slaney": (_slaney_mel, _slaney_hz), "htk": (_htk_mel, _htk_hz)}
