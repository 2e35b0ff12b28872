"""Where and in which number type networks run."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from speechkit.errors import UsageError

log = logging.getLogger(__name__)

_SHOWN = 120  # characters of what torch says

DtypeName = Literal["auto", "float32", "bfloat16", "float16"]


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; `auto` takes the first that works of CUDA, Apple's GPU and the CPU.

    Of several processes on a machine each takes the GPU that LOCAL_RANK says, in turns where there are more of them.

    Raises:
        UsageError: there is no such device.
    """
    if name != "auto":
        if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
            raise UsageError(f"no device {name!r}", hint="auto, cpu, cuda, cuda:N or mps", code="device")
        try:
            device = _own(torch.device(name))
            torch.zeros(1, device=device)
        except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
            raise UsageError(
                f"device {name!r} cannot be used: {str(error).splitlines()[0][:_SHOWN]}",
                hint="--device auto takes what there is",
                code="device",
            ) from error
        return device
    for kind in ("cuda", "mps"):
        if _works(kind):
            log.info("device %s", kind)
            return _own(torch.device(kind))
    log.info("device cpu, %d threads", torch.get_num_threads())
    return torch.device("cpu")


def _own(device: torch.device) -> torch.device:
    """The GPU of this process, where none is named."""
    if str(device) != "cuda" or "LOCAL_RANK" not in os.environ:
        return device
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one core while the body runs: with another number of threads sums come out otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_dtype(name: DtypeName, device: torch.device) -> torch.dtype:
    """The number type of that name; `auto` is bfloat16 on GPUs that have it, float16 on older ones, else float32."""
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _works(kind: str) -> bool:
    available = torch.cuda.is_available() if kind == "cuda" else torch.backends.mps.is_available()
    if not available:
        return False
    try:
        torch.zeros(1, device=kind)
    except RuntimeError:  # listed, but out of order or out of memory
        return False
    return True
