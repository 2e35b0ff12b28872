"""Which frames of every utterance are masked in spans: two published samplers, as functions of their draws.

Sources: wav2vec 2.0 and HuBERT of fairseq (`compute_mask_indices`); transformers (`_compute_mask_indices`).
F is the number of frames of the longest row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from speechkit import draws
from speechkit.config import check_ranges

Mask = NDArray[np.bool_]
Integers = NDArray[np.int64]


class Source(Protocol):
    """Where the draws of one row come from, asked in a fixed order."""

    def rand(self) -> float:
        """A number in [0, 1)."""

    def choice(self, items: Integers, k: int) -> Integers:
        """`k` of the items, each at most once."""

    def weighted(self, weights: NDArray[np.float64]) -> int:
        """An index, with probabilities that add up to 1."""

    def integers(self, low: int, high: int, count: int) -> Integers:
        """`count` integers of [low, high)."""

    def normal(self, mean: float, std: float, count: int) -> NDArray[np.float64]:
        """`count` normal numbers."""

    def poisson(self, mean: float, count: int) -> Integers:
        """`count` Poisson numbers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpanSettings:
    """The spans of a mask; the defaults are WavLM's and HuBERT's.

    Attributes:
        prob: masked share of the frames if no spans overlapped.
        length: of a span, in frames; its mean for the kinds that vary.
        kind: how the lengths of spans are distributed.
        other: `uniform`: the shortest span; `normal`: the standard deviation.
        min_masks: spans of a row at least.
        no_overlap: spans stay apart by `min_space` frames.
        min_space: frames between spans that do not overlap.
        trim: cut every row down to the smallest number of masked frames of the micro-batch, as published. For crops of
            equal length; in a padded batch one short row would shrink all masks.
    """

    prob: float = 0.8
    length: int = 10
    kind: Literal["static", "uniform", "normal", "poisson"] = "static"
    other: float = 0.0
    min_masks: int = 2
    no_overlap: bool = False
    min_space: int = 1
    trim: bool = False

    def __post_init__(self) -> None:
        check_ranges(self, prob=(0, 1), length=(1, math.inf), min_masks=(0, math.inf), min_space=(0, math.inf))

    def num_spans(self, num_frames: int, rounding: float) -> int:
        """How many spans a row gets; `rounding` in [0, 1) decides where the fraction goes."""
        return max(self.min_masks, int(self.prob * num_frames / self.length + rounding))


def span_mask(
    lengths: Sequence[int],
    num_frames: int,
    settings: SpanSettings,
    sources: Sequence[Source],
    rounding: float | None = None,
) -> Mask:
    """Draw the masked frames as fairseq does.

    Args:
        lengths: frames of every row.
        num_frames: F.
        settings: the spans.
        sources: of the draws, one a row.
        rounding: one number for all rows, as published for batches without padding; None: each row draws its own.

    Returns:
        bool `(B, F)`, true where masked; false on padding.
    """
    rows = []
    for length, source in zip(lengths, sources, strict=True):
        num_spans = settings.num_spans(length, source.rand() if rounding is None else rounding)
        spans = _span_lengths(num_spans, length, settings, source)
        place = _spans_apart if settings.no_overlap else _spans_anywhere
        frames = np.unique(place(spans, length, settings, source))
        rows.append(frames[frames < length])
    if settings.trim:
        fewest = min(map(len, rows))
        rows = [s.choice(r, fewest) if len(r) > fewest else r for r, s in zip(rows, sources, strict=True)]
    return _mask(rows, num_frames)


def span_mask_transformers(
    lengths: Sequence[int], num_frames: int, settings: SpanSettings, sources: Sequence[Source], rounding: float
) -> Mask:
    """Draw the masked frames as transformers does; of the settings prob, length and min_masks count.

    Args:
        lengths: frames of every row.
        num_frames: F.
        settings: the spans.
        sources: of the draws, one a row.
        rounding: one number in [0, 1) for all rows.

    Returns:
        bool `(B, F)`, true where masked. A row too short for a span has frame F − 1 masked, be it padding or not.
    """
    size = settings.length

    def num_spans(length: int) -> int:
        count = settings.num_spans(length, rounding)
        if count * size > num_frames:
            count = num_frames // size
        return max(0, min(count, length - size + 1))

    if num_spans(num_frames) == 0:
        return np.zeros((len(lengths), num_frames), dtype=bool)
    rows = []
    for length, source in zip(lengths, sources, strict=True):
        starts = source.choice(np.arange(length - size + 1), num_spans(length))
        frames = _spread(starts, np.full(len(starts), size))
        rows.append(np.minimum(frames, num_frames - 1) if len(starts) else np.array([num_frames - 1]))
    return _mask(rows, num_frames)


