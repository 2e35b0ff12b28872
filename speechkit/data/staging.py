"""The way of decoded samples to the device: pinned memory and a stream of its own on CUDA, nothing special elsewhere.

Letters: B rows, T samples.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechkit.data.batch import Batch

_NUM_BUFFERS = 4


class Staging:
    """Makes batches on a device while the model computes there.

    One thread makes them inside `side()` and ends each with `ready()`; the thread of the model calls `take()`.
    """

    def __init__(self, device: str | torch.device) -> None:
        self.device = torch.device(device)
        self._cuda = self.device.type == "cuda"
        if self._cuda:
            self._stream = torch.cuda.Stream(self.device)
            self._buffers = [torch.empty(0, dtype=torch.int16) for _ in range(_NUM_BUFFERS)]
            self._copied: list[torch.cuda.Event | None] = [None] * _NUM_BUFFERS
            self._turn = 0

    @contextlib.contextmanager
    def side(self) -> Iterator[None]:
        """Everything inside runs on the side stream."""
        if self._cuda:
            with torch.cuda.device(self.device), torch.cuda.stream(self._stream):
                yield
        else:
            yield

    def upload(self, samples: Sequence[NDArray[np.int16]]) -> Tensor:
        """Pad rows with zeros and bring them to the device: float32 `(B, T)` in ±1."""
        size = max((len(s) for s in samples), default=0)
        if self._cuda:
            rows = self._pinned(len(samples) * size).view(len(samples), size)
        else:
            rows = torch.empty(len(samples), size, dtype=torch.int16)
        for row, s in zip(rows.numpy(), samples, strict=True):
            row[: len(s)] = s
            row[len(s) :] = 0
        waves = rows.to(self.device, non_blocking=True)
        if self._cuda:
            self._copied[self._turn] = self._stream.record_event()
        return waves.float().mul_(2.0**-15)  # int16 full scale

    def _pinned(self, size: int) -> Tensor:
        """The next host buffer in turn, once its last copy has ended; they are pinned again only to grow."""
        self._turn = (self._turn + 1) % _NUM_BUFFERS
        if copied := self._copied[self._turn]:
            copied.synchronize()
        if self._buffers[self._turn].numel() < size:
            self._buffers[self._turn] = torch.empty(size, dtype=torch.int16, pin_memory=True)
        return self._buffers[self._turn][:size]

    def ready(self) -> torch.cuda.Event | None:
        """A mark behind everything that was started inside `side()` so far."""
        return self._stream.record_event() if self._cuda else None

    def take(self, batch: Batch, ready: torch.cuda.Event | None) -> Batch:
        """Let the current stream wait for the batch, and keep its memory until that stream has used it."""
        if ready is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(ready)
            for tensor in tensors(batch):
                if tensor.is_cuda:
                    tensor.record_stream(current)
        return batch


def tensors(batch: Batch) -> list[Tensor]:
    """Every tensor of a batch."""
    named = [*batch.labels.values(), *batch.label_lengths.values(), *batch.draws.values()]
    own = [batch.waves, batch.lengths, batch.features, batch.feature_lengths, batch.weights]
    return [t for t in [*own, *named] if isinstance(t, Tensor)]
