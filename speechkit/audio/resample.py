"""Rate conversion by a windowed sinc: the formula of torchaudio and of Kaldi's LinearResample, for padded batches.

y[j] = s·Σ_i x[i]·sinc(t)·w(t) with t = (i/a − j/b)·c, c = rolloff·min(a, b), s = c/a, where a and b are the old and the
new rate divided by their greatest common divisor, and w is zero beyond a number of zero crossings.

Letters: B batch, T samples, P phases (b), K taps, N steps of a samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechkit.audio.framing import matmul, zero_padding

Kind = Literal["hann", "kaiser64"]

_LARGEST_TABLE = 1 << 21  # of a polyphase table; rates that share no divisor would need gigabytes
_FEWEST_PHASES = 16  # a product with fewer columns is slow
_AT_ONCE = 1 << 20  # numbers in a block of windows


@dataclass(frozen=True, kw_only=True, slots=True)
class _Filter:
    zeros: int
    rolloff: float
    beta: float | None  # of the Kaiser window; None is Hann


_FILTERS = {
    "hann": _Filter(zeros=6, rolloff=0.99, beta=None),
    "kaiser64": _Filter(zeros=64, rolloff=0.9475937167399596, beta=14.769656459379492),
}


def resampled_lengths(lengths: Tensor, old: int, new: int) -> Tensor:
    """Samples at the new rate: ceil(N·new/old), in integers."""
    a, b = _reduced(old, new)
    return (lengths * b + a - 1).div(a, rounding_mode="floor")


def resample(waves: Tensor, lengths: Tensor, old: int, new: int, *, kind: Kind = "hann") -> tuple[Tensor, Tensor]:
    """Convert every row from one rate to another, as if it were alone.

    Args:
        waves: float `(B, T)`.
        lengths: int64 `(B,)`.
        old: rate of the waves in Hz.
        new: rate wanted.
        kind: `hann` for speech; `kaiser64` keeps more of the highest octave, at ten times the work.

    Returns:
        Float32 `(B, ceil(T·new/old))` with padding 0, and the lengths.
    """
    a, b = _reduced(old, new)
    waves = zero_padding(waves.float(), lengths)
    if a == b:
        return waves, lengths
    size = -(-waves.shape[1] * b // a)
    counts = resampled_lengths(lengths, old, new)
    reach = math.ceil(_FILTERS[kind].zeros * a / (_FILTERS[kind].rolloff * min(a, b)))
    if size == 0:
        return waves.new_zeros(len(waves), 0), counts
    convert = _by_phases if b * (2 * reach + a) <= _LARGEST_TABLE else _by_gathering
    return zero_padding(convert(waves, a, b, size, reach, kind), counts), counts


def resample_array(samples: NDArray[Any], old: int, new: int, *, kind: Kind = "hann") -> NDArray[np.float32]:
    """Convert `(T,)` or `(C, T)` from one rate to another: the numbers of `resample`."""
    rows = torch.from_numpy(np.atleast_2d(np.ascontiguousarray(samples, dtype=np.float32)))
    lengths = torch.full((len(rows),), rows.shape[1])
    converted = resample(rows, lengths, old, new, kind=kind)[0].numpy()
    return converted if samples.ndim == 2 else converted[0]


def resample_soxr(
    samples: NDArray[Any], old: int, new: int, *, quality: Literal["HQ", "VHQ"] = "HQ"
) -> NDArray[np.float32]:
    """Convert `(T,)` or `(C, T)` by libsoxr, for scores that were published with it (`librosa.load`).

    soxr's own length may be a sample short of ceil(T·new/old).
    """
    import soxr

    rows = np.ascontiguousarray(samples.T, dtype=np.float32)
    return np.ascontiguousarray(soxr.resample(rows, old, new, quality=quality).T)


def _reduced(old: int, new: int) -> tuple[int, int]:
    if old <= 0 or new <= 0:
        raise ValueError(f"rates of {old} and {new} Hz")
    divisor = math.gcd(old, new)
    return old // divisor, new // divisor


def _weights(t: Tensor, kind: Kind) -> Tensor:
    """sinc(t)·w(t), float64, for t in zero crossings."""
    shape = _FILTERS[kind]
    t = t.clamp(-shape.zeros, shape.zeros)
    if shape.beta is None:
        window = torch.cos(math.pi * t / (2 * shape.zeros)).square()
    else:
        beta = torch.tensor(shape.beta, dtype=torch.float64)
        window = torch.i0(beta * (1 - (t / shape.zeros).square()).sqrt()) / torch.i0(beta)
    return torch.sinc(t) * window


@lru_cache(maxsize=64)
def kernels(a: int, b: int, kind: Kind, device: torch.device) -> Tensor:
    """One kernel a phase, float32 `(P, 2·reach + a)`: row j gives output j of every a inputs."""
    shape = _FILTERS[kind]
    cutoff = shape.rolloff * min(a, b)
    reach = math.ceil(shape.zeros * a / cutoff)
    inputs = torch.arange(-reach, reach + a, dtype=torch.float64) / a
    phases = torch.arange(b, dtype=torch.float64)[:, None] / b
    return (_weights((inputs - phases) * cutoff, kind) * (cutoff / a)).float().to(device)


def _by_phases(waves: Tensor, a: int, b: int, size: int, reach: int, kind: Kind) -> Tensor:
    """One product of all windows with all kernels; a strided convolution would round to TF32 on a GPU."""
    several = -(-_FEWEST_PHASES // b)
    a, b = a * several, b * several
    table = kernels(a, b, kind, waves.device)
    steps = -(-size // b)
    padded = torch.nn.functional.pad(waves, (reach, reach + steps * a - waves.shape[1]))
    windows = padded.unfold(1, table.shape[1], a)
    at_once = max(1, _AT_ONCE // (len(waves) * table.shape[1]))
    pieces = [matmul(piece, table.T).flatten(1) for piece in windows.split(at_once, dim=1)]
    return torch.cat(pieces, dim=1)[:, :size]


@lru_cache(maxsize=8)
def _taps(a: int, b: int, kind: Kind, device: torch.device) -> Tensor:
    """The weights of the inputs around each phase, float32 `(P, 2·reach + 1)`."""
    shape = _FILTERS[kind]
    cutoff = shape.rolloff * min(a, b)
    reach = math.ceil(shape.zeros * a / cutoff)
    phase = torch.arange(b, dtype=torch.int64)
    offset = torch.arange(-reach, reach + 1, dtype=torch.float64)
    between = (phase * a % b).double() / b  # of the input before an output and the output, in inputs
    return (_weights((offset - between[:, None]) / a * cutoff, kind) * (cutoff / a)).float().to(device)


def _by_gathering(waves: Tensor, a: int, b: int, size: int, reach: int, kind: Kind) -> Tensor:
    """Look up the few inputs that each output needs, with the weights of its phase."""
    taps = _taps(a, b, kind, waves.device)
    windows = torch.nn.functional.pad(waves, (reach, reach + 1)).unfold(1, 2 * reach + 1, 1)
    at_once = max(1, _AT_ONCE // (len(waves) * taps.shape[1]))
    pieces = []
    for start in range(0, size, at_once):
        output = torch.arange(start, min(start + at_once, size), device=waves.device)
        before = output.mul(a).div(b, rounding_mode="floor")
        pieces.append((windows[:, before] * taps[output % b]).sum(dim=2))
    return torch.cat(pieces, dim=1)
