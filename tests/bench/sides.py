"""Sides for tests of the timing, in a module that their processes can import."""

from __future__ import annotations

import time

import numpy as np

from bench.timing import Output, Work


def array(value: float, pause: float = 0.0) -> Work:
    def work() -> Output:
        time.sleep(pause)
        return [np.full(4, value), np.zeros(2)]

    return work


def texts(*, words: list[str]) -> Work:
    return lambda: words


def nothing() -> Work:
    return lambda: []


def large(mib: int) -> Work:
    def work() -> Output:
        np.ones(mib << 17).sum()
        return [np.ones(1)]

    return work


def broken() -> Work:
    raise RuntimeError("no such library")


def products() -> Work:
    """A convolution, a product and other things, of which the floor keeps two."""
    import torch

    def work() -> Output:
        waves = torch.ones(1, 1, 400)
        frames = torch.conv1d(waves, torch.ones(8, 1, 10), stride=5).relu().transpose(1, 2)
        return [(frames @ torch.ones(8, 3)).softmax(-1)]

    return work
