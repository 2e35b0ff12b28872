"""Masks, made from lengths where they are used."""

from __future__ import annotations

import torch
from torch import Tensor


def valid_frames(lengths: Tensor, num_frames: int) -> Tensor:
    """Which frames are no padding.

    Args:
        lengths: int64 `(B,)`.
        num_frames: F of the padded batch.

    Returns:
        bool `(B, F)`, true on the first `lengths` frames of each row.
    """
    return torch.arange(num_frames, device=lengths.device) < lengths[:, None]
