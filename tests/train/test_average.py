from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from speechkit.errors import ModelError
from speechkit.train.average import average


def test_the_mean_is_computed_in_float64(tmp_path: Path) -> None:
    values = [1.0, 2.0**-24, 2.0**-24]  # lost one by one in float32
    for number, value in enumerate(values):
        save_file({"x": torch.tensor([value])}, tmp_path / f"step-{number}.safetensors")
    mean = average(sorted(tmp_path.iterdir()))["x"]
    assert mean.dtype == torch.float32
    assert float(mean) == float(torch.tensor(sum(values) / 3, dtype=torch.float32))


def test_integers_come_from_the_newest(tmp_path: Path) -> None:
    paths = [tmp_path / f"step-{number}.safetensors" for number in (2, 1)]
    for path in paths:
        save_file({"n": torch.tensor(int(path.stem[-1])), "x": torch.ones(1)}, path)
    assert int(average(paths)["n"]) == 2


def test_other_tensors_are_refused(tmp_path: Path) -> None:
    save_file({"x": torch.ones(2)}, tmp_path / "step-1.safetensors")
    save_file({"x": torch.ones(3)}, tmp_path / "step-2.safetensors")
    save_file({"y": torch.ones(2)}, tmp_path / "step-3.safetensors")
    with pytest.raises(ModelError, match=r"step-1\.safetensors: x has shape \(2,\), in step-2\.safetensors \(3,\)"):
        average([tmp_path / "step-1.safetensors", tmp_path / "step-2.safetensors"])
    with pytest.raises(ModelError, match=r"step-1\.safetensors: not the tensors of step-3\.safetensors: x"):
        average([tmp_path / "step-1.safetensors", tmp_path / "step-3.safetensors"])
