"""Utterances to look at and to listen to: a spectrogram with the words where they were recognized, and the sound.

T samples, F frames, D bands.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from speechkit.audio.fbank import FbankConfig, fbank
from speechkit.audio.files import encode
from speechkit.audio.resample import resample_array
from speechkit.metrics.units import Span
from speechkit.report.charts import spectrogram

# at most 2 MB of sound in a page: MP3 at this rate takes some 5 kB a second, a third more as text
MAX_CLIPS = 10
MAX_SECONDS = 25.0

_RATE = 16_000
_LEAST_SAMPLES = 400  # a frame
_MAX_FRAMES = 600  # of a picture; more would not be seen


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """An utterance, or the beginning of a long one.

    Attributes:
        samples: float32 `(T,)` at 16 kHz.
        words: what was recognized and when.
    """

    samples: NDArray[Any]
    words: Sequence[Span]


def clip(samples: NDArray[Any], rate: int, words: Sequence[Span]) -> Clip:
    """The first 25 s of an utterance: float `(T,)` at any rate."""
    start = resample_array(samples[: round(MAX_SECONDS * rate)], rate, _RATE)
    start = np.pad(start, (0, max(0, _LEAST_SAMPLES - len(start))))
    return Clip(samples=start, words=[word for word in words if word.start < MAX_SECONDS])


def shown(clip: Clip, wrong: Sequence[bool]) -> str:
    """Picture and sound, as HTML.

    Args:
        clip: the utterance.
        wrong: for each of its words, whether it was not said.
    """
    samples = clip.samples.clip(-1, 1)
    sound = base64.b64encode(encode("clip", samples, _RATE, "mp3")).decode()
    picture = spectrogram(_log_mel(samples), len(samples) / _RATE, clip.words, wrong)
    return f'{picture}<audio controls src="data:audio/mpeg;base64,{sound}"></audio>'


def _log_mel(samples: NDArray[Any]) -> NDArray[Any]:
    """Log energies `(F, D)`, 10 ms apart or so far that there are not too many."""
    shift_ms = max(10.0, 1000 * len(samples) / _RATE / _MAX_FRAMES)
    config = FbankConfig(sample_rate=_RATE, num_mel_bins=64, frame_shift_ms=shift_ms, snip_edges=False)
    features, _ = fbank(torch.from_numpy(samples)[None], torch.tensor([len(samples)]), config)
    return features[0].numpy()
