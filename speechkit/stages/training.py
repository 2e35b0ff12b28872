"""One training as a stage: what pre-training and fine-tuning share."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from speechkit.jobs import Interrupted
from speechkit.recipe.context import Context, ShareDone
from speechkit.recipe.processes import rank
from speechkit.train.settings import TrainSettings

if TYPE_CHECKING:
    from speechkit.objectives.objective import Objective
    from speechkit.train.loop import StepLoader, TrainResult


def train_in_stage(
    context: Context,
    model: Any,
    objective: Objective[Any],
    batches: StepLoader,
    settings: TrainSettings,
    *,
    seed: int,
    validate: Callable[[Any], Mapping[str, float | str]],
) -> TrainResult:
    """Train in the stage's work folder, or go on there; the rows of the log go to the output `metrics`.

    Raises:
        Interrupted: it was told to stop before its end.
        ShareDone: this is not process 0.
    """
    from speechkit.train.loop import train

    assert context.work is not None
    with context.progress(settings.max_steps or 0, "step") as progress:
        result = train(
            model,
            objective,
            batches,
            settings,
            seed=seed,
            out=context.work,
            validate=validate,
            progress=progress.update,
            should_stop=context.should_stop,
        )
    if rank():
        raise ShareDone
    if result.interrupted:
        raise Interrupted
    shutil.copy2(context.work / "metrics.jsonl", context.outputs["metrics"])
    return result
