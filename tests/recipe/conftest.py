from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from speechkit.recipe import Places, Planned, Recipe, Report, Resources, Selection, execute, plan


class NoBar:
    def update(self, done: int, total: int, text: str) -> None:
        pass

    def close(self) -> None:
        pass


class Lines:
    """A console that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.results: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)

    def result(self, text: str) -> None:
        self.results.append(text)

    def bar(self, label: str, unit: str) -> NoBar:
        return NoBar()


@dataclass
class Bench:
    """Runs a recipe in a folder, as the command line does."""

    recipe: Recipe
    places: Places
    console: Lines = field(default_factory=Lines)

    def run(self, config: Any, **selection: Any) -> Report:
        self.console = Lines()
        resources = Resources(command="speechkit run toy", device="cpu")
        return execute(self.recipe, config, self.places, Selection(**selection), self.console, resources)

    def plan(self, config: Any, **selection: Any) -> list[Planned]:
        return plan(self.recipe, config, self.places, Selection(**selection))

    def states(self, config: Any, **selection: Any) -> list[str]:
        return [p.state for p in self.plan(config, **selection)]

    def whys(self, config: Any, **selection: Any) -> list[str]:
        return [p.why for p in self.plan(config, **selection)]


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    """Makes a bench for a recipe under egs/mini."""

    def make(recipe: Recipe, tag: str = "base", system: str = "toy") -> Bench:
        folder = tmp_path / "egs/mini" / system
        folder.mkdir(parents=True, exist_ok=True)
        return Bench(recipe, Places(system=folder, tag=tag))

    return make
