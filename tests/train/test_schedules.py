from __future__ import annotations

import pytest

from speechkit.train.schedules import ScheduleSettings


def test_polynomial_goes_up_from_0_and_down_to_0() -> None:
    schedule = ScheduleSettings(kind="polynomial", warmup=0.08)
    rates = [schedule.rate(step, peak=5e-4, max_steps=1000) for step in (0, 40, 80, 540, 999, 1000)]
    assert rates == pytest.approx([0.0, 2.5e-4, 5e-4, 2.5e-4, 5e-4 / 920, 0.0])


def test_polynomial_of_power_2_is_below_the_line() -> None:
    schedule = ScheduleSettings(kind="polynomial", warmup=0, power=2.0)
    assert schedule.rate(50, peak=1.0, max_steps=100) == pytest.approx(0.25)


def test_tri_stage_warms_up_holds_and_decays_by_decades() -> None:
    schedule = ScheduleSettings(warmup=0.08, hold=0.42, decay=0.5, final_scale=10**-1.5)
    rates = [schedule.rate(step, peak=2e-3, max_steps=1000) for step in (0, 40, 80, 499, 750, 1000, 2000)]
    assert rates == pytest.approx([2e-5, 1.01e-3, 2e-3, 2e-3, 2e-3 * 10**-0.75, 2e-3 * 10**-1.5, 2e-3 * 10**-1.5])


def test_phases_above_1_are_numbers_of_steps() -> None:
    shares = ScheduleSettings(warmup=0.25, hold=0.0, decay=0.5)
    numbers = ScheduleSettings(warmup=50, hold=0, decay=100)
    for step in range(220):
        assert shares.rate(step, peak=1.0, max_steps=200) == numbers.rate(step, peak=1.0, max_steps=200)


def test_no_warmup_begins_at_the_peak() -> None:
    for kind in ("polynomial", "tri_stage"):
        assert ScheduleSettings(kind=kind, warmup=0).rate(0, peak=1.0, max_steps=10) == 1.0
