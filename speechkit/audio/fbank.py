"""Kaldi's log-mel filter banks for padded batches.

Source: Kaldi `feature-fbank.cc`, as torchaudio's `compliance.kaldi.fbank` computes it in float32.
Letters: B batch, T samples, F frames, D width of the features, N frames of a block, W samples of a window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from speechkit.audio.framing import by_blocks, extend, matmul, zero_padding

INT16_SCALE = 32768.0
_SMALLEST = 2.0**-23  # the smallest energy whose logarithm is taken


@dataclass(frozen=True, kw_only=True, slots=True)
class FbankConfig:
    """Settings of the filter bank; the defaults are 80 bins, else Kaldi's own with no dither.

    Attributes:
        sample_rate: Hz.
        num_mel_bins: filters.
        frame_length_ms: window; its samples are truncated, not rounded.
        frame_shift_ms: hop, truncated likewise.
        low_freq: Hz, lower edge of the first filter.
        high_freq: Hz, upper edge of the last; 0 is Nyquist, below 0 counts from Nyquist.
        preemphasis: coefficient, inside a frame.
        remove_dc_offset: subtract each frame's own mean.
        window: all symmetric; `povey` is Hann to the power of 0.85.
        round_to_power_of_two: of the FFT.
        snip_edges: only frames that lie wholly inside; otherwise the signal is mirrored at its ends.
        use_power: squared magnitudes, or magnitudes.
        use_log: of the filters' outputs.
        use_energy: one more column with the log energy.
        raw_energy: energy before pre-emphasis and window, or after.
        htk_compat: the energy is the last column, not the first.
        energy_floor: floor of the energy (not of the filters), meant for the 16-bit scale; 0 is none.
        int16_scale: take samples in ±1 as if they were in ±32768.
        mean: subtracted from every value …
        std: … and what the difference is divided by.
    """

    sample_rate: int = 16_000
    num_mel_bins: int = 80
    frame_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    low_freq: float = 20.0
    high_freq: float = 0.0
    preemphasis: float = 0.97
    remove_dc_offset: bool = True
    window: Literal["povey", "hamming", "hanning", "rectangular", "blackman"] = "povey"
    round_to_power_of_two: bool = True
    snip_edges: bool = True
    use_power: bool = True
    use_log: bool = True
    use_energy: bool = False
    raw_energy: bool = True
    htk_compat: bool = False
    energy_floor: float = 1.0
    int16_scale: bool = False
    mean: float = 0.0
    std: float = 1.0

    @property
    def window_samples(self) -> int:
        """Samples of a window."""
        return int(self.sample_rate * self.frame_length_ms * 0.001)

    @property
    def shift_samples(self) -> int:
        """Samples between the starts of frames."""
        return int(self.sample_rate * self.frame_shift_ms * 0.001)

    @property
    def fft_samples(self) -> int:
        """Samples of the FFT."""
        return 1 << (self.window_samples - 1).bit_length() if self.round_to_power_of_two else self.window_samples

    @property
    def dim(self) -> int:
        """Width of the features."""
        return self.num_mel_bins + self.use_energy


PRESETS = {
    "beats": FbankConfig(num_mel_bins=128, int16_scale=True, mean=15.41663, std=2 * 6.55582),
    "icefall": FbankConfig(snip_edges=False, high_freq=-400.0),
}


def num_frames(lengths: Tensor, config: FbankConfig) -> Tensor:
    """Frames int64 `(B,)` of recordings of `lengths` samples."""
    window, shift = config.window_samples, config.shift_samples
    if config.snip_edges:
        return torch.where(lengths < window, 0, 1 + (lengths - window).div(shift, rounding_mode="floor"))
    return (lengths + shift // 2).div(shift, rounding_mode="floor")


def fbank(waves: Tensor, lengths: Tensor, config: FbankConfig) -> tuple[Tensor, Tensor]:
    """Compute the filter bank of every row, as of that row alone.

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
        return waves.new_zeros(len(waves), 0, config.dim, dtype=torch.float32), counts
    windows = _windows(waves.float(), lengths, config, most)
    features = by_blocks(windows, config.dim, lambda frames: _features(frames, config))
    return zero_padding(features, counts), counts


def _windows(waves: Tensor, lengths: Tensor, config: FbankConfig, frames: int) -> Tensor:
    """The view `(B, F, W)` of all windows."""
    window, shift = config.window_samples, config.shift_samples
    if not config.snip_edges:
        left = window // 2 - shift // 2  # frame 0 starts so many samples before the recording
        waves = extend(waves, lengths, max(left, 0), window, "symmetric")[:, max(-left, 0) :]
    return waves.unfold(1, window, shift)[:, :frames]


