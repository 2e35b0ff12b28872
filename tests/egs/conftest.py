from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

EGS = Path(__file__).parents[2] / "egs"


@pytest.fixture
def egs() -> Callable[[str], ModuleType]:
    """The prepare.py of a corpus, loaded by path as recipes load it."""

    def load(corpus: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"prepare_{corpus}", EGS / corpus / "prepare.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def tone() -> Callable[..., None]:
    """Write a recording; its length and loudness tell it from others."""

    def write(path: Path, seconds: float, rate: int, *, amplitude: float = 0.1, format: str | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        wave = amplitude * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
        soundfile.write(path, np.rint(wave * 32767).astype(np.int16), rate, format=format)

    return write
