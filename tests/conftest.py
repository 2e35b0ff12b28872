"""Options and fixtures shared by all tests."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other
settings.register_profile("speechkit", derandomize=True, deadline=None, max_examples=25)
settings.load_profile("speechkit")

ROOT = Path(__file__).parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden-dir", type=Path, default=ROOT / "tests/golden/cases", help="DIR/SYSTEM/CASE/case.json")
    parser.addoption("--data-dir", type=Path, default=None, help="real recordings, one folder a pack")


@pytest.fixture(scope="session")
def data_dir(request: pytest.FixtureRequest) -> Path:
    """The folder with real recordings; tests that need it are skipped elsewhere."""
    given = request.config.getoption("--data-dir") or os.environ.get("SPEECHKIT_DATA")
    path = Path(given) if given else ROOT.parent / "shared/data"
    if not path.is_dir():
        pytest.skip(f"no real recordings at {path}: pass --data-dir or set SPEECHKIT_DATA")
    return path


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """The command line sets up logging for its process; a test that calls it must not do so for the next one."""
    with logging_kept():
        yield


@contextlib.contextmanager
def logging_kept() -> Iterator[None]:
    """Undo what the body does to logging; fixtures of a module that call the command line need it of their own."""
    logger = logging.getLogger("speechkit")
    before = logger.level, logger.propagate, logger.handlers[:]
    yield
    logger.level, logger.propagate, logger.handlers[:] = before
    logger.manager._clear_cache()  # what is enabled at a level is remembered
