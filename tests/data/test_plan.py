"""The batch plan."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechkit.data.plan import Plan, PlanSettings

SIZES = st.lists(st.integers(0, 5000), min_size=1, max_size=40)


def plan_of(sizes: list[int], *, ids: list[str] | None = None, crop: int | None = None, **settings: float) -> Plan:
    ids = ids or [f"u{i}" for i in range(len(sizes))]
    return Plan(ids, sizes, 1000, PlanSettings(**{"batch_seconds": 8.0, **settings}), 7, crop)  # type: ignore[arg-type]


@given(SIZES, st.integers(1, 5))
def test_every_epoch_holds_every_utterance_once_and_none_is_dropped_at_its_end(sizes: list[int], max_cuts: int) -> None:
    plan = plan_of(sizes, max_cuts=max_cuts)
    number = 0
    for epoch in range(3):
        micro_batches = [plan.micro_batch(number + i) for i in range(len(plan.epoch(epoch)))]
        number += len(micro_batches)
        assert {m.epoch for m in micro_batches} == {epoch}
        assert sorted(i for m in micro_batches for i in m.indices) == list(range(len(sizes)))
        assert max(len(m.indices) for m in micro_batches) <= max_cuts


@given(SIZES)
def test_padded_size_keeps_to_the_budget_unless_one_utterance_alone_exceeds_it(sizes: list[int]) -> None:
    for indices in plan_of(sizes, quadratic_seconds=4.0).epoch(0):
        longest = max(sizes[i] for i in indices)
        assert len(indices) == 1 or len(indices) * longest * (1 + longest / 4000) <= 8000


def test_utterances_of_a_micro_batch_come_longest_first() -> None:
    sizes = [300, 900, 100, 900, 500]
    (indices,) = plan_of(sizes, sort_noise=0.0).epoch(0)
    assert indices.tolist() == [1, 3, 4, 0, 2]


def test_listing_order_does_not_change_the_plan() -> None:
    sizes = [(137 * i) % 900 for i in range(30)]
    ids = [f"u{i}" for i in range(30)]
    plan = plan_of(sizes, ids=ids)
    other = plan_of(sizes[::-1], ids=ids[::-1])
    assert [[plan.ids[i] for i in g] for g in plan.epoch(1)] == [[other.ids[i] for i in g] for g in other.epoch(1)]


def test_any_micro_batch_is_found_without_those_before() -> None:
    sizes = [(137 * i) % 900 for i in range(30)]
    from_start = plan_of(sizes, max_cuts=4)
    expected = [from_start.micro_batch(n) for n in range(40)]
    assert plan_of(sizes, max_cuts=4).micro_batch(39) == expected[39]
    assert [from_start.micro_batch(n) for n in (39, 3, 20)] == [expected[n] for n in (39, 3, 20)]


def test_epochs_differ() -> None:
    plan = plan_of([(137 * i) % 900 for i in range(30)], max_cuts=4)
    assert [g.tolist() for g in plan.epoch(0)] != [g.tolist() for g in plan.epoch(1)]


def test_utterances_count_as_their_longest_crop() -> None:
    assert [len(g) for g in plan_of([5000, 5000, 5000, 5000], crop=2000).epoch(0)] == [4]
    assert [len(g) for g in plan_of([5000, 5000, 5000, 5000]).epoch(0)] == [1, 1, 1, 1]


@pytest.mark.parametrize("ids", [[], ["a", "a"]], ids=["no utterances", "the same id twice"])
def test_a_plan_needs_utterances_with_different_ids(ids: list[str]) -> None:
    with pytest.raises(ValueError, match="different ids"):
        Plan(ids, [1] * len(ids), 1000, PlanSettings(batch_seconds=1.0), 0)
