"""Kaldi's MFCC, deltas, and the two published features that are stacked with them.

Source: Kaldi `feature-mfcc.cc`, as torchaudio's `compliance.kaldi.mfcc` and `compute_deltas` compute it.
Letters: B batch, T samples, F frames, D width of the features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor

from speechkit.audio.fbank import FbankConfig, fbank
from speechkit.audio.framing import matmul, zero_padding
from speechkit.audio.normalize import cmvn


@dataclass(frozen=True, kw_only=True, slots=True)
class MfccConfig:
    """Settings of MFCC.

    Attributes:
        fbank: of the filters below it; must be logarithmic, without energy or normalization of its own.
        num_ceps: coefficients kept.
        cepstral_lifter: of the liftering 1 + L/2·sin(πi/L); 0 is none.
        use_energy: the log energy takes the place of C0.
    """

    fbank: FbankConfig = field(default_factory=lambda: FbankConfig(num_mel_bins=23))
    num_ceps: int = 13
    cepstral_lifter: float = 22.0
    use_energy: bool = False


def mfcc(waves: Tensor, lengths: Tensor, config: MfccConfig) -> tuple[Tensor, Tensor]:
    """Compute the MFCC of every row, as of that row alone.

    Args:
        waves: float `(B, T)` in ±1.
        lengths: int64 `(B,)` samples.
        config: settings.

    Returns:
        Float32 `(B, F, num_ceps)`, 0 beyond a row's own frames; and the frames `(B,)`.
    """
    mel, counts = fbank(waves, lengths, replace(config.fbank, use_energy=config.use_energy, htk_compat=False))
    table, weights = _tables(config, waves.device)
    ceps = matmul(mel[..., -config.fbank.num_mel_bins :], table) * weights
    if config.use_energy:
        ceps[..., 0] = mel[..., 0]
    return zero_padding(ceps, counts), counts


def dct(num_mel_bins: int, num_ceps: int) -> Tensor:
    """The orthonormal DCT-II, float32 `(num_mel_bins, num_ceps)`, in float32 step by step as torchaudio does.

    Through float64 the coefficients of loud frames would move by 5e-4.
    """
    angle = math.pi / num_mel_bins * (torch.arange(num_mel_bins, dtype=torch.float32) + 0.5)
    table = torch.cos(angle[:, None] * torch.arange(num_ceps)) * math.sqrt(2 / num_mel_bins)
    table[:, 0] = math.sqrt(1 / num_mel_bins)
    return table


def lifter(num_ceps: int, cepstral_lifter: float) -> Tensor:
    """Weights of the coefficients, float32 `(num_ceps,)`."""
    if cepstral_lifter == 0:
        return torch.ones(num_ceps)
    return 1 + 0.5 * cepstral_lifter * torch.sin(math.pi * torch.arange(num_ceps) / cepstral_lifter)


@lru_cache(maxsize=16)
def _tables(config: MfccConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    table = dct(config.fbank.num_mel_bins, config.num_ceps)
    return table.to(device), lifter(config.num_ceps, config.cepstral_lifter).to(device)


def deltas(features: Tensor, lengths: Tensor) -> Tensor:
    """Slopes over five frames, the edges of each row replicated: `(B, F, D)` → `(B, F, D)`, padding 0."""
    frames = features.shape[1]
    if frames == 0:
        return features
    place = torch.arange(frames, device=features.device)
    last = (lengths.to(features.device)[:, None] - 1).clamp(min=0)

    def shifted(by: int) -> Tensor:
        index = torch.minimum((place + by).clamp(min=0)[None], last)
        return features.gather(1, index[..., None].expand(-1, -1, features.shape[2]))

    slope = (shifted(1) - shifted(-1) + 2 * (shifted(2) - shifted(-2))) / 10
    return zero_padding(slope, lengths)


def with_deltas(features: Tensor, lengths: Tensor) -> Tensor:
    """Stack features, their deltas and the deltas of those: `(B, F, D)` → `(B, F, 3D)`."""
    first = deltas(features, lengths)
    return torch.cat([features, first, deltas(first, lengths)], dim=2)


def hubert_mfcc(waves: Tensor, lengths: Tensor, *, frame_shift_ms: float = 10.0) -> tuple[Tensor, Tensor]:
    """The 39 coefficients at 16 kHz that the first units of HuBERT and WavLM are learned from.

    Source: facebookresearch/fairseq examples/hubert/simple_kmeans.

    Args:
        waves: float `(B, T)` in ±1.
        lengths: int64 `(B,)` samples.
        frame_shift_ms: 10 as published; 20 aligns the frames with an encoder's.

    Returns:
        Float32 `(B, F, 39)` in the order c, Δ, ΔΔ; and the frames `(B,)`.
    """
    config = MfccConfig(fbank=FbankConfig(num_mel_bins=23, frame_shift_ms=frame_shift_ms))
    ceps, counts = mfcc(waves, lengths, config)
    return with_deltas(ceps, counts), counts


def superb_fbank(waves: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """The 240 values of SUPERB's FBANK baseline at 16 kHz: 80 log-mel, Δ, ΔΔ, each normalized over its utterance.

    Source: s3prl upstream/baseline. An utterance of one frame, NaN there, is left unnormalized.

    Returns:
        Float32 `(B, F, 240)`, and the frames `(B,)`.
    """
    mel, counts = fbank(waves, lengths, FbankConfig())
    return cmvn(with_deltas(mel, counts), counts), counts
