"""An objective on held-out batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from speechkit.data.batch import Batch
from speechkit.objectives.losses import Term
from speechkit.objectives.objective import Objective


@torch.no_grad()
def evaluate(model: nn.Module, objective: Objective[Any], batches: Iterable[Batch]) -> dict[str, float]:
    """Every term of the objective over its count, their weighted sum `loss`, and the objective's `measures`.

    The model is left in evaluation mode.
    """
    model.eval()
    counts: dict[str, float] = {}
    sums: dict[str, Tensor] = {}
    statistics: dict[str, Tensor] = {}
    terms: dict[str, Term] = {}
    for batch in batches:
        losses = objective(model, batch, 0)
        terms |= losses.terms
        _add(counts, objective.counts(batch))
        _add(sums, {name: term.sum.double() for name, term in losses.terms.items()})
        _add(statistics, losses.statistics)
    values = {name: float(total) / max(counts[terms[name].count], 1.0) for name, total in sums.items()}
    loss = sum(values[name] * term.weight for name, term in terms.items())
    return {"loss": loss} | values | objective.measures(statistics)


def _add(total: dict[str, Any], more: Any) -> None:
    for name, value in more.items():
        total[name] = total[name] + value if name in total else value
