"""What an objective returns: sums, each with its weight and the count that divides it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Term:
    """One sum over a micro-batch. A weight of 0 makes it something to log only (an accuracy, say).

    Attributes:
        sum: float scalar tensor.
        count: the name of the count that divides it, a key of the objective's `counts(batch)`.
        weight: its factor in the loss.
    """

    sum: Tensor
    count: str
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Losses:
    """The terms of one micro-batch, by name, and named sums for the objective's `measures`."""

    terms: Mapping[str, Term]
    statistics: Mapping[str, Tensor] = field(default_factory=dict)

    def total(self, counts: Mapping[str, float]) -> Tensor:
        """The loss to differentiate: every weighted sum over its count of the whole step."""
        terms = [t.sum * (t.weight / max(counts[t.count], 1.0)) for t in self.terms.values() if t.weight]
        return sum(terms[1:], start=terms[0])
