"""The mean of the weights of several moments of a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from speechkit.checkpoints.weights import read_safetensors
from speechkit.errors import ModelError


def average(paths: Sequence[Path]) -> dict[str, Tensor]:
    """Average safetensors files of one model, added up in float64.

    What is no floating-point number comes from the newest file, the last by name.

    Raises:
        ModelError: a file is missing or damaged, or they do not hold the same tensors.
    """
    if not paths:
        raise ValueError("there are no weights to average")
    newest = max(paths, key=lambda p: p.name)
    tensors = read_safetensors(newest)
    sums = {name: t.double() for name, t in tensors.items() if t.is_floating_point()}
    for path in paths:
        if path != newest:
            _add(path, sums, tensors, newest.name)
    return tensors | {name: (total / len(paths)).to(tensors[name].dtype) for name, total in sums.items()}


def _add(path: Path, sums: dict[str, Tensor], like: dict[str, Tensor], newest: str) -> None:
    tensors = read_safetensors(path)
    if different := tensors.keys() ^ like.keys():
        raise ModelError(f"{path}: not the tensors of {newest}: {min(different)}", code="model.keys")
    for name, total in sums.items():
        if tensors[name].shape != total.shape:
            raise ModelError(
                f"{path}: {name} has shape {tuple(tensors[name].shape)}, in {newest} {tuple(total.shape)}",
                code="model.shape",
            )
        total += tensors[name]
