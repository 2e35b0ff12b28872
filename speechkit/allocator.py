"""What becomes of memory on CPUs that is not needed any more.

oneDNN would keep up to 1,024 prepared operations, one for every shape met: gigabytes where lengths vary. Preparing one
anew costs little, so it keeps fewer. It reads its limit at its first operation: a process that computed before stays
as it is.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

# mallopt's parameters, from glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4


def keep_memory() -> bool:
    """Set up glibc for training: what a step frees the next one asks for.

    Touching fresh pages each time cost a quarter of a small model's time.

    Returns:
        Whether glibc listened; other systems have no such settings.
    """
    # never give memory back, take 64 MiB at a time, and map no block on its own
    return _set({_M_TRIM_THRESHOLD: -1, _M_TOP_PAD: 64 << 20, _M_MMAP_MAX: 0})


def return_memory() -> bool:
    """Set up glibc for inference, where no batch is like the one before: large blocks go back to the system at once.

    Left to itself glibc comes to keep blocks of up to 32 MiB in its heap, whose holes cost up to half as much memory
    again over 10,000 recordings. On huge pages this takes no more time (see THP_MEM_ALLOC_ENABLE in cli/main.py).

    Returns:
        Whether glibc listened; other systems have no such settings.
    """
    return _set({_M_TRIM_THRESHOLD: 4 << 20, _M_TOP_PAD: 0, _M_MMAP_THRESHOLD: 4 << 20, _M_MMAP_MAX: 1 << 16})


def release_memory() -> None:
    """Give the system back what glibc keeps between steps; the next step takes what it needs anew.

    Among batches of any shape the heap comes to have more and more holes: to be called now and then, it keeps a long
    training at the memory of its beginning.
    """
    if trim := _glibc("malloc_trim"):
        trim(0)


def _set(options: dict[int, int]) -> bool:
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    mallopt = _glibc("mallopt")
    return mallopt is not None and all(mallopt(option, value) for option, value in options.items())


def _glibc(name: str) -> Any:
    """A function of glibc; None elsewhere."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None  # musl has neither
