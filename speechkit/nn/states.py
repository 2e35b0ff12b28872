"""What an encoder returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class States:
    """The states of an encoder for a padded batch.

    Attributes:
        output: float `(B, F, D)`, after the final norm where there is one.
        lengths: int64 `(B,)`, valid frames of each row.
        frame_rate: frames a second.
        layers: raw float `(B, F, D)` each; entry 0 is the input of the first layer. Empty unless asked for.
        features: float `(B, F, C)` of the front end, before projection and masking.
    """

    output: Tensor
    lengths: Tensor
    frame_rate: float
    layers: list[Tensor] = field(default_factory=list)
    features: Tensor | None = None


def stack_states(rows: Sequence[States], num_frames: int) -> States:
    """Join rows that were encoded alone to a batch of so many frames, padded with zeros."""

    def stack(tensors: Sequence[Tensor]) -> Tensor:
        return torch.cat([F.pad(x, (0, 0, 0, num_frames - x.shape[1])) for x in tensors])

    features = [row.features for row in rows if row.features is not None]
    return States(
        output=stack([row.output for row in rows]),
        lengths=torch.cat([row.lengths for row in rows]),
        frame_rate=rows[0].frame_rate,
        layers=[stack(states) for states in zip(*(row.layers for row in rows), strict=True)],
        features=stack(features) if features else None,
    )
