from __future__ import annotations

import pytest
import torch

from speechkit.train import precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(("gain", "expected"), [(1.05, torch.float32), (2.2, torch.bfloat16), (0.03, torch.float32)])
def test_auto_takes_bfloat16_where_it_is_faster(
    monkeypatch: pytest.MonkeyPatch, gain: float, expected: torch.dtype
) -> None:
    rates = {torch.float32: 100.0, torch.bfloat16: 100.0 * gain}
    monkeypatch.setattr(precision, "_rate", lambda dtype, device: rates[dtype])
    assert precision.choose_dtype("auto", CPU) == expected


def test_a_type_can_be_forced_without_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_rate", lambda dtype, device: pytest.fail("tried"))
    assert precision.choose_dtype("bfloat16", CPU) == torch.bfloat16
    assert precision.choose_dtype("float32", CPU) == torch.float32


def test_the_trial_chooses_one_of_both_types() -> None:
    assert precision.choose_dtype("auto", CPU) in (torch.float32, torch.bfloat16)


def test_autocast_computes_in_the_type_chosen() -> None:
    x = torch.ones(2, 2)
    with precision.autocast(torch.bfloat16, CPU):
        assert (x @ x).dtype == torch.bfloat16
    with precision.autocast(torch.float32, CPU):
        assert (x @ x).dtype == torch.float32
