"""How well discrete units agree with phones: purities and normalized mutual information.

Source: Hsu et al., "HuBERT: Self-Supervised Speech Representation Learning by Masked Prediction of Hidden Units"
(TASLP 2021), section IV-C. N frames, P phones, K units.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from speechkit.errors import InputError

Labels = NDArray[np.int64]


class Span(NamedTuple):
    """A labeled stretch of an utterance, in seconds."""

    start: float
    end: float
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitQuality:
    """Agreement of units with phones.

    Attributes:
        frames: how many were counted.
        phone_purity: share of frames whose phone is the commonest one of their unit.
        cluster_purity: share of frames whose unit is the commonest one of their phone.
        pnmi: mutual information of phones and units over the entropy of the phones.
    """

    frames: int
    phone_purity: float
    cluster_purity: float
    pnmi: float


def joint_counts(phones: Labels, units: Labels, num_phones: int, num_units: int) -> Labels:
    """Count pairs: `(N,)` and `(N,)` → `(P, K)`. Frames with a phone below 0 have no label and are left out.

    Counts of several utterances add up.
    """
    if len(phones) != len(units):
        raise ValueError(f"{len(phones)} frames of phones, {len(units)} of units")
    known = phones >= 0
    pairs = phones[known] * num_units + units[known]
    return np.bincount(pairs, minlength=num_phones * num_units).reshape(num_phones, num_units).astype(np.int64)


def unit_quality(counts: Labels) -> UnitQuality:
    """Purities and PNMI from the joint counts `(P, K)`."""
    total = int(counts.sum())
    if total == 0:
        raise ValueError("no frames")
    phone_entropy = entropy(counts.sum(1))
    mutual = phone_entropy + entropy(counts.sum(0)) - entropy(counts.reshape(-1))
    return UnitQuality(
        frames=total,
        phone_purity=int(counts.max(0).sum()) / total,
        cluster_purity=int(counts.max(1).sum()) / total,
        pnmi=mutual / phone_entropy if phone_entropy > 0 else 0.0,
    )


def entropy(counts: Labels) -> float:
    """Entropy in nats of the distribution that the counts make."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())


def frame_labels(spans: Iterable[Span], ids: dict[str, int], num_frames: int, frame_rate: float) -> Labels:
    """The label of every frame `(num_frames,)`: that of the span its middle lies in, -1 where there is none.

    Where spans overlap the later one counts.
    """
    labels = np.full(num_frames, -1, dtype=np.int64)
    for span in spans:
        # 1e-6 of a frame: a middle that lies on a border belongs to what begins there, whatever the rounding
        first, last = (max(0, int(np.ceil(time * frame_rate - 0.5 - 1e-6))) for time in (span.start, span.end))
        labels[first:last] = ids[span.label]
    return labels


def read_alignment(path: str | Path) -> dict[str, list[Span]]:
    """Read lines `<utterance> <channel> <start> <duration> <label>` (ctm).

    Raises:
        InputError: a line has other fields (file and line are named).
    """
    alignment: dict[str, list[Span]] = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        try:
            utterance, _, start, duration, label = line.split(" ")
            span = Span(float(start), float(start) + float(duration), label)
        except ValueError as error:
            raise InputError(f"{path}:{number}: not a line of a ctm: {error}", code="ctm") from error
        alignment.setdefault(utterance, []).append(span)
    return alignment


def label_ids(alignment: Mapping[str, Sequence[Span]]) -> dict[str, int]:
    """Number the labels of an alignment, in the order of their names."""
    labels = {span.label for spans in alignment.values() for span in spans}
    return {label: i for i, label in enumerate(sorted(labels))}
