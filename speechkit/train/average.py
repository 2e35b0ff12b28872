"""The mean of the weights of several moments of a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from speechkit.errors import ModelError


def average(paths: Sequence[Path]) -> dict[str, Tensor]:
    """Average safetensors files of one model, added up in float64.

    What is no floating-point number comes from the newest file, the last by name.

    Raises:
        ModelError: the files do not hold the same tensors.
    """
    if not paths:
        raise ValueError("there are no weights to average")
    newest = max(paths, key=lambda p: p.name)
    with safe_open(newest, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is no mapping
    sums = {name: t.double() for name, t in tensors.items() if t.is_floating_point()}
    for path in paths:
        if path != newest:
            _add(path, sums, set(tensors), newest)
    return tensors | {name: (total / len(paths)).to(tensors[name].dtype) for name, total in sums.items()}


def _add(path: Path, sums: dict[str, Tensor], names: set[str], newest: Path) -> None:
    with safe_open(path, framework="pt") as file:
        if different := names ^ set(file.keys()):
            raise ModelError(f"{path}: not the tensors of {newest.name}: {min(different)}", code="model.keys")
        for name, total in sums.items():
            tensor = file.get_tensor(name)
            if tensor.shape != total.shape:
                raise ModelError(
                    f"{path}: {name} has shape {tuple(tensor.shape)}, in {newest.name} {tuple(total.shape)}",
                    code="model.shape",
                )
            torch.add(total, tensor, out=total)
