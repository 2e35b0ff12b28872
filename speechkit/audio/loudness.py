"""Integrated loudness of single-channel recordings, for preparing data.

Source: ITU-R BS.1770-4; the two filters at any rate as libebur128 derives them.
Letters: B batch, T samples.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from speechkit.audio.framing import zero_padding

_BLOCK_SECONDS = 0.4
_OVERLAP = 4  # blocks begin every quarter of one
_ABSOLUTE_GATE = -70.0  # LUFS
_RELATIVE_GATE = -10.0  # LU
_RINGING_SECONDS = 0.5  # of the filters, which must not come around to the beginning


def loudness(waves: Tensor, lengths: Tensor, sample_rate: int) -> Tensor:
    """Measure every row.

    Args:
        waves: float `(B, T)`.
        lengths: int64 `(B,)`.
        sample_rate: Hz.

    Returns:
        Float32 `(B,)` LUFS; −∞ for silence and for rows shorter than a block of 0.4 s.
    """
    hop = round(_BLOCK_SECONDS * sample_rate / _OVERLAP)
    block = hop * _OVERLAP
    if waves.shape[1] < block:
        return waves.new_full((len(waves),), -math.inf)
    power = _weighted(zero_padding(waves, lengths), sample_rate).square()
    blocks = power.unfold(1, block, hop).mean(dim=2)
    begins = torch.arange(blocks.shape[1], device=waves.device) * hop
    whole = begins + block <= lengths.to(waves.device)[:, None]
    loud = whole & (_lufs(blocks) > _ABSOLUTE_GATE)
    loud &= _lufs(blocks) > _lufs(_mean(blocks, loud))[:, None] + _RELATIVE_GATE
    return _lufs(_mean(blocks, loud)).float()


def set_loudness(waves: Tensor, lengths: Tensor, sample_rate: int, *, lufs: float = -23.0) -> Tensor:
    """Bring every row of `(B, T)` to a loudness; one that has none stays as it is. Nothing is clipped."""
    measured = loudness(waves, lengths, sample_rate)
    gain = (10 ** ((lufs - measured) / 20)).where(measured > -math.inf, 1.0)
    return zero_padding(waves, lengths) * gain[:, None]


def _mean(blocks: Tensor, loud: Tensor) -> Tensor:
    return (blocks * loud).sum(dim=1) / loud.sum(dim=1).clamp(min=1)


def _lufs(power: Tensor) -> Tensor:
    return -0.691 + 10 * power.log10()


def _weighted(waves: Tensor, sample_rate: int) -> Tensor:
    """The K-weighted signal: filtered by its spectrum, since a recursive filter runs sample by sample in torch."""
    size = waves.shape[1]
    n_fft = 1 << (size + round(_RINGING_SECONDS * sample_rate) - 1).bit_length()
    angle = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * (2 * math.pi / n_fft)
    response = _response(_shelf(sample_rate), angle) * _response(_high_pass(sample_rate), angle)
    spectrum = torch.fft.rfft(waves.double(), n_fft)
    return torch.fft.irfft(spectrum * response.to(waves.device), n_fft)[:, :size]


def _response(coefficients: tuple[list[float], list[float]], angle: Tensor) -> Tensor:
    delay = torch.polar(torch.ones_like(angle), -angle)
    above, below = (b0 + b1 * delay + b2 * delay.square() for b0, b1, b2 in coefficients)
    return above / below


def _shelf(sample_rate: int) -> tuple[list[float], list[float]]:
    gain, quality = 10 ** (3.999843853973347 / 20), 0.7071752369554196
    k = math.tan(math.pi * 1681.974450955533 / sample_rate)
    middle = gain**0.4996667741545416
    above = [gain + middle * k / quality + k * k, 2 * (k * k - gain), gain - middle * k / quality + k * k]
    return above, [1 + k / quality + k * k, 2 * (k * k - 1), 1 - k / quality + k * k]


def _high_pass(sample_rate: int) -> tuple[list[float], list[float]]:
    quality = 0.5003270373238773
    k = math.tan(math.pi * 38.13547087602444 / sample_rate)
    below = [1 + k / quality + k * k, 2 * (k * k - 1), 1 - k / quality + k * k]
    return [below[0], -2 * below[0], below[0]], below
