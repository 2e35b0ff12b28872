"""Labels of utterances: sequences of tokens, and labels at a fixed rate that a crop has to cut too.

Source: wav2vec 2.0 and HuBERT of fairseq for the rounding. L is the number of labels of an utterance.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechkit.data.utterance import Utterance
from speechkit.errors import InputError

log = logging.getLogger(__name__)

_TOLERATED_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """One kind of label of every utterance.

    Attributes:
        values: integers `(L,)` by utterance id.
        rate: labels a second (of units, codes); None for a sequence that is not tied to time (of tokens).
    """

    values: Mapping[str, NDArray[np.integer] | Sequence[int]]
    rate: float | None = None

    def check(self, name: str, utterances: Sequence[Utterance]) -> None:
        """See that every utterance has labels, and warn where labels and audio are not equally long.

        Raises:
            InputError: an utterance has no labels.
        """
        for utterance in utterances:
            if utterance.id not in self.values:
                raise InputError(f"{utterance.id}: no {name}", code="data.labels")
        if self.rate:
            off = [u for u in utterances if abs(self._seconds(u) - u.duration_s) > _TOLERATED_SECONDS]
            if off:
                log.warning(
                    "%d of %d utterances: %s and audio differ by more than %.1f s, first %s: %.2f s against %.2f s",
                    len(off), len(utterances), name, _TOLERATED_SECONDS,
                    off[0].id, self._seconds(off[0]), off[0].duration_s,
                )  # fmt: skip

    def _seconds(self, utterance: Utterance) -> float:
        assert self.rate
        return len(self.values[utterance.id]) / self.rate

    def rows(
        self, ids: Sequence[str], starts: Sequence[int], num_samples: Sequence[int], sample_rate: int, *, cropped: bool
    ) -> list[NDArray[np.int64]]:
        """The labels of the spans that a micro-batch uses.

        Args:
            ids: its utterances.
            starts: where their spans start, in samples.
            num_samples: how long they are.
            sample_rate: of both.
            cropped: see `cut_labels`.
        """
        labels = [np.asarray(self.values[i], dtype=np.int64) for i in ids]
        return cut_labels(labels, starts, num_samples, self.rate, sample_rate, cropped=cropped) if self.rate else labels


def cut_labels(
    labels: Sequence[NDArray[np.int64]],
    starts: Sequence[int],
    num_samples: Sequence[int],
    rate: float,
    sample_rate: int,
    *,
    cropped: bool,
) -> list[NDArray[np.int64]]:
    """Cut the labels of spans of audio out of those of the utterances.

    Start and number of labels are rounded to the nearest integer, halves to the even one.

    Args:
        labels: int64 `(L,)` of every utterance.
        starts: where its span starts, in samples.
        num_samples: how long it is.
        rate: labels a second.
        sample_rate: samples a second.
        cropped: all spans are equally long, and their labels shall be too: as many as the row with the fewest has.
    """
    firsts = [round(s * rate / sample_rate) for s in starts]
    counts = [round(n * rate / sample_rate) for n in num_samples]
    if cropped:
        left = [len(row) - first for row, first in zip(labels, firsts, strict=True)]
        counts = [max(0, min(counts + left))] * len(labels)
    return [row[first : first + count] for row, first, count in zip(labels, firsts, counts, strict=True)]


def pad_labels(rows: Sequence[NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
    """Stack rows of labels, padded with 0: int64 `(B, L)`, and their lengths, int64 `(B,)`."""
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    padded = torch.zeros(len(rows), max((len(row) for row in rows), default=0), dtype=torch.int64)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = torch.from_numpy(np.ascontiguousarray(row))
    return padded, lengths
