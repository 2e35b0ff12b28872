"""What happens to batches between reading and the model: draws on the host, arithmetic on the device.

Every draw is addressed by the seed, the epoch, its purpose and the utterance. Letters: B batch, T samples, F frames,
D width, N noises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechkit import draws
from speechkit.audio.augment import add_noise, change_speed, change_volume, reverberate, spec_augment, tilt
from speechkit.audio.fbank import FbankConfig, fbank, num_frames
from speechkit.audio.mfcc import MfccConfig, mfcc
from speechkit.audio.normalize import normalize
from speechkit.data.batch import Batch
from speechkit.data.cut import Cut, cut, num_samples_at
from speechkit.data.span_mask import SpanSettings, span_mask, span_mask_transformers, streams
from speechkit.data.utterance import Utterance


class Transform:
    """One step. The loader calls `draw`, then reads `recordings`, then calls the transform with the waves."""

    __slots__ = ()

    def draw(self, batch: Batch, seed: int) -> Batch:  # noqa: ARG002
        """The batch, still without waves, with what is drawn for it and the lengths it will have."""
        return batch

    def recordings(self, batch: Batch) -> Mapping[str, Sequence[Cut]]:  # noqa: ARG002
        """What else to read for a drawn batch. It comes as draws `NAME.waves` `(N, T)` and `NAME.lengths` `(N,)`."""
        return {}

    def __call__(self, batch: Batch) -> Batch:
        """The batch with the transform applied. Draws are on the host; all else is on the device."""
        return batch


def with_draws(batch: Batch, drawn: Mapping[str, NDArray[np.generic] | Tensor]) -> Batch:
    """Add draws to a batch."""
    return replace(batch, draws={**batch.draws, **{name: torch.as_tensor(values) for name, values in drawn.items()}})


def words(batch: Batch, seed: int, purpose: str, count: int = 1) -> draws.Words:
    """The first words of every utterance's address, `(B, count)`."""
    return draws.words(seed, batch.epoch, purpose, batch.ids, count)


def between(low: float, high: float, w: draws.Words) -> NDArray[np.float32]:
    """One number of [low, high) a word."""
    return (low + (high - low) * draws.uniform(w)).astype(np.float32)


def waves_of(batch: Batch) -> tuple[Tensor, Tensor]:
    """Waves and lengths, which are there once a batch was read."""
    assert batch.waves is not None
    assert batch.lengths is not None
    return batch.waves, batch.lengths


def lengths_of(batch: Batch) -> NDArray[np.int64]:
    """The lengths of a batch that is still on the host."""
    assert batch.lengths is not None
    return batch.lengths.numpy()


def rate_of(batch: Batch) -> int:
    """The sampling rate of a batch that has one."""
    assert batch.sample_rate is not None
    return batch.sample_rate


