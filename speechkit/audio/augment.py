"""Changes that make training harder, for padded batches: speed, volume, tilt, noise, rooms, SpecAugment.

Nothing is drawn here: factors, gains, places and widths are arguments.
Letters: B batch, T samples, R samples of a room's response, F frames, D width of the features, M masks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from speechkit.audio.framing import valid, zero_padding
from speechkit.audio.normalize import rms
from speechkit.audio.resample import resample


def change_speed(waves: Tensor, lengths: Tensor, factors: Tensor, rate: int) -> tuple[Tensor, Tensor]:
    """Play every row faster or slower; the pitch moves along.

    Args:
        waves: float `(B, T)`.
        lengths: int64 `(B,)`.
        factors: float `(B,)`, few different ones: rows of the same factor are converted together.
        rate: of the waves in Hz.

    Returns:
        Float32 `(B, longest)` with padding 0, and the lengths ceil(N·rate/round(rate·factor)).
    """
    values = factors.tolist()
    changed = lengths.clone()
    parts = {}
    for factor in sorted(set(values)):
        rows = [row for row, value in enumerate(values) if value == factor]
        part, changed[rows] = resample(waves[rows], lengths[rows], round(rate * factor), rate)
        parts[factor] = rows, part
    longest = int(changed.max()) if values else 0
    output = waves.new_zeros(len(waves), longest, dtype=torch.float32)
    for rows, part in parts.values():
        size = min(longest, part.shape[1])
        output[rows, :size] = part[:, :size]
    return output, changed


def change_volume(waves: Tensor, gains: Tensor) -> Tensor:
    """Scale every row of `(B, T)` by its gain `(B,)`."""
    return waves * gains.to(waves)[:, None]


def noise_gain(waves: Tensor, lengths: Tensor, noise: Tensor, noise_lengths: Tensor, snr_db: Tensor) -> Tensor:
    """The factor that puts noise so many decibels below a signal, powers taken over the whole of each.

    Args:
        waves: float `(B, T)`.
        lengths: int64 `(B,)`.
        noise: float `(B, N)`.
        noise_lengths: int64 `(B,)`.
        snr_db: float `(B,)`; the higher, the quieter the noise.

    Returns:
        Float `(B,)`; 0 where the noise is silent.
    """
    signal, other = rms(waves, lengths), rms(noise, noise_lengths)
    gain = signal / other.clamp(min=torch.finfo(other.dtype).tiny) * 10 ** (-snr_db.to(waves) / 20)
    return gain.where(other > 0, 0.0)


def add_noise(
    waves: Tensor, lengths: Tensor, noise: Tensor, noise_lengths: Tensor, offsets: Tensor, snr_db: Tensor
) -> Tensor:
    """Add to every row a noise at a signal-to-noise ratio; what reaches beyond the row is cut off.

    Args:
        waves: float `(B, T)`.
        lengths: int64 `(B,)`.
        noise: float `(B, N)`, one for each row.
        noise_lengths: int64 `(B,)`.
        offsets: int64 `(B,)`, the sample of the row where its noise begins.
        snr_db: float `(B,)`.

    Returns:
        Float `(B, T)` with padding 0.
    """
    if noise.shape[1] == 0:
        return zero_padding(waves, lengths)
    gain = noise_gain(waves, lengths, noise, noise_lengths, snr_db)
    place = torch.arange(waves.shape[1], device=waves.device) - offsets.to(waves.device)[:, None]
    inside = (place >= 0) & (place < noise_lengths.to(waves.device)[:, None])
    placed = noise.gather(1, place.clamp(0, noise.shape[1] - 1)).masked_fill(~inside, 0.0)
    return zero_padding(waves + gain[:, None] * placed, lengths)


def reverberate(
    waves: Tensor,
    lengths: Tensor,
    responses: Tensor,
    response_lengths: Tensor,
    *,
    early_samples: int | None = None,
    keep_power: bool = True,
) -> Tensor:
    """Put every row into a room.

    The result begins at the largest value of the room's impulse response (signed, as lhotse takes it), so that it stays
    in time with the row.

    Args:
        waves: float `(B, T)`.
        lengths: int64 `(B,)`.
        responses: float `(B, R)`, one for each row.
        response_lengths: int64 `(B,)`.
        early_samples: take only so much of each response, counted from its beginning (a target for dereverberation).
        keep_power: give the result the mean power of the row; a silent one is left alone.

    Returns:
        Float `(B, T)` with padding 0.
    """
    if early_samples is not None:
        responses, response_lengths = responses[:, :early_samples], response_lengths.clamp(max=early_samples)
    waves, responses = zero_padding(waves, lengths), zero_padding(responses, response_lengths)
    size, reach = waves.shape[1], responses.shape[1]
    if size == 0 or reach == 0:
        return waves
    inside = valid(response_lengths, reach, responses.device)
    peak = responses.masked_fill(~inside, -torch.inf).argmax(dim=1, keepdim=True)
    n_fft = _fast_length(size + reach - 1)
    room = torch.fft.irfft(torch.fft.rfft(waves, n_fft) * torch.fft.rfft(responses, n_fft), n_fft)
    room = zero_padding(room.gather(1, peak + torch.arange(size, device=waves.device)), lengths)
    if not keep_power:
        return room
    before, after = rms(waves, lengths), rms(room, lengths)
    gain = (before / after.clamp(min=torch.finfo(after.dtype).tiny)).where(after > 0, 1.0)
    return room * gain[:, None]


def tilt(waves: Tensor, lengths: Tensor, slopes: Tensor, rate: int) -> Tensor:
    """Tilt every row's spectrum, as another microphone does; its power stays.

    Args:
        waves: float `(B, T)`.
        lengths: int64 `(B,)`.
        slopes: float `(B,)`, dB an octave above 100 Hz; what lies below gets the gain of 100 Hz.
        rate: of the waves in Hz.

    Returns:
        Float `(B, T)` with padding 0.
    """
    taps = round(rate * 0.032)
    frequencies = torch.linspace(0, rate / 2, taps // 2 + 1, device=waves.device)
    octaves = (frequencies.clamp(min=100.0) / 1000).log2()
    gains = 10 ** (slopes.to(waves)[:, None] * octaves / 20)
    responses = torch.fft.irfft(gains, taps).roll(taps // 2, dims=1) * torch.hann_window(taps, device=waves.device)
    return reverberate(waves, lengths, responses, torch.full_like(lengths, taps))


def _fast_length(size: int) -> int:
    """The next length 2^i·3^j·5^k, at which FFTs are fast."""
    best = 1 << (size - 1).bit_length()
    five = 1
    while five < best:
        three = five
        while three < best:
            best = min(best, three << max(0, -(-size // three) - 1).bit_length())
            three *= 3
        five *= 5
    return best


def spec_augment(
    features: Tensor,
    lengths: Tensor,
    *,
    freq_masks: Tensor,
    time_masks: Tensor,
    warps: Tensor | None = None,
    fill: float | None = None,
) -> Tensor:
    """Warp time, then mask bands of bins, then spans of frames.

    Source: lhotse `signal_transforms.py`, but for means and warps, which here are of a row's own frames.

    Args:
        features: float `(B, F, D)`.
        lengths: int64 `(B,)` frames.
        freq_masks: int64 `(B, M, 2)`, first bin and end of each; an empty one masks nothing.
        time_masks: int64 `(B, M, 2)`, first frame and end of each.
        warps: int64 `(B, 2)`, see `warp_time`; equal numbers warp nothing.
        fill: what is put into the masks; None is the mean of the row before masking.

    Returns:
        Float `(B, F, D)`; the padding is as it was.
    """
    if warps is not None:
        rows = zip(features, lengths.tolist(), warps.tolist(), strict=True)
        features = torch.stack([warp_time(row, length, center, to) for row, length, (center, to) in rows])
    _, frames, width = features.shape
    count = (lengths.to(features) * width).clamp(min=1)
    value = zero_padding(features, lengths).sum(dim=(1, 2)) / count if fill is None else torch.full_like(count, fill)
    bins = _inside(freq_masks, width, features.device)[:, None, :]
    spans = _inside(time_masks, frames, features.device)[:, :, None]
    own = valid(lengths, frames, features.device)[:, :, None]
    return torch.where((bins | spans) & own, value[:, None, None], features)


def warp_time(features: Tensor, length: int, center: int, to: int) -> Tensor:
    """Stretch the first `center` frames to `to` and squeeze the others of `length` into the rest, by bicubic steps.

    Args:
        features: float `(F, D)`.
        length: valid frames; those behind stay as they are.
        center: a frame within, 0 < center < length …
        to: … and where it goes, likewise; the same frame changes nothing.

    Returns:
        Float `(F, D)`.
    """
    if center == to:
        return features
    first = _resize(features[:center], to)
    second = _resize(features[center:length], length - to)
    return torch.cat([first, second, features[length:]])


def _resize(features: Tensor, frames: int) -> Tensor:
    size = (frames, features.shape[1])
    return torch.nn.functional.interpolate(features[None, None], size, mode="bicubic", align_corners=False)[0, 0]


def _inside(spans: Tensor, size: int, device: torch.device) -> Tensor:
    """Whether each of `size` places lies in any of the spans `(B, M, 2)`: bool `(B, size)`."""
    place = torch.arange(size, device=device)
    spans = spans.to(device)
    return ((place >= spans[..., :1]) & (place < spans[..., 1:])).any(dim=1)
