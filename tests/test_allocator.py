from __future__ import annotations

import sys

import pytest
import torch

from speechkit.allocator import keep_memory, release_memory
from speechkit.train.monitor import memory_mib

CPU = torch.device("cpu")
MIB = 1 << 18  # float32 numbers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only glibc has these settings")


def test_glibc_accepts_the_settings() -> None:
    assert keep_memory()


def test_memory_that_is_free_goes_back_to_the_system_even_below_what_is_in_use() -> None:
    keep_memory()
    blocks = [torch.ones(MIB) for _ in range(101)]
    before = memory_mib(CPU)
    del blocks[:100]
    release_memory()
    assert memory_mib(CPU) < before - 50
    assert blocks[0].sum() == MIB
