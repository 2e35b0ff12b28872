"""Which utterances make up which micro-batch: an endless plan, the same for any number of workers and processes.

The plan counts one integer size for every utterance (samples, tokens, frames) against a budget in the same unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from speechkit import draws
from speechkit.config import check_ranges
from speechkit.data.cut import num_samples_at
from speechkit.data.utterance import Utterance

_LEAST_SECONDS = 0.1
_EPOCHS_KEPT = 2  # the current one, and the one that reading ahead has reached


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanSettings:
    """How utterances are packed into micro-batches.

    Attributes:
        batch_seconds: the budget of a micro-batch, padding included.
        max_cuts: utterances of a micro-batch at most.
        sort_noise: how far lengths may be out of order, as a share of the length.
        quadratic_seconds: the length at which an utterance counts twice; None counts lengths alone.
    """

    batch_seconds: float
    max_cuts: int = 1000
    sort_noise: float = 0.05
    quadratic_seconds: float | None = None

    def __post_init__(self) -> None:
        check_ranges(self, batch_seconds=(_LEAST_SECONDS, math.inf), max_cuts=(1, math.inf), sort_noise=(0, 1))


@dataclass(frozen=True, kw_only=True, slots=True)
class MicroBatch:
    """The utterances of one micro-batch, longest first.

    Attributes:
        number: in the endless plan; within its epoch for a plan of `EVALUATION`.
        epoch: which pass over the set it belongs to.
        indices: positions of its utterances in the set.
    """

    number: int
    epoch: int
    indices: tuple[int, ...]


class Plan:
    """The micro-batches of epochs 0, 1, 2, … one after the other; nothing is dropped where an epoch ends.

    Args:
        ids: utterance ids, all different.
        num_samples: the size of every utterance at `sample_rate`.
        sample_rate: sizes a second.
        settings: how to pack them.
        seed: of every draw.
        max_crop_samples: for training on crops: what a longer utterance counts as.

    Raises:
        ValueError: there are no utterances, or two have the same id.
    """

    def __init__(
        self,
        ids: Sequence[str],
        num_samples: Sequence[int] | NDArray[np.int64],
        sample_rate: int,
        settings: PlanSettings,
        seed: int,
        max_crop_samples: int | None = None,
    ) -> None:
        if not ids or len(set(ids)) != len(ids):
            raise ValueError(f"a plan needs utterances with different ids, got {len(ids)}, {len(set(ids))} different")
        self.ids = list(ids)
        sizes = np.asarray(num_samples, dtype=np.int64)
        self.sizes = sizes if max_crop_samples is None else np.minimum(sizes, max_crop_samples)
        self.sample_rate = sample_rate
        self.settings = settings
        self.seed = seed
        self.max_crop_samples = max_crop_samples
        self.starts = [0]  # the first micro-batch of every epoch counted so far
        self._rank = np.argsort(sorted(range(len(ids)), key=self.ids.__getitem__))  # ids compare as these do
        self._epochs: dict[int, list[NDArray[np.int64]]] = {}

    def micro_batch(self, number: int) -> MicroBatch:
        """Micro-batch `number` of the endless plan."""
        epoch = int(np.searchsorted(self.starts, number, side="right")) - 1
        while epoch == len(self.starts) - 1:
            self.starts.append(self.starts[-1] + len(self.epoch(epoch)))
            if self.starts[-1] <= number:
                epoch += 1
        indices = self.epoch(epoch)[number - self.starts[epoch]]
        return MicroBatch(number=number, epoch=epoch, indices=tuple(indices.tolist()))

    def epoch(self, epoch: int) -> list[NDArray[np.int64]]:
        """The utterances of every micro-batch of an epoch, in order."""
        if epoch not in self._epochs:
            while len(self._epochs) >= _EPOCHS_KEPT:
                del self._epochs[next(iter(self._epochs))]
            self._epochs[epoch] = self._plan(epoch)
        return self._epochs[epoch]

    def noisy_sizes(self, epoch: int) -> NDArray[np.float64]:
        """The sizes that an epoch is sorted by."""
        u = draws.uniform53(draws.words(self.seed, epoch, "sortnoise", self.ids, 2))[:, 0]
        return self.sizes * (1 + self.settings.sort_noise * (2 * u - 1))

    def _plan(self, epoch: int) -> list[NDArray[np.int64]]:
        order = np.lexsort((self._rank, self.noisy_sizes(epoch)))
        ends = self._pack(self.sizes[order].tolist())
        groups = np.split(order, ends[:-1])
        firsts = [self.ids[g[0]] for g in groups]
        keys = draws.key64(draws.words(self.seed, epoch, "batchorder", firsts, 2))[:, 0].tolist()
        shuffled = sorted(range(len(groups)), key=lambda k: (keys[k], firsts[k]))
        return [groups[k][np.lexsort((self._rank[groups[k]], -self.sizes[groups[k]]))] for k in shuffled]

    def _pack(self, sizes: list[int]) -> list[int]:
        """Take utterances in order while they fit; where each micro-batch ends."""
        s = self.settings
        budget = s.batch_seconds * self.sample_rate
        quadratic = s.quadratic_seconds * self.sample_rate if s.quadratic_seconds else np.inf
        ends: list[int] = []
        count, longest = 0, 0
        for position, size in enumerate(sizes):
            longest = max(longest, size)
            if count and (count == s.max_cuts or (count + 1) * longest * (1 + longest / quadratic) > budget):
                ends.append(position)
                count, longest = 0, size
            count += 1
        return [*ends, len(sizes)]


def plan_utterances(
    utterances: Sequence[Utterance],
    sample_rate: int,
    settings: PlanSettings,
    *,
    seed: int,
    max_crop_samples: int | None = None,
) -> Plan:
    """The plan of utterances by their samples at `sample_rate`, whatever the rates of their files."""
    sizes = [num_samples_at(u, sample_rate) for u in utterances]
    return Plan([u.id for u in utterances], sizes, sample_rate, settings, seed, max_crop_samples)
