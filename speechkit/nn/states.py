"""What an encoder returns."""

from __future__ import annotations

from dataclasses import dataclass, field

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