def centered_frames(frames: Tensor, config: FbankConfig) -> Tensor:
    """Frames `(N, W)` at their scale and around 0, as new ones."""
    if config.int16_scale:
        frames = frames * INT16_SCALE
    return frames - frames.mean(dim=1, keepdim=True) if config.remove_dc_offset else frames.clone()


def windowed_frames(centered: Tensor, config: FbankConfig) -> Tensor:
    """Frames `(N, W)` → frames ready for the FFT `(N, fft_samples)`: pre-emphasis, window, zeros behind."""
    size = config.window_samples
    windowed = centered.new_zeros(len(centered), config.fft_samples)
    windowed[:, :size] = centered
    windowed[:, :1] -= config.preemphasis * centered[:, :1]
    windowed[:, 1:size] -= config.preemphasis * centered[:, :-1]
    windowed[:, :size] *= window(config, centered.device)
    return windowed


def spectrum(windowed: Tensor, config: FbankConfig) -> Tensor:
    """Windowed frames `(N, fft_samples)` → power, or magnitude, `(N, bins)` with the bin at Nyquist."""
    values = torch.fft.rfft(windowed)
    power = torch.addcmul(values.real.square(), values.imag, values.imag)
    return power if config.use_power else power.sqrt()


def _features(frames: Tensor, config: FbankConfig) -> Tensor:
    centered = centered_frames(frames, config)
    windowed = windowed_frames(centered, config)
    columns = _mel_columns(config, frames.device)
    mel = matmul(spectrum(windowed, config)[:, : len(columns)], columns)
    if config.use_log:
        mel = mel.clamp(min=_SMALLEST).log()
    if config.use_energy:
        energy = _log_energy(centered if config.raw_energy else windowed, config)
        mel = torch.cat([mel, energy[:, None]] if config.htk_compat else [energy[:, None], mel], dim=1)
    return mel if (config.mean, config.std) == (0.0, 1.0) else (mel - config.mean) / config.std


def _log_energy(frames: Tensor, config: FbankConfig) -> Tensor:
    """Of every frame, `(N,)`."""
    energy = frames.square().sum(dim=1).clamp(min=_SMALLEST).log()
    return energy.clamp(min=math.log(config.energy_floor)) if config.energy_floor > 0 else energy


@lru_cache(maxsize=64)
def window(config: FbankConfig, device: torch.device) -> Tensor:
    """The window float32 `(W,)`."""
    size = config.window_samples
    shapes = {
        "povey": lambda: torch.hann_window(size, periodic=False).pow(0.85),
        "hanning": lambda: torch.hann_window(size, periodic=False),
        "hamming": lambda: torch.hamming_window(size, periodic=False),
        "blackman": lambda: torch.blackman_window(size, periodic=False),
        "rectangular": lambda: torch.ones(size),
    }
    return shapes[config.window]().to(device)


@lru_cache(maxsize=64)
def mel_bank(config: FbankConfig, device: torch.device) -> Tensor:
    """Triangles that are linear in mel, float32 `(num_mel_bins, fft_samples / 2)`: the bin at Nyquist has no weight.

    In float32 step by step as torchaudio does, because the logarithm of an almost empty filter shows every bit.

    Raises:
        ValueError: the edges are not in order, or the FFT has an odd number of samples.
    """
    nyquist = config.sample_rate / 2
    high_freq = config.high_freq if config.high_freq > 0 else nyquist + config.high_freq
    if not 0 <= config.low_freq < high_freq <= nyquist or config.fft_samples % 2:
        raise ValueError(
            f"filters from {config.low_freq} to {high_freq} Hz with an FFT of {config.fft_samples} samples: the edges "
            f"must lie between 0 and {nyquist} Hz and the samples be even"
        )
    low, high = (1127.0 * math.log(1 + f / 700.0) for f in (config.low_freq, high_freq))
    delta = (high - low) / (config.num_mel_bins + 1)
    number = torch.arange(config.num_mel_bins)[:, None]
    left, center, right = (low + (number + k) * delta for k in (0.0, 1.0, 2.0))
    frequency = config.sample_rate / config.fft_samples * torch.arange(config.fft_samples // 2)
    mel = 1127.0 * (1.0 + frequency / 700.0).log()
    weights = torch.minimum((mel - left) / (center - left), (right - mel) / (right - center))
    return weights.clamp(min=0.0).to(device)


@lru_cache(maxsize=64)
def _mel_columns(config: FbankConfig, device: torch.device) -> Tensor:
    """The filters as columns, in this order in memory: the product is twice as fast as with a transposed view."""
    return mel_bank(config, device).T.contiguous()
