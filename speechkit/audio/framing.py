"""What padded batches of waveforms need before they are cut into frames.

Letters: B batch, T samples, F frames, D width of a frame, N windows, W samples of a window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor

_BLOCK_ON_CPU = 512  # windows of a block: 400 samples each stay in the cache, all of a batch do not
_BLOCK_ELSEWHERE = 1 << 16


def valid(lengths: Tensor, size: int, device: torch.device) -> Tensor:
    """The mask bool `(B, size)`, true on the first `lengths` places of each row."""
    return torch.arange(size, device=device) < lengths.to(device)[:, None]


def zero_padding(values: Tensor, lengths: Tensor) -> Tensor:
    """Zero what lies beyond each row's length in `(B, T)` or `(B, F, D)`, whatever it holds, NaN included."""
    keep = valid(lengths, values.shape[1], values.device)
    return values.masked_fill(~keep.reshape(keep.shape + (1,) * (values.dim() - 2)), 0.0)


def extend(
    waves: Tensor, lengths: Tensor, left: int, right: int, edge: Literal["symmetric", "reflect", "zeros"]
) -> Tensor:
    """Continue every row by `left` samples before its start and `right` samples after its own end.

    Args:
        waves: float `(B, T)`.
        lengths: int64 `(B,)`.
        left: samples to add in front.
        right: samples to add behind the row's own last sample; what follows them is zero.
        edge: `symmetric` repeats the edge (x1 x0 | x0 x1, Kaldi), `reflect` does not (x1 | x0 x1, torch and librosa),
            both again and again where a row is shorter than what is added; `zeros` adds silence.

    Returns:
        Float `(B, left + T + right)`. Rows without samples stay zero.
    """
    batch, size = waves.shape
    lengths = lengths.to(waves.device)
    extended = waves.new_zeros(batch, left + size + right)
    extended[:, left : left + size] = zero_padding(waves, lengths)
    if edge == "zeros" or size == 0:
        return extended
    before = torch.arange(-left, 0, device=waves.device).expand(batch, -1)
    after = lengths[:, None] + torch.arange(right, device=waves.device)
    for where in (before, after):
        values = waves.gather(1, _mirrored(where, lengths[:, None], edge)).masked_fill(lengths[:, None] == 0, 0.0)
        extended.scatter_(1, where + left, values)
    return extended


def _mirrored(where: Tensor, lengths: Tensor, edge: Literal["symmetric", "reflect"]) -> Tensor:
    period = (2 * lengths if edge == "symmetric" else 2 * (lengths - 1)).clamp(min=1)
    last = 2 * lengths - 1 if edge == "symmetric" else period
    inside = where.remainder(period)
    return torch.where(inside < lengths, inside, last - inside).clamp(min=0)


def by_blocks(windows: Tensor, width: int, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """Turn every window into a frame, a block of them at once.

    Args:
        windows: float `(B, F, W)`.
        width: D.
        compute: float `(N, W)` to float `(N, D)`; N is never 0: an empty tensor must not reach the FFT (MKL raises).

    Returns:
        Float32 `(B, F, D)`.
    """
    batch, most, _ = windows.shape
    output = windows.new_zeros(batch, most, width, dtype=torch.float32)
    for rows, frames in blocks(batch, most, windows.device):
        block = windows[rows, frames]
        output[rows, frames] = compute(block.flatten(0, 1)).unflatten(0, block.shape[:2])
    return output


def blocks(rows: int, frames: int, device: torch.device) -> Iterator[tuple[slice, slice]]:
    """Divide `rows` × `frames` windows into blocks worth computing at once: short rows whole, a long one in pieces."""
    size = _BLOCK_ON_CPU if device.type == "cpu" else _BLOCK_ELSEWHERE
    if rows * frames == 0:
        return
    step = max(1, size // frames)
    for row in range(0, rows, step):
        for frame in range(0, frames, size):
            yield slice(row, min(row + step, rows)), slice(frame, min(frame + size, frames))


def matmul(left: Tensor, right: Tensor) -> Tensor:
    """The product of float32 matrices in full float32 precision, whatever autocast and the TF32 switch say."""
    with torch.autocast(left.device.type, enabled=False):
        if left.is_cuda and torch.get_float32_matmul_precision() != "highest":
            return (left.double() @ right.double()).to(left.dtype)
        return left @ right
