"""What the training loop, the validation and the report ask of an objective."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar

from torch import Tensor

from speechkit.data.batch import Batch
from speechkit.objectives.losses import Losses

Model = TypeVar("Model", contravariant=True)


class Objective(Protocol[Model]):
    """Something to minimize. It owns no parameters: heads and class embeddings belong to the model."""

    def counts(self, batch: Batch) -> dict[str, float]:
        """What divides the sums of this micro-batch, from its lengths, labels and draws alone (it has no waves)."""

    def __call__(self, model: Model, batch: Batch, step: int) -> Losses:
        """The sums of a micro-batch of optimizer step `step`."""

    def measures(self, statistics: Mapping[str, Tensor]) -> dict[str, float]:
        """Numbers to report, from the statistics of `Losses` added over many micro-batches."""

    def example(self, model: Model, batch: Batch) -> str:
        """What the model makes of the first utterance, for people to read; "" where there is nothing to read."""
