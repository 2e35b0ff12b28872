"""Which layers a micro-batch leaves out: LayerDrop with addressed draws."""

from __future__ import annotations

from dataclasses import dataclass

from speechkit import draws
from speechkit.data.batch import Batch


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerDrop:
    """Leave each layer but the first out with the same probability, drawn for each micro-batch.

    Layer 0 stays, because it makes the relative position bias of all others. The draw goes by the micro-batch, so any
    number of processes drops the same layers. Source: Fan, Grave, Joulin, "Reducing Transformer Depth on Demand with
    Structured Dropout" (ICLR 2020).
    """

    num_layers: int
    probability: float
    seed: int

    def __call__(self, batch: Batch) -> frozenset[int]:
        """The layers, from 0, that this micro-batch skips."""
        words = draws.words(self.seed, batch.epoch, "layerdrop", [f"mb:{batch.number}"], self.num_layers)
        dropped = draws.uniform(words)[0] < self.probability
        return frozenset(range(1, self.num_layers)) & frozenset(dropped.nonzero()[0].tolist())
