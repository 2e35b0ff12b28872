"""What a run was: its records, its commands and where it ran, for RESULTS.md."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from speechkit.pipelines.machine import processor_name
from speechkit.recipe.environment import CLONE, environment
from speechkit.recipe.places import in_exp
from speechkit.recipe.record import Record
from speechkit.recipe.record import read as read_record


def own_records(exp: Path) -> list[Record]:
    """The records of the experiment's own stages; data that it shares may be made by another."""
    found = [read_record(file) for file in sorted((exp / ".stages").glob("[!.]*.json"))]
    return [r for r in found if r and any(in_exp(output) for output in r.parts.get("outputs", {}).values())]


def commands(records: list[Record]) -> dict[str, str]:
    """Their different command lines, to be typed where the clone lies, numbered."""
    lines = dict.fromkeys(r.command.replace(f"{CLONE}/", "") for r in records)
    return {str(number): line for number, line in enumerate(lines, 1)}


def described_environment(records: Sequence[Record], device: str) -> dict[str, str]:
    """Versions, the commits of the clone that the stages ran with, and the machine."""
    env = environment()
    return {
        "speechkit": env["speechkit"],
        "commit": _commits(records),
        "python": env["python"],
        "torch": env["torch"],
        "machine": f"{processor_name()}, {os.cpu_count()} cores, device {device}",
    }


def _commits(records: Sequence[Record]) -> str:
    stages: dict[str, list[int]] = {}
    for record in records:
        commit = record.environment.get("commit", "")[:12] + " with changes" * record.environment.get("modified", False)
        stages.setdefault(commit or "none", []).append(record.stage)
    if len(stages) == 1:
        return next(iter(stages))
    return ", ".join(f"{commit} (stages {', '.join(map(str, numbers))})" for commit, numbers in stages.items())
