from __future__ import annotations

import sys

import pytest
import torch

from speechkit.train import precision
from speechkit.train.allocator import release_memory, tune_memory
from speechkit.train.monitor import memory_mib

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


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc has these settings")
def test_glibc_accepts_the_allocator_settings() -> None:
    assert tune_memory()


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc keeps so much")
def test_memory_that_is_free_goes_back_to_the_system_even_below_what_is_in_use() -> None:
    tune_memory()
    blocks = [torch.ones(1 << 18) for _ in range(101)]  # of a MiB each
    before = memory_mib(CPU)
    del blocks[:100]
    release_memory()
    assert memory_mib(CPU) < before - 50
    assert blocks[0].sum() == 1 << 18