def _span_lengths(count: int, num_frames: int, settings: SpanSettings, source: Source) -> Integers:
    if settings.kind == "static":
        spans = np.full(count, settings.length)
    elif settings.kind == "uniform":
        spans = source.integers(int(settings.other), 2 * settings.length + 1, count)
    elif settings.kind == "normal":
        spans = np.rint(source.normal(settings.length, settings.other, count)).astype(np.int64).clip(min=1)
    else:
        spans = source.poisson(settings.length, count)
    if count and not spans.any():
        spans[0] = min(settings.length, num_frames - 1)
    return spans


def _spans_anywhere(spans: Integers, num_frames: int, settings: SpanSettings, source: Source) -> Integers:  # noqa: ARG001
    """Different starts, spans that may overlap."""
    if not len(spans):
        return spans
    shortest = int(spans.min())
    if num_frames - shortest <= len(spans):
        shortest = num_frames - len(spans) - 1
    return _spread(source.choice(np.arange(num_frames - shortest), len(spans)), spans)


def _spans_apart(spans: Integers, num_frames: int, settings: SpanSettings, source: Source) -> Integers:
    """The longest spans first, each into a free segment drawn by its length."""
    if not len(spans):
        return spans
    shortest, space = int(spans.min()), settings.min_space
    segments = [(0, num_frames)]
    starts, placed = [], []
    for span in sorted(spans.tolist(), reverse=True):
        room = np.array([end - start if end - start >= span + space else 0 for start, end in segments])
        if not room.sum():
            break
        start, end = segments.pop(source.weighted(room / room.sum()))
        at = int(source.integers(start, end - span, 1)[0])
        if at - start - space >= shortest:
            segments.append((start, at - space + 1))
        if end - at - shortest - space > shortest:
            segments.append((at + span + space, end))
        starts.append(at)
        placed.append(span)
    return _spread(np.array(starts, dtype=np.int64), np.array(placed, dtype=np.int64))


def _spread(starts: Integers, spans: Integers) -> Integers:
    """Every frame of the spans."""
    within = np.arange(spans.sum()) - np.repeat(np.cumsum(spans) - spans, spans)
    return np.repeat(starts, spans) + within


def _mask(rows: Sequence[Integers], num_frames: int) -> Mask:
    mask = np.zeros((len(rows), num_frames), dtype=bool)
    for row, frames in zip(mask, rows, strict=True):
        row[frames] = True
    return mask


class Stream:
    """The draws of one row out of its words `(W,)`, one after the other."""

    def __init__(self, words: draws.Words) -> None:
        self._words = words
        self._used = 0

    def _next(self, count: int) -> draws.Words:
        self._used += count
        assert self._used <= len(self._words), "a mask needed more words than were drawn for it"
        return self._words[self._used - count : self._used]

    def rand(self) -> float:
        """A number in [0, 1)."""
        return float(draws.uniform(self._next(1))[0])

    def choice(self, items: Integers, k: int) -> Integers:
        """`k` of the items, each at most once."""
        return items[draws.choose(self._next(2 * len(items)), k, len(items))]

    def weighted(self, weights: NDArray[np.float64]) -> int:
        """An index, with probabilities that add up to 1."""
        return min(int(np.searchsorted(np.cumsum(weights), self.rand(), side="right")), len(weights) - 1)

    def integers(self, low: int, high: int, count: int) -> Integers:
        """`count` integers of [low, high)."""
        return low + draws.randint(self._next(count), high - low)

    def normal(self, mean: float, std: float, count: int) -> NDArray[np.float64]:
        """`count` normal numbers."""
        return mean + std * draws.normal(self._next(2 * count))

    def poisson(self, mean: float, count: int) -> Integers:
        """`count` Poisson numbers, by the inverse of the distribution function."""
        k = np.arange(int(mean + 20 * math.sqrt(mean) + 20))
        log_factorial = np.concatenate([[0.0], np.cumsum(np.log(k[1:]))])
        distribution = np.cumsum(np.exp(k * math.log(mean) - mean - log_factorial))
        return np.searchsorted(distribution, draws.uniform(self._next(count)), side="right")


def streams(
    seed: int, epoch: int, purpose: str, ids: Sequence[str], num_frames: int, settings: SpanSettings
) -> list[Stream]:
    """A stream for every utterance, with as many words as a mask of up to `num_frames` frames can need."""
    num_spans = settings.num_spans(num_frames, 1.0)
    starts = 2 * max(num_frames, num_spans + 1)
    trimming = 2 * num_frames if settings.trim else 0
    count = 1 + 2 * num_spans + max(starts, 2 * num_spans) + trimming
    return [Stream(row) for row in draws.words(seed, epoch, purpose, ids, count)]
