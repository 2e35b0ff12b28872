from __future__ import annotations

import sys

import pytest
import torch

from speechkit.allocator import MemoryLevel, keep_memory, release_memory, resident_mib

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


def test_memory_above_the_level_of_the_first_batch_goes_back() -> None:
    keep_memory()
    release_memory()
    level = MemoryLevel()
    level.hold()
    blocks = [torch.ones(MIB) for _ in range(400)]
    level.hold()
    held = resident_mib()
    assert held > 1.1 * level.mib, "what is in use cannot go back"
    first, blocks = blocks[0], []
    level.hold()
    assert resident_mib() < held - 300
    assert first.sum() == MIB
