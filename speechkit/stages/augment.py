"""What is done to the audio of training batches, from settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speechkit.config import check_ranges
from speechkit.data.utterance import Utterance

if TYPE_CHECKING:
    from speechkit.data.transforms import Transform


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentSettings:
    """Changes of waveforms in training; by default there are none.

    Attributes:
        speed: factors to play utterances at; pitch moves along.
        tilt_db: their spectra are tilted by up to so many decibels an octave, as by other microphones.
        volume_db: utterances get louder or softer by up to so much.
        reverb_prob: share of the utterances that are put into a room of `rir_set`.
        noise_prob: share of the utterances that get a noise of `noise_set`.
        noise_db: lowest and highest ratio of speech to noise.
    """

    speed: tuple[float, ...] = ()
    tilt_db: float = 0.0
    volume_db: float = 0.0
    reverb_prob: float = 0.0
    noise_prob: float = 0.0
    noise_db: tuple[float, float] = (10.0, 30.0)

    def __post_init__(self) -> None:
        check_ranges(self, reverb_prob=(0, 1), noise_prob=(0, 1), tilt_db=(0, 40), volume_db=(0, 100))
        if any(not 0.1 <= factor <= 10 for factor in self.speed):
            raise ValueError(f"speed is {list(self.speed)}, factors must be from 0.1 to 10")


def waveform_transforms(
    settings: AugmentSettings,
    waveform_eps: float | None,
    *,
    noises: Sequence[Utterance] = (),
    rooms: Sequence[Utterance] = (),
) -> list[Transform]:
    """Speed, rooms, tilt, noise, volume and, for models that want it, normalization, as far as settings ask for them.

    Args:
        settings: how much of each.
        waveform_eps: of the model; None: its waveforms come as they are.
        noises: recordings to add.
        rooms: impulse responses.
    """
    from speechkit.data.transforms import Noise, Normalize, Reverberation, Speed, Tilt, Volume

    transforms: list[Transform] = []
    if settings.speed:
        transforms.append(Speed(factors=settings.speed))
    if settings.reverb_prob:
        transforms.append(Reverberation(utterances=tuple(rooms), prob=settings.reverb_prob))
    if settings.tilt_db:
        transforms.append(Tilt(most_db=settings.tilt_db))
    if settings.noise_prob:
        low, high = settings.noise_db
        transforms.append(Noise(utterances=tuple(noises), prob=settings.noise_prob, low_db=low, high_db=high))
    if settings.volume_db:
        transforms.append(Volume(low_db=-settings.volume_db, high_db=settings.volume_db))
    if waveform_eps is not None:
        transforms.append(Normalize(eps=waveform_eps))
    return transforms
