"""Mean, variance and level of every row, measured over its own samples.

Letters: B batch, T samples, F frames, D width of the features.
"""

from __future__ import annotations

from torch import Tensor

from speechkit.audio.framing import zero_padding


def normalize(waves: Tensor, lengths: Tensor, eps: float) -> Tensor:
    """Give every row mean 0 and variance 1 over its own samples; padding becomes 0.

    Args:
        waves: float `(B, T)`.
        lengths: int64 `(B,)`.
        eps: added to the variance: 1e-5 for fairseq's layer norm, 1e-7 for transformers' extractor.

    Returns:
        Float `(B, T)`; silence stays 0.
    """
    count = _column(lengths, waves)
    centered = zero_padding(waves - zero_padding(waves, lengths).sum(dim=1, keepdim=True) / count, lengths)
    variance = centered.square().sum(dim=1, keepdim=True) / count
    return centered / (variance + eps).sqrt()


def cmvn(features: Tensor, lengths: Tensor, eps: float = 1e-10) -> Tensor:
    """Normalize each dimension of `(B, F, D)` over a row's own frames, by the deviation with n − 1.

    Rows of fewer than two frames have no deviation and are left as they are. Padding is 0.
    """
    count = _column(lengths, features)[..., None]
    centered = zero_padding(features - zero_padding(features, lengths).sum(dim=1, keepdim=True) / count, lengths)
    deviation = (centered.square().sum(dim=1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
    normalized = centered / (deviation + eps)
    return zero_padding(normalized.where(count > 1, features), lengths)


def rms(waves: Tensor, lengths: Tensor) -> Tensor:
    """Root mean square of each row `(B,)`; 0 for a row without samples."""
    power = zero_padding(waves, lengths).square().sum(dim=1, keepdim=True) / _column(lengths, waves)
    return power.sqrt()[:, 0]


def set_rms(waves: Tensor, lengths: Tensor, *, dbfs: float = -25.0, eps: float = 1e-6) -> Tensor:
    """Bring every row to a root mean square of `dbfs`, then down to full scale if a peak lies above.

    Decide it once for a recording: one peak turns all of it down, and a piece alone gets another level.

    Source: microsoft/VibeVoice vibevoice/processor/audio_utils.py.

    Args:
        waves: float `(B, T)`.
        lengths: int64 `(B,)`.
        dbfs: decibels below full scale.
        eps: keeps silence at 0.
    """
    scaled = zero_padding(waves, lengths) * (10 ** (dbfs / 20) / (rms(waves, lengths) + eps))[:, None]
    peak = _peak(scaled)
    return scaled / (peak + eps).where(peak > 1, 1.0)


def set_peak(waves: Tensor, lengths: Tensor, *, dbfs: float = -1.0) -> Tensor:
    """Bring the largest magnitude of every row `(B, T)` to `dbfs`; silence stays as it is."""
    inside = zero_padding(waves, lengths)
    peak = _peak(inside)
    return inside * (10 ** (dbfs / 20) / peak).where(peak > 0, 1.0)


def _peak(waves: Tensor) -> Tensor:
    return waves.abs().amax(dim=1, keepdim=True) if waves.shape[1] else waves.new_zeros(len(waves), 1)


def _column(lengths: Tensor, values: Tensor) -> Tensor:
    return lengths.to(values)[:, None].clamp(min=1)
