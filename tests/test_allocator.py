from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from speechkit.allocator import keep_memory, release_memory, resident_mib

MIB = 1 << 18  # float32 numbers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only glibc has these settings")


def test_glibc_accepts_the_settings() -> None:
    assert keep_memory()


def test_memory_that_is_free_goes_back_to_the_system_even_below_what_is_in_use() -> None:
    keep_memory()
    blocks = [torch.ones(MIB) for _ in range(101)]
    before = resident_mib()
    del blocks[:100]
    release_memory()
    assert resident_mib() < before - 50
    assert blocks[0].sum() == MIB


def test_memory_above_the_level_of_the_first_batch_goes_back_unless_it_is_in_use() -> None:
    """In a process of its own: others have freed memory that is taken first."""
    program = f"""
import torch
from speechkit.allocator import MemoryLevel, keep_memory, resident_mib
def batch(mib):
    return [torch.ones({MIB}) for _ in range(mib)]
keep_memory()
level = MemoryLevel()
for _ in range(16):
    level.hold()
first = level.mib
kept, blocks = batch(1), batch(400)
kept += batch(1)
blocks.clear()
freed = resident_mib()
level.hold()
print(freed - first, resident_mib() - first, level.mib - first)
blocks = batch(400)
level.hold()
print(level.mib - first)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    freed, held, level, in_use = (float(number) for number in told.split())
    assert freed > 350
    assert held < 100
    assert level < 100
    assert in_use > 350
