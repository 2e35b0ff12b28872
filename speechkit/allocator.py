"""Memory on CPUs: kept between steps, and not spent on every shape of batch that ever came by."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# mallopt's parameters, from glibc's malloc.h
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_SHORT = 16  # batches that are too few for memory to grow much
_GROWTH = 1.1  # times the first level


def keep_memory() -> bool:
    """Set up glibc and oneDNN for steps that need the same memory again and again, in batches of any shape.

    A step frees what the next one asks for; touching fresh pages each time cost a quarter of a small model's time.
    oneDNN keeps up to 1,024 prepared operations, one for every shape met: gigabytes when lengths vary. Preparing them
    anew costs little. It reads its limit at its first operation, so a process that computed before stays as it is.

    Returns:
        Whether glibc listened; other systems have no such settings.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    mallopt = _glibc("mallopt")
    if mallopt is None:
        return False
    # never give memory back, take 64 MiB at a time, and map no block on its own
    options = {_M_TRIM_THRESHOLD: -1, _M_TOP_PAD: 64 << 20, _M_MMAP_MAX: 0}
    accepted = [mallopt(option, value) for option, value in options.items()]
    return all(accepted)


def release_memory() -> None:
    """Give the system back what glibc keeps; what is needed next is taken anew.

    Among batches of any shape the heap comes to have more and more holes: called now and then, this keeps long work at
    the memory of its beginning.
    """
    if trim := _glibc("malloc_trim"):
        trim(0)


@dataclass(slots=True)
class MemoryLevel:
    """What inference on batches of any shape holds after the first of them.

    Attributes:
        mib: resident memory then, or later if so much was in use; 0 before.
        batches: there were.
    """

    mib: float = 0.0
    batches: int = 0

    def hold(self) -> None:
        """After a batch: give memory back if more than a tenth above the level is held; short work goes without."""
        held = resident_mib()
        self.batches += 1
        self.mib = self.mib or held
        if self.batches > _SHORT and held > _GROWTH * self.mib:
            release_memory()
            self.mib = max(self.mib, resident_mib())


def resident_mib() -> float:
    """Resident memory of this process in MiB; the most there ever was where the system doesn't tell more."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, KiB elsewhere
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _glibc(name: str) -> Any:
    """A function of glibc; None elsewhere."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None  # musl has neither