def by_id(utterances: Sequence[Utterance]) -> tuple[Utterance, ...]:
    """In the order of their ids, so that a draw means the same whatever order a list came in."""
    return tuple(sorted(utterances, key=lambda u: u.id))


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed(Transform):
    """Play every utterance at one of the factors; its pitch moves too."""

    factors: tuple[float, ...] = (0.9, 1.0, 1.1)

    def draw(self, batch: Batch, seed: int) -> Batch:
        """Draws `speed`, the factors."""
        drawn = np.array(self.factors)[draws.randint(words(batch, seed, "speed")[:, 0], len(self.factors))]
        rate = rate_of(batch)
        faster = np.rint(rate * drawn).astype(np.int64)
        lengths = -(-lengths_of(batch) * rate // faster)
        return replace(with_draws(batch, {"speed": drawn}), lengths=torch.from_numpy(lengths))

    def __call__(self, batch: Batch) -> Batch:
        """Resample the rows of each factor together."""
        waves, lengths = change_speed(*waves_of(batch), batch.draws["speed"], rate_of(batch))
        return replace(batch, waves=waves, lengths=lengths)


@dataclass(frozen=True, kw_only=True, slots=True)
class Volume(Transform):
    """Scale every utterance by a number of decibels."""

    low_db: float = -6.0
    high_db: float = 6.0

    def draw(self, batch: Batch, seed: int) -> Batch:
        """Draws `volume`, the factors."""
        decibels = between(self.low_db, self.high_db, words(batch, seed, "volume")[:, 0])
        return with_draws(batch, {"volume": 10 ** (decibels / 20)})

    def __call__(self, batch: Batch) -> Batch:
        """Scale."""
        waves, _ = waves_of(batch)
        return replace(batch, waves=change_volume(waves, batch.draws["volume"]))


@dataclass(frozen=True, kw_only=True, slots=True)
class Tilt(Transform):
    """Tilt every utterance's spectrum, by as many decibels an octave up as down."""

    most_db: float = 3.0

    def draw(self, batch: Batch, seed: int) -> Batch:
        """Draws `tilt`, dB an octave."""
        slopes = between(-self.most_db, self.most_db, words(batch, seed, "tilt")[:, 0])
        return with_draws(batch, {"tilt": slopes})

    def __call__(self, batch: Batch) -> Batch:
        """Filter."""
        return replace(batch, waves=tilt(*waves_of(batch), batch.draws["tilt"], rate_of(batch)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Normalize(Transform):
    """Give every utterance mean 0 and variance 1 over its own samples.

    Attributes:
        eps: added to the variance, from the settings of the model.
    """

    eps: float

    def __call__(self, batch: Batch) -> Batch:
        """Normalize."""
        return replace(batch, waves=normalize(*waves_of(batch), self.eps))


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise(Transform):
    """Add one noise to some utterances: a short one somewhere, of a long one a piece as long as the utterance.

    Attributes:
        utterances: the noises; they are kept in the order of their ids.
        prob: share of the utterances that get one.
        low_db: smallest ratio of the powers of utterance and noise, each over its own samples.
        high_db: largest ratio.
    """

    utterances: tuple[Utterance, ...]
    prob: float = 0.5
    low_db: float = 10.0
    high_db: float = 30.0

    def __post_init__(self) -> None:
        if not self.utterances:
            raise ValueError("there are no noises to add")
        object.__setattr__(self, "utterances", by_id(self.utterances))

    def draw(self, batch: Batch, seed: int) -> Batch:
        """Draws `noise.pick` (−1 for none), `noise.offset` (in the row; negative: into the noise), `noise.snr`."""
        pick = draws.randint(words(batch, seed, "noise.pick")[:, 0], len(self.utterances))
        free = lengths_of(batch) - np.array([num_samples_at(self.utterances[p], rate_of(batch)) for p in pick])
        offset = np.sign(free) * draws.randint(words(batch, seed, "noise.offset")[:, 0], np.abs(free) + 1)
        chosen = draws.uniform(words(batch, seed, "noise.p")[:, 0]) < self.prob
        return with_draws(
            batch,
            {
                "noise.pick": np.where(chosen, pick, -1),
                "noise.offset": np.where(chosen, offset, 0),
                "noise.snr": between(self.low_db, self.high_db, words(batch, seed, "noise.snr")[:, 0]),
            },
        )

    def recordings(self, batch: Batch) -> Mapping[str, Sequence[Cut]]:
        """The noises, in the order of the rows that get one."""
        rate, cuts = rate_of(batch), []
        picks, offsets = (batch.draws[name].tolist() for name in ("noise.pick", "noise.offset"))
        for pick, offset, length in zip(picks, offsets, lengths_of(batch).tolist(), strict=True):
            if pick >= 0:
                noise = self.utterances[pick]
                cuts.append(cut(noise, max(0, -offset), min(length, num_samples_at(noise, rate)), rate))
        return {"noise": cuts}

    def __call__(self, batch: Batch) -> Batch:
        """Add the noises; a silent one adds nothing."""
        waves, lengths = waves_of(batch)
        rows = (batch.draws["noise.pick"] >= 0).nonzero()[:, 0]
        if not len(rows):
            return batch
        offsets, snr = batch.draws["noise.offset"][rows].clamp(min=0), batch.draws["noise.snr"][rows]
        noises, noise_lengths = batch.draws["noise.waves"], batch.draws["noise.lengths"]
        rows = rows.to(waves.device)
        noisy = add_noise(waves[rows], lengths[rows], noises, noise_lengths, offsets, snr)
        return replace(batch, waves=waves.index_copy(0, rows, noisy))


@dataclass(frozen=True, kw_only=True, slots=True)
class Reverberation(Transform):
    """Put some utterances into a room; their power and their timing stay.

    Attributes:
        utterances: impulse responses; they are kept in the order of their ids.
        prob: share of the utterances that are put into one.
        most_seconds: how much of a response is used.
    """

    utterances: tuple[Utterance, ...]
    prob: float = 0.3
    most_seconds: float = 1.0

    def __post_init__(self) -> None:
        if not self.utterances:
            raise ValueError("there are no rooms")
        object.__setattr__(self, "utterances", by_id(self.utterances))

    def draw(self, batch: Batch, seed: int) -> Batch:
        """Draws `rir.pick` (−1 for none)."""
        pick = draws.randint(words(batch, seed, "rir.pick")[:, 0], len(self.utterances))
        chosen = draws.uniform(words(batch, seed, "rir.p")[:, 0]) < self.prob
        return with_draws(batch, {"rir.pick": np.where(chosen, pick, -1)})

    def recordings(self, batch: Batch) -> Mapping[str, Sequence[Cut]]:
        """The responses, in the order of the rows that get one."""
        rate = rate_of(batch)
        rooms = [self.utterances[pick] for pick in batch.draws["rir.pick"].tolist() if pick >= 0]
        most = round(self.most_seconds * rate)
        return {"rir": [cut(room, 0, min(most, num_samples_at(room, rate)), rate) for room in rooms]}

    def __call__(self, batch: Batch) -> Batch:
        """Convolve."""
        waves, lengths = waves_of(batch)
        rows = (batch.draws["rir.pick"] >= 0).nonzero()[:, 0].to(waves.device)
        if not len(rows):
            return batch
        responses, response_lengths = batch.draws["rir.waves"], batch.draws["rir.lengths"]
        wet = reverberate(waves[rows], lengths[rows], responses, response_lengths)
        return replace(batch, waves=waves.index_copy(0, rows, wet))


@dataclass(frozen=True, kw_only=True, slots=True)
class SpanMask(Transform):
    """Draw `mask.time`, bool `(B, F)`: the frames that the model is to mask.

    Attributes:
        num_frames: samples `(B,)` to frames `(B,)`, of the model.
        spans: how long and how many.
        sampler: whose rules: fairseq's, of the papers, or those of transformers.
    """

    num_frames: Callable[[Tensor], Tensor]
    spans: SpanSettings = field(default_factory=SpanSettings)
    sampler: Literal["fairseq", "transformers"] = "fairseq"

    def draw(self, batch: Batch, seed: int) -> Batch:
        """Draws `mask.time`."""
        assert batch.lengths is not None
        lengths = self.num_frames(batch.lengths).tolist()
        longest = max(lengths)
        sources = streams(seed, batch.epoch, "mask.time", batch.ids, longest, self.spans)
        if self.sampler == "fairseq":
            return with_draws(batch, {"mask.time": span_mask(lengths, longest, self.spans, sources)})
        address = [f"mb:{batch.number}"]
        rounding = float(draws.uniform(draws.words(seed, batch.epoch, "mask.time", address, 1))[0, 0])
        mask = span_mask_transformers(lengths, longest, self.spans, sources, rounding)
        return with_draws(batch, {"mask.time": mask})


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelMask(Transform):
    """Draw `mask.feat`, bool `(B, D)`: the channels that the model is to set to 0.

    Attributes:
        width: D.
        spans: how long and how many.
    """

    width: int
    spans: SpanSettings = field(default_factory=lambda: SpanSettings(prob=0.5, length=64, min_masks=0))

    def draw(self, batch: Batch, seed: int) -> Batch:
        """Draws `mask.feat`."""
        sources = streams(seed, batch.epoch, "mask.feat", batch.ids, self.width, self.spans)
        mask = span_mask([self.width] * len(batch.ids), self.width, self.spans, sources)
        return with_draws(batch, {"mask.feat": mask})


@dataclass(frozen=True, kw_only=True, slots=True)
class Features(Transform):
    """Compute Kaldi filter banks or MFCC of the waves, which stay in the batch."""

    config: FbankConfig | MfccConfig

    def draw(self, batch: Batch, seed: int) -> Batch:  # noqa: ARG002
        """The number of frames follows from the lengths."""
        assert batch.lengths is not None
        config = self.config.fbank if isinstance(self.config, MfccConfig) else self.config
        return replace(batch, feature_lengths=num_frames(batch.lengths, config))

    def __call__(self, batch: Batch) -> Batch:
        """Compute."""
        waves, lengths = waves_of(batch)
        if isinstance(self.config, MfccConfig):
            features, feature_lengths = mfcc(waves, lengths, self.config)
        else:
            features, feature_lengths = fbank(waves, lengths, self.config)
        return replace(batch, features=features, feature_lengths=feature_lengths)


@dataclass(frozen=True, kw_only=True, slots=True)
class SpecAugment(Transform):
    """Mask bands of bins and spans of frames of the features, and warp time. The defaults are lhotse's.

    Source: Park et al., "SpecAugment" (Interspeech 2019); lhotse `signal_transforms.py`.

    Attributes:
        width: D.
        prob: share of the utterances that are changed.
        num_bands: masks over bins.
        band: each is narrower than that.
        max_spans: masks over frames, of a long utterance; a short one has fewer.
        span: each is shorter than that.
        max_share: of the frames that all spans mask together.
        warp: frames by which a frame is moved at most; 0 moves none.
    """

    width: int
    prob: float = 0.9
    num_bands: int = 2
    band: int = 27
    max_spans: int = 10
    span: int = 100
    max_share: float = 0.15
    warp: int = 80

    def draw(self, batch: Batch, seed: int) -> Batch:
        """Draws `specaug.bands` and `specaug.spans`, first and end of each, and `specaug.warp`, from where to where."""
        assert batch.feature_lengths is not None
        frames = batch.feature_lengths.numpy()[:, None]
        w = words(batch, seed, "specaug", 3 + 2 * self.num_bands + 2 * self.max_spans)
        changed = draws.uniform(w[:, :1]) < self.prob
        band_words, span_words = np.split(w[:, 3:], [2 * self.num_bands], axis=1)
        bands = _intervals(band_words, np.full_like(frames, self.band), np.full_like(frames, self.width))
        num_spans = np.minimum(self.max_spans, np.ceil(self.max_share * frames / self.span)).astype(np.int64)
        longest = np.minimum(self.span, (self.max_share * frames / num_spans.clip(min=1)).astype(np.int64))
        wanted = np.arange(self.max_spans) < num_spans
        spans = _intervals(span_words, np.where(wanted, longest, 0), frames)
        center = self.warp + 1 + draws.randint(w[:, 1:2], (frames - 2 * self.warp - 1).clip(min=1))
        to = center - self.warp + draws.randint(w[:, 2:3], 2 * self.warp + 1)
        warped = changed & (frames > 2 * self.warp + 1)
        return with_draws(
            batch,
            {
                "specaug.bands": bands * changed[..., None],
                "specaug.spans": spans * changed[..., None],
                "specaug.warp": np.concatenate([center, to], axis=1) * warped,
            },
        )

    def __call__(self, batch: Batch) -> Batch:
        """Warp, then mask with each utterance's own mean."""
        assert batch.features is not None
        assert batch.feature_lengths is not None
        bands, spans, warp = (batch.draws[f"specaug.{name}"] for name in ("bands", "spans", "warp"))
        features = spec_augment(
            batch.features, batch.feature_lengths, freq_masks=bands, time_masks=spans, warps=warp if self.warp else None
        )
        return replace(batch, features=features)


def _intervals(w: draws.Words, limits: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Intervals shorter than `limits` inside of `sizes` (B, 1), first and end: `(B, M, 2)` from `(B, 2M)` words."""
    width = np.minimum(draws.randint(w[:, 0::2], limits.clip(min=1)), sizes)
    first = draws.randint(w[:, 1::2], (sizes - width).clip(min=1))
    return np.stack([first, first + width], axis=-1)
