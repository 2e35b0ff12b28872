"""An objective on held-out batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from speechkit.objectives.objective import Objective
from speechkit.train.update import Step, add_counts


@torch.no_grad()
def evaluate(model: nn.Module, objective: Objective[Any], steps: Iterable[Step]) -> dict[str, float]:
    """Every term of the objective, its `measures` and the weighted sum `loss`, over all the micro-batches.

    The model is left in evaluation mode.
    """
    model.eval()
    counts: dict[str, float] = {}
    sums: dict[str, Tensor] = {}
    statistics: dict[str, Tensor] = {}
    terms: dict[str, tuple[str, float]] = {}
    for step in steps:
        _add(counts, add_counts(objective, step.micro_batches))
        for batch in step.load():
            losses = objective(model, batch, step.number)
            _add(sums, {name: term.sum.double() for name, term in losses.terms.items()})
            _add(statistics, losses.statistics)
            terms |= {name: (term.count, term.weight) for name, term in losses.terms.items()}
    values = {name: float(total) / max(counts[terms[name][0]], 1.0) for name, total in sums.items()}
    loss = sum(values[name] * weight for name, (_, weight) in terms.items())
    return {"loss": loss} | values | objective.measures(statistics)


def _add(total: dict[str, Any], more: Any) -> None:
    for name, value in more.items():
        total[name] = total[name] + value if name in total else value
