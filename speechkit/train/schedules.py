"""The learning rate of every step. Steps count from 0: step n runs at the rate of n."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from speechkit.config import check_ranges


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleSettings:
    """How the learning rate goes up and down. The defaults are those of wav2vec 2.0's fine-tuning.

    Phases of up to 1 are shares of all steps; above, they are numbers of steps.

    Attributes:
        kind: `polynomial`: up from 0, then down to 0. `tri_stage`: up, hold, exponential decay.
        warmup: length of the way up, which is linear.
        hold: how long the peak is held (`tri_stage`).
        decay: length of the way down (`tri_stage`); afterwards the last rate stays.
        initial_scale: first rate over the peak (`tri_stage`).
        final_scale: last rate over the peak (`tri_stage`).
        power: of the way down (`polynomial`); 1 is a straight line.
    """

    kind: Literal["polynomial", "tri_stage"] = "tri_stage"
    warmup: float = 0.1
    hold: float = 0.4
    decay: float = 0.5
    initial_scale: float = 0.01
    final_scale: float = 0.05
    power: float = 1.0

    def __post_init__(self) -> None:
        check_ranges(self, **dict.fromkeys(("warmup", "hold", "decay", "initial_scale", "final_scale"), (0, math.inf)))

    def rate(self, step: int, *, peak: float, max_steps: int) -> float:
        """The learning rate of a step of a run of `max_steps`."""
        warmup = _num_steps(self.warmup, max_steps)
        if self.kind == "polynomial":
            return polynomial(step, peak=peak, warmup=warmup, total=max_steps, power=self.power)
        return tri_stage(
            step,
            peak=peak,
            warmup=warmup,
            hold=_num_steps(self.hold, max_steps),
            decay=_num_steps(self.decay, max_steps),
            initial_scale=self.initial_scale,
            final_scale=self.final_scale,
        )


def polynomial(step: int, *, peak: float, warmup: int, total: int, end: float = 0.0, power: float = 1.0) -> float:
    """Up linearly from 0 in `warmup` steps, then down to `end` at step `total`.

    Source: fairseq, optim/lr_scheduler/polynomial_decay_schedule.py.
    """
    if step <= warmup and warmup > 0:
        return step / warmup * peak
    if step >= total:
        return end
    return (peak - end) * (1 - (step - warmup) / (total - warmup)) ** power + end


def tri_stage(
    step: int,
    *,
    peak: float,
    warmup: int,
    hold: int,
    decay: int,
    initial_scale: float = 0.01,
    final_scale: float = 0.05,
) -> float:
    """Up linearly, hold, down exponentially, stay.

    Source: Park et al., "SpecAugment" (2019), section 3.2; fairseq, optim/lr_scheduler/tri_stage_lr_scheduler.py.
    """
    if step < warmup:
        return initial_scale * peak + (peak - initial_scale * peak) / warmup * step
    if step < warmup + hold:
        return peak
    if step <= warmup + hold + decay and decay:
        return peak * math.exp(math.log(final_scale) / decay * (step - warmup - hold))
    return final_scale * peak


def _num_steps(phase: float, max_steps: int) -> int:
    return int(phase * max_steps) if phase <= 1 else int(phase)
