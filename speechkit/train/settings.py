"""What a training is told."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from speechkit.config import FREE, check_ranges
from speechkit.train.schedules import ScheduleSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainSettings:
    """Settings of the loop. The optimizer is AdamW; its defaults are those of HuBERT's and WavLM's pre-training.

    Attributes:
        max_steps: optimizer steps; None: as many as `max_minutes` allow. With both, whichever is less.
        max_minutes: a budget: 20 steps are timed before the first one and the number of steps is computed from them,
            once; the schedule counts steps. Validation comes on top.
        learning_rate: the peak.
        schedule: of the learning rate.
        betas: of AdamW.
        eps: of AdamW.
        weight_decay: of AdamW; on every parameter, decoupled from the gradient, as in fairseq's Adam.
        clip: largest norm of the gradient; None: it is not clipped.
        dtype: `auto` is bfloat16 where a half-second trial finds it faster.
        recompute: save memory for more time: of every layer of the encoder only the input is kept for
            the way back, which computes the rest again. It changes no result.
        compile: put every layer of the encoder through `torch.compile`, which needs a C++ compiler and, as of torch
            2.13, an environment in whose path there is no space. Results are equal but for rounding.
        frozen: parameters whose names begin so are never trained.
        freeze_steps: for so many steps, those of `freeze_first` are not trained.
        freeze_first: beginnings of names, as in `frozen`.
        ema: decay of the running average of the weights that is validated and exported; 0: the weights themselves.
        validate_every: steps between validations. The weights are kept at each of them.
        best: which value of the validation ranks weights, the least being best.
        keep_best: how many of the best weights are kept.
        keep_last: how many of the newest weights are kept.
        save_minutes: a checkpoint to continue from is written so often, besides at validations and at the end.
        log_every: steps between rows of metrics.jsonl.

    Those with `FREE` may change in the middle of a training.
    """

    max_steps: int | None = None
    max_minutes: float | None = None
    learning_rate: float = 5e-4
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    weight_decay: float = 0.01
    clip: float | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    recompute: bool = field(default=False, metadata=FREE)
    compile: bool = field(default=False, metadata=FREE)
    frozen: tuple[str, ...] = ()
    freeze_steps: int = 0
    freeze_first: tuple[str, ...] = ("encoder.",)
    ema: float = 0.0
    validate_every: int = 1000
    best: str = "loss"
    keep_best: int = 1
    keep_last: int = 1
    save_minutes: float = field(default=30.0, metadata=FREE)
    log_every: int = field(default=50, metadata=FREE)

    def __post_init__(self) -> None:
        if self.max_steps is None and self.max_minutes is None:
            raise ValueError("neither max_steps nor max_minutes is set")
        check_ranges(self, **dict.fromkeys(("max_steps", "validate_every", "log_every", "keep_last"), (1, math.inf)))
        check_ranges(
            self, **dict.fromkeys(("keep_best", "freeze_steps", "weight_decay", "save_minutes"), (0, math.inf))
        )
        check_ranges(self, ema=(0, 0.99999))
        for name in ("max_minutes", "learning_rate", "eps", "clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}, it must be positive")
