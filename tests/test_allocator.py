from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from speechkit.allocator import keep_memory, release_memory, return_memory
from speechkit.train.monitor import memory_mib

CPU = torch.device("cpu")
MIB = 1 << 18  # float32 numbers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only glibc has these settings")


@pytest.mark.parametrize("settings", [keep_memory, return_memory])
def test_glibc_accepts_the_settings(settings: Callable[[], bool]) -> None:
    assert settings()


def test_memory_that_is_free_goes_back_to_the_system_even_below_what_is_in_use() -> None:
    keep_memory()
    blocks = [torch.ones(MIB) for _ in range(101)]
    before = memory_mib(CPU)
    del blocks[:100]
    release_memory()
    assert memory_mib(CPU) < before - 50
    assert blocks[0].sum() == MIB


def test_large_blocks_are_kept_for_training_and_returned_after_inference() -> None:
    assert _held_after("keep_memory") > 90
    assert _held_after("return_memory") < 30


def _held_after(settings: str) -> float:
    """MiB that a fresh process still holds after it freed 100 MiB below something in use, in blocks of 10."""
    program = f"""
import torch
from speechkit import allocator
from speechkit.train.monitor import memory_mib
allocator.{settings}()
cpu = torch.device("cpu")
before = memory_mib(cpu)
blocks = [torch.ones(10 * {MIB}) for _ in range(10)]
small = [bytes(1000) for _ in range(1000)]
del blocks
print(memory_mib(cpu) - before)
"""
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ)
    return float(made.stdout)
