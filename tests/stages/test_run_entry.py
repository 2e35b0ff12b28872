"""What RESULTS.md says of a run."""

from __future__ import annotations

from speechkit.recipe.record import Record
from speechkit.stages.run_entry import described_environment


def record(stage: int, commit: str, *, modified: bool = False) -> Record:
    ran_with = {"commit": commit, "modified": modified}
    return Record(stage=stage, name=f"s{stage}", status="done", key="", parts={}, environment=ran_with)


def test_the_commits_are_those_that_the_stages_ran_with() -> None:
    assert described_environment([record(1, "a" * 40), record(2, "a" * 40)], "cpu")["commit"] == "a" * 12
    records = [record(10, "a" * 40), record(30, "b" * 40, modified=True), record(31, "a" * 40), record(32, "")]
    found = described_environment(records, "cpu")["commit"]
    assert found == f"{'a' * 12} (stages 10, 31), {'b' * 12} with changes (stages 30), none (stages 32)"
