"""Spans of utterances at the rate that a batch is made at, which may differ from that of their files."""

from __future__ import annotations

from dataclasses import dataclass, replace

from speechkit.data.utterance import Utterance


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """What to read of an utterance, and how much of it a batch keeps.

    Attributes:
        utterance: the span to read, at the file's rate.
        num_samples: what is kept at the batch's rate; resampling may give a sample or two more.
    """

    utterance: Utterance
    num_samples: int


def num_samples_at(utterance: Utterance, sample_rate: int) -> int:
    """Length of an utterance once it is resampled: the ratio of the rates times its samples, rounded up."""
    return -(-utterance.num_samples * sample_rate // utterance.sample_rate)


def whole(utterance: Utterance, sample_rate: int) -> Cut:
    """All of an utterance."""
    return Cut(utterance=utterance, num_samples=num_samples_at(utterance, sample_rate))


def cut(utterance: Utterance, start: int, num_samples: int, sample_rate: int) -> Cut:
    """A span of an utterance.

    Args:
        utterance: to cut from.
        start: first sample at `sample_rate`; rounded to a sample of the file.
        num_samples: length at `sample_rate`.
        sample_rate: of the batch.
    """
    rate = utterance.sample_rate
    count = min(-(-num_samples * rate // sample_rate), utterance.num_samples)
    first = min(start * rate // sample_rate, utterance.num_samples - count)
    span = replace(utterance, start=utterance.start + first, num_samples=count)
    return Cut(utterance=span, num_samples=num_samples)
