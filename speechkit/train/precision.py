"""The type that a network computes in: float32, or bfloat16 where this machine is faster in it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

log = logging.getLogger(__name__)

_SECONDS = 0.1  # a timing of one type
GAIN = 1.1  # by which bfloat16 has to be faster to be worth its rounding


def choose_dtype(wanted: Literal["auto", "float32", "bfloat16"], device: torch.device) -> torch.dtype:
    """The wanted type; for `auto`, the faster one for a convolution and a product, forward and backward.

    A CPU without bfloat16 units is many times slower in it than in float32, so half a second decides.
    """
    if wanted != "auto":
        return torch.float32 if wanted == "float32" else torch.bfloat16
    gain = bfloat16_gain(device)
    dtype = torch.bfloat16 if gain >= GAIN else torch.float32
    log.info("bfloat16 runs at %.2f times the speed of float32 here: training in %s", gain, str(dtype)[6:])
    return dtype


def bfloat16_gain(device: torch.device) -> float:
    """How many times as fast as in float32 the trial runs in bfloat16; takes half a second."""
    rates = {dtype: _rate(dtype, device) for dtype in (torch.float32, torch.bfloat16)}
    return rates[torch.bfloat16] / rates[torch.float32]


def autocast(dtype: torch.dtype, device: torch.device) -> torch.autocast:
    """The context in which a network computes in `dtype`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


def _rate(dtype: torch.dtype, device: torch.device) -> float:
    """Trials a second, after one that is not counted."""
    trial = _trial(dtype, device)
    trial()
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < _SECONDS or not count:
        trial()
        count += 1
    return count / elapsed


def _trial(dtype: torch.dtype, device: torch.device) -> Callable[[], None]:
    """One convolution and one product of the sizes of a small encoder; done when the call returns."""
    waves = torch.linspace(-1, 1, 4 * 128 * 1600, device=device).view(4, 128, 1600).requires_grad_()
    kernel = torch.linspace(-1, 1, 128 * 128 * 3, device=device).view(128, 128, 3).requires_grad_()
    matrix = torch.linspace(-1, 1, 128 * 512, device=device).view(128, 512).requires_grad_()

    def run() -> None:
        with autocast(dtype, device):
            hidden: Tensor = F.conv1d(waves, kernel, stride=2)
            product = hidden.transpose(1, 2) @ matrix
        product.float().sum().backward()
        assert kernel.grad is not None
        float(kernel.grad[0, 0, 0])  # waits for a device that computes on the side

    return run
