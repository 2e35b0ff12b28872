"""A micro-batch on the device, the one thing that goes from data to models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """B utterances, padded with zeros; the lengths are the truth.

    Attributes:
        ids: utterance ids.
        number: of the micro-batch in the endless plan.
        epoch: of the plan.
        waves: float32 `(B, T)`; None before they were read and in batches without audio.
        lengths: int64 `(B,)` samples.
        sample_rate: Hz.
        features: float32 `(B, F, D)`.
        feature_lengths: int64 `(B,)` frames.
        labels: `text` list of str, `tokens` int64 `(B, S)`, `units` int64 `(B, F)`, … (one meaning a name).
        label_lengths: int64 `(B,)` for each label that is a padded tensor.
        weights: float32 `(B,)`; 0 for an utterance that could not be read.
        draws: what was drawn for every utterance, by purpose.
    """

    ids: list[str]
    number: int
    epoch: int
    waves: Tensor | None = None
    lengths: Tensor | None = None
    sample_rate: int | None = None
    features: Tensor | None = None
    feature_lengths: Tensor | None = None
    labels: Mapping[str, Tensor | list[str]] = field(default_factory=dict)
    label_lengths: Mapping[str, Tensor] = field(default_factory=dict)
    weights: Tensor
    draws: Mapping[str, Tensor] = field(default_factory=dict)
