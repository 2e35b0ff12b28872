"""Collects the golden cases of each system and counts what was compared."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.golden.golden import Case

_COMPARED: dict[str, int] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden_case" in metafunc.fixturenames:
        system = metafunc.module.__name__.rpartition("test_")[2]
        folder = metafunc.config.getoption("--golden-dir") / system
        cases = sorted(p.parent for p in folder.glob("*/case.json"))
        metafunc.parametrize("golden_case", cases, ids=[f"{system}/{c.name}" for c in cases], indirect=True)


@pytest.fixture
def golden_case(request: pytest.FixtureRequest) -> Iterator[Case]:
    """A case, read; the number of its compared values goes into the summary."""
    case = Case(request.param)
    yield case
    _COMPARED[str(request.param)] = case.num_values


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _COMPARED:
        terminalreporter.write_line(f"golden: {len(_COMPARED)} cases, {sum(_COMPARED.values())} values compared")
