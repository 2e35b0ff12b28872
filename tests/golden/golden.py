"""The one reader of golden cases: `DIR/SYSTEM/CASE/case.json` and the files beside it.

An adapter `test_SYSTEM.py` holds CHECKS, pairs of (recognise, check): the first whose `recognise(case)` is true runs.
They go by the files and fields present, never by a case's name. Every stored tensor of outputs.safetensors and every
field of case.json beyond the descriptive ones has to be consumed; what is left over is a failure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

DESCRIPTIVE = {"system", "case", "what", "made_with", "config", "steps", "tolerance", "notes"}

Check = tuple[Callable[["Case"], bool], Callable[["Case"], None]]


class Case:
    """One golden case: what was stored, and which of it has been compared."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.json: dict[str, Any] = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        self.config: dict[str, Any] = self.json.get("config", {})
        self.inputs = self.tensors("inputs.safetensors")
        self.outputs = self.tensors("outputs.safetensors")
        self.left = set(self.outputs) | (set(self.json) - DESCRIPTIVE)
        self.num_values = 0

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """The tensors of a file of the case; nothing when the file is not there."""
        return load_file(self.folder / name) if (self.folder / name).exists() else {}

    def has(self, *names: str) -> bool:
        """Whether all of these are files of the case, fields of case.json or tensors stored."""
        known = set(self.json) | set(self.config) | set(self.inputs) | set(self.outputs)
        return all(n in known or (self.folder / n).exists() for n in names)

    def take(self, field: str) -> Any:
        """A stored field of case.json, marked as consumed; compare its content with `equal`."""
        self.left.discard(field)
        return self.json[field]

    def expect(self, name: str, actual: Any, *, atol: float | None = None, rtol: float | None = None) -> None:
        """Compare the stored tensor `name`, at the case's tolerance unless another one is stated in the case."""
        self.left.discard(name)
        tolerance = self.json["tolerance"]
        atol = float(tolerance["atol"]) if atol is None else atol
        rtol = float(tolerance["rtol"]) if rtol is None else rtol
        self.equal(name, actual, self.outputs[name], atol=atol, rtol=rtol)

    def equal(self, what: str, actual: Any, stored: Any, *, atol: float = 0.0, rtol: float = 0.0) -> None:
        """Compare values that came from the case: tensors, numbers, text, or nested lists and mappings of them."""
        if isinstance(stored, Mapping):
            assert set(actual) == set(stored), f"{what}: {sorted(actual)} against stored {sorted(stored)}"
            for key in stored:
                self.equal(f"{what}.{key}", actual[key], stored[key], atol=atol, rtol=rtol)
        elif isinstance(stored, str | bool | None):
            assert actual == stored, f"{what}: {actual!r} against stored {stored!r}"
            self.num_values += 1
        elif _is_nested(stored):
            assert len(actual) == len(stored), f"{what}: {len(actual)} items against stored {len(stored)}"
            for i, (a, s) in enumerate(zip(actual, stored, strict=True)):
                self.equal(f"{what}[{i}]", a, s, atol=atol, rtol=rtol)
        else:
            self._equal_numbers(what, _array(actual), _array(stored), atol, rtol)

    def _equal_numbers(self, what: str, actual: np.ndarray, stored: np.ndarray, atol: float, rtol: float) -> None:
        assert actual.shape == stored.shape, f"{what}: shape {actual.shape} against stored {stored.shape}"
        self.num_values += stored.size
        if atol == rtol == 0:
            wrong = actual != stored
            wrong &= ~(_isnan(actual) & _isnan(stored))
        else:
            a, s = actual.astype(np.float64), stored.astype(np.float64)
            wrong = ~np.isclose(a, s, rtol=rtol, atol=atol, equal_nan=True)
        if wrong.any():
            error = np.abs(actual.astype(np.float64) - stored.astype(np.float64))
            where = np.unravel_index(int(np.nanargmax(np.where(wrong, error, -1))), error.shape)
            raise AssertionError(
                f"{what}: {int(wrong.sum())} of {wrong.size} values differ; largest at {tuple(map(int, where))}: "
                f"{actual[where]} against stored {stored[where]} (atol {atol}, rtol {rtol})"
            )

    def run(self, checks: Sequence[Check]) -> None:
        """Run the first check that recognises this case, and see that nothing stored was left out."""
        for recognise, check in checks:
            if recognise(self):
                check(self)
                assert not self.left, f"stored but not compared: {sorted(self.left)}"
                assert self.num_values or not self.outputs, "nothing was compared"
                return
        raise AssertionError(f"{self.folder}: no adapter understands this case")


def _is_nested(stored: Any) -> bool:
    return isinstance(stored, list | tuple) and any(isinstance(s, list | tuple | Mapping | str | None) for s in stored)


def _array(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def _isnan(value: np.ndarray) -> np.ndarray:
    return np.isnan(value) if value.dtype.kind == "f" else np.zeros(value.shape, dtype=bool)
