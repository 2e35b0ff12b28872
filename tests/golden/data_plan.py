"""Golden of the batch plan."""

from __future__ import annotations

import numpy as np

from speechkit.data.plan import Plan, PlanSettings
from tests.golden.golden import Case


def is_batch_plan(case: Case) -> bool:
    return case.has("num_samples", "settings", "ids", "c0_e0_noisy_length")


def check_batch_plan(case: Case) -> None:
    for q, stored in enumerate(case.config["settings"]):
        settings = PlanSettings(
            batch_seconds=stored["max_seconds"],
            max_cuts=stored["max_cuts"],
            sort_noise=stored["sort_noise"],
            quadratic_seconds=stored["quadratic_seconds"],
        )
        sizes = case.inputs["num_samples"].tolist()
        plan = Plan(case.config["ids"], sizes, case.config["sampling_rate"], settings, stored["seed"])
        number = 0
        for epoch in range(sum(name.startswith(f"c{q}_") and name.endswith("_sizes") for name in case.outputs)):
            micro_batches = [plan.micro_batch(n) for n in range(number, number + len(plan.epoch(epoch)))]
            number += len(micro_batches)
            assert {m.epoch for m in micro_batches} == {epoch}
            case.expect(f"c{q}_e{epoch}_noisy_length", plan.noisy_sizes(epoch))
            case.expect(f"c{q}_e{epoch}_order", np.array([i for m in micro_batches for i in m.indices]))
            case.expect(f"c{q}_e{epoch}_sizes", np.array([len(m.indices) for m in micro_batches]))


CHECKS = [(is_batch_plan, check_batch_plan)]
