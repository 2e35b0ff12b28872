"""Overlap rows of a batch with pieces of other rows or of noise: WavLM's simulation of noisy and overlapped speech.

Source: Chen et al., "WavLM" (2022), section III-B; microsoft/UniSpeech `mixing_collated_audios`. N is the number of
noises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from speechkit import draws
from speechkit.audio.normalize import normalize
from speechkit.data.batch import Batch
from speechkit.data.cut import Cut, num_samples_at, whole
from speechkit.data.transforms import Transform, between, by_id, lengths_of, rate_of, waves_of, with_draws, words
from speechkit.data.utterance import Utterance

_SPEECH_DB = -5.0, 5.0
_NOISE_DB = -5.0, 20.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """One piece added to one row.

    Attributes:
        row: what it is added to.
        start: first sample in the row.
        num_samples: length of the piece.
        other: the row, or the noise, that it comes from.
        other_start: first sample there.
        noise: whether it comes from the noises.
        ratio_db: energy of the row over that of the piece's whole row or noise.
    """

    row: int
    start: int
    num_samples: int
    other: int
    other_start: int
    noise: bool
    ratio_db: float


def mix(
    waves: Tensor,
    lengths: Tensor,
    overlaps: Sequence[Overlap],
    *,
    noises: Tensor | None = None,
    noise_lengths: Tensor | None = None,
    eps: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Add the pieces in the order given, each on top of those before; what is silent adds nothing.

    Args:
        waves: float `(B, T)`; they stay as they are.
        lengths: int64 `(B,)`.
        overlaps: sorted by row; the pieces of a row that was mixed already hold what was added to it.
        noises: float `(N, T')`.
        noise_lengths: int64 `(N,)`.
        eps: give every row mean 0 and variance 1 again after its own pieces, with this added to the variance.

    Returns:
        float `(B, T)`, and the share of each row that its audible pieces cover together, float `(B,)`.
    """
    mixed = waves.clone()
    covered = waves.new_zeros(len(waves))
    for i, overlap in enumerate(overlaps):
        row = mixed[overlap.row]
        if overlap.noise:
            assert noises is not None
            assert noise_lengths is not None
            other, other_length = noises[overlap.other], noise_lengths[overlap.other]
        else:
            other, other_length = mixed[overlap.other], lengths[overlap.other]
        energy = _energy(other, other_length)
        scale = (_energy(row, lengths[overlap.row]) / (energy * 10 ** (overlap.ratio_db / 10))).sqrt()
        scale = torch.where(energy > 0, scale, 0.0)
        piece = other[overlap.other_start : overlap.other_start + overlap.num_samples].clone()  # maybe the row's own
        row[overlap.start : overlap.start + overlap.num_samples] += scale * piece
        covered[overlap.row] += torch.where(scale > 0, overlap.num_samples, 0)
        last_of_row = i + 1 == len(overlaps) or overlaps[i + 1].row != overlap.row
        if eps is not None and last_of_row:
            row.copy_(normalize(row[None], lengths[overlap.row : overlap.row + 1], eps)[0])
    return mixed, (covered / lengths.clamp(min=1)).clamp(max=1)


def _energy(row: Tensor, length: Tensor) -> Tensor:
    """Mean square over a row's own samples; its padding is zero."""
    return row.square().sum() / length.clamp(min=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class UtteranceMixing(Transform):
    """Overlap some utterances with a piece of another one of the micro-batch, or of a noise; labels stay as they are.

    The defaults are those of WavLM Base, which has no noise.

    Attributes:
        prob: share of the utterances that are mixed.
        noises: recordings of noise, kept in the order of their ids; all of one is read where a piece of it is wanted.
        noise_prob: share of the mixed ones that get noise (0.1 for WavLM Base+ and Large).
        eps: normalize a row again after mixing, with this added to the variance; None: leave it.
    """

    prob: float = 0.2
    noises: tuple[Utterance, ...] = ()
    noise_prob: float = 0.0
    eps: float | None = None

    def __post_init__(self) -> None:
        if self.noise_prob and not self.noises:
            raise ValueError(f"noise_prob is {self.noise_prob}, but there are no noises")
        object.__setattr__(self, "noises", by_id(self.noises))

    def draw(self, batch: Batch, seed: int) -> Batch:
        """Draws `mix.pick` (−1 for none), `mix.noise`, `.length`, `.start`, `.other` (the start there), `.energy`."""
        lengths, rate = lengths_of(batch), rate_of(batch)
        mixed, noise = (draws.uniform(words(batch, seed, "mix.p", 2)) < [self.prob, self.noise_prob]).T
        pick_words = words(batch, seed, "mix.pick")[:, 0]
        pick = draws.randint(pick_words, np.where(noise, len(self.noises), len(lengths)))
        others = zip(pick, noise, strict=True)
        other_lengths = np.array([num_samples_at(self.noises[p], rate) if n else lengths[p] for p, n in others])
        length = draws.randint(words(batch, seed, "mix.length")[:, 0], lengths // 2 + 1)
        length = np.minimum(length, other_lengths)
        free = np.stack([lengths, other_lengths], axis=1) - length[:, None]
        start, other_start = draws.randint(words(batch, seed, "mix.start", 2), free + 1).T
        energy = words(batch, seed, "mix.energy")[:, 0]
        return with_draws(
            batch,
            {
                "mix.pick": np.where(mixed, pick, -1),
                "mix.noise": noise,
                "mix.length": length,
                "mix.start": start,
                "mix.other": other_start,
                "mix.energy": np.where(noise, between(*_NOISE_DB, energy), between(*_SPEECH_DB, energy)),
            },
        )

    def recordings(self, batch: Batch) -> Mapping[str, Sequence[Cut]]:
        """The noises, in the order of the rows that get one."""
        rows = zip(batch.draws["mix.pick"].tolist(), batch.draws["mix.noise"].tolist(), strict=True)
        return {"mix": [whole(self.noises[pick], rate_of(batch)) for pick, noise in rows if noise and pick >= 0]}

    def __call__(self, batch: Batch) -> Batch:
        """Mix row after row, and measure `mix.overlap`, the share of each row that was overlapped."""
        waves, lengths = waves_of(batch)
        noises, noise_lengths = batch.draws.get("mix.waves"), batch.draws.get("mix.lengths")
        mixed, overlap = mix(waves, lengths, _overlaps(batch), noises=noises, noise_lengths=noise_lengths, eps=self.eps)
        return replace(with_draws(batch, {"mix.overlap": overlap}), waves=mixed)


def _overlaps(batch: Batch) -> list[Overlap]:
    overlaps, num_noises = [], 0
    names = "pick", "noise", "length", "start", "other", "energy"
    rows = zip(*(batch.draws[f"mix.{name}"].tolist() for name in names), strict=True)
    for row, (pick, noise, length, start, other_start, ratio_db) in enumerate(rows):
        if pick >= 0:
            overlaps.append(
                Overlap(
                    row=row,
                    start=start,
                    num_samples=length,
                    other=num_noises if noise else pick,
                    other_start=other_start,
                    noise=noise,
                    ratio_db=ratio_db,
                )
            )
            num_noises += noise
    return overlaps
