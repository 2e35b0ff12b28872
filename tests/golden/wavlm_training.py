"""Goldens of training: learning rates, and what the loss makes of stored logits."""

from __future__ import annotations

from typing import Any

from speechkit.train.schedules import ScheduleSettings, polynomial, tri_stage
from tests.golden.golden import Case

_SCHEDULES = {"polynomial_decay", "tri_stage"}


def is_schedules(case: Case) -> bool:
    return case.has("rows") and all(row.get("kind") in _SCHEDULES for row in case.json["rows"])


def check_schedules(case: Case) -> None:
    tolerance = case.json["tolerance"]
    for number, row in enumerate(case.take("rows")):
        rates = [_rate(row["kind"], row["config"], step) for step in row["steps"]]
        case.equal(f"rows[{number}].lr", rates, row["lr"], atol=tolerance["atol"], rtol=tolerance["rtol"])
        if row["config"].get("phase_ratio"):
            settings = _shares(row["config"])
            rates = [
                settings.rate(s, peak=row["config"]["lr"][0], max_steps=row["config"]["max_update"])
                for s in row["steps"]
            ]
            case.equal(f"rows[{number}].lr by shares", rates, row["lr"], atol=tolerance["atol"], rtol=tolerance["rtol"])


def _rate(kind: str, config: dict[str, Any], step: int) -> float:
    (peak,) = config["lr"]
    if kind == "polynomial_decay":
        assert config["force_anneal"] is None, "restarting the decay at an epoch is not implemented"
        return polynomial(
            step,
            peak=peak,
            warmup=config["warmup_updates"],
            total=config["total_num_update"],
            end=config["end_learning_rate"],
            power=config["power"],
        )
    warmup, hold, decay = (config[f"{phase}_steps"] for phase in ("warmup", "hold", "decay"))
    if config["phase_ratio"]:
        warmup, hold, decay = (int(ratio * config["max_update"]) for ratio in config["phase_ratio"])
    return tri_stage(
        step,
        peak=peak,
        warmup=warmup,
        hold=hold,
        decay=decay,
        initial_scale=config["init_lr_scale"],
        final_scale=config["final_lr_scale"],
    )


def _shares(config: dict[str, Any]) -> ScheduleSettings:
    warmup, hold, decay = config["phase_ratio"]
    return ScheduleSettings(
        warmup=warmup,
        hold=hold,
        decay=decay,
        initial_scale=config["init_lr_scale"],
        final_scale=config["final_lr_scale"],
    )


CHECKS = [(is_schedules, check_schedules)]
