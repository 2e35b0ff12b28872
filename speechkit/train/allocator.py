"""Memory that training on CPUs keeps between steps instead of giving it back."""

from __future__ import annotations

import ctypes
import sys

# mallopt's parameters, from glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_MIB = 1 << 20


def keep_memory() -> bool:
    """Tell glibc to keep freed memory; returns whether it listened (other systems have no such setting).

    A step frees what the next one asks for again, and touching fresh pages cost a quarter of a small model's time.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl has none
        return False
    # 32 MiB is the most that glibc accepts for the size from which memory is mapped and unmapped each time
    options = {_M_MMAP_THRESHOLD: 32 * _MIB, _M_TRIM_THRESHOLD: 1024 * _MIB, _M_TOP_PAD: 64 * _MIB}
    accepted = [mallopt(option, value) for option, value in options.items()]
    return all(accepted)
