"""Features of recordings: filter banks, MFCC, or the states of an encoder's layers.

B batch, T samples, F frames, D width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from speechkit.allocator import MemoryLevel
from speechkit.audio.fbank import FbankConfig, fbank
from speechkit.audio.mfcc import hubert_mfcc
from speechkit.decode.windows import WindowSettings
from speechkit.errors import SpeechkitError, UsageError
from speechkit.pipelines.device import choose_device
from speechkit.pipelines.recognizer import Piece, batches, padded, windows
from speechkit.pipelines.recordings import Recording
from speechkit.pipelines.sources import Failure, Source

Kind = Literal["layers", "fbank", "mfcc"]

log = logging.getLogger(__name__)

_RATE = 16000  # of what is computed without an encoder
_FIELD_MS = 25.0
_POOL_BATCHES = 4  # so many batches of windows are sorted by length together


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureSettings:
    """Which features.

    Attributes:
        kind: `layers` of an encoder; `fbank`, 80 log-mel values; `mfcc`, HuBERT's 39 coefficients.
        layers: counted from 1, 0 is what enters the first; None: all. The states are raw, without the final norm.
        frame_shift_ms: of fbank and MFCC.
    """

    kind: Kind = "layers"
    layers: tuple[int, ...] | None = None
    frame_shift_ms: float = 10.0


class FeatureExtractor:
    """Features of padded batches.

    Args:
        settings: which.
        encoder: of `layers`: what `speechkit.load` takes.
        device: where to compute.
        offline: no network to find the encoder.

    Raises:
        ModelError: there is no such encoder.
        UsageError: it has no such layer.
    """

    def __init__(
        self, settings: FeatureSettings, encoder: str | Path | None = None, *, device: str, offline: bool = False
    ) -> None:
        from speechkit.models import load

        self.settings = settings
        self.device = choose_device(device)
        self.memory = MemoryLevel()
        self.encoder: Any = None
        self.layers: tuple[int, ...] = ()
        if settings.kind == "layers":
            assert encoder is not None
            model = load(encoder, device=str(self.device), offline=offline).eval()
            self.encoder = getattr(model, "encoder", model)
            self.layers = _known_layers(settings.layers, self.encoder.config.encoder.num_layers)

    @property
    def sample_rate(self) -> int:
        """Of the audio that features are made of, in Hz."""
        rate: int = self.encoder.config.sample_rate if self.encoder else _RATE
        return rate

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        rate: float = self.encoder.frame_rate if self.encoder else 1000 / self.settings.frame_shift_ms
        return rate

    @property
    def waveform_eps(self) -> float | None:
        """Of the normalization that waves want; None: none."""
        eps: float | None = self.encoder.config.waveform_eps if self.encoder else None
        return eps

    @property
    def windows(self) -> WindowSettings:
        """How long recordings are cut."""
        if self.encoder:
            hop, field = self.encoder.config.hop_samples, self.encoder.config.field_samples
        else:
            hop, field = (int(_RATE * ms / 1000) for ms in (self.settings.frame_shift_ms, _FIELD_MS))
        return WindowSettings.from_seconds(hop_samples=hop, field_samples=field, sample_rate=self.sample_rate)

    def __call__(self, waves: Tensor, lengths: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Compute the features of a batch.

        Args:
            waves: float `(B, T)` on the device, normalized where `waveform_eps` says so.
            lengths: int64 `(B,)` samples.

        Returns:
            By name, `fbank`, `mfcc` or `layer9`, float `(B, F, D)`; and the frames `(B,)`.
        """
        shift = self.settings.frame_shift_ms
        if self.settings.kind == "fbank":
            features, counts = fbank(waves, lengths, FbankConfig(frame_shift_ms=shift))
            return {"fbank": features}, counts
        if self.settings.kind == "mfcc":
            features, counts = hubert_mfcc(waves, lengths, frame_shift_ms=shift)
            return {"mfcc": features}, counts
        several, last = len(self.layers) > 1, max(self.layers)
        states = self.encoder(waves, lengths, layers=several, last_layer=last)
        named = {f"layer{n}": states.layers[n] if several else states.output for n in self.layers}
        return named, states.lengths


def _known_layers(asked: tuple[int, ...] | None, count: int) -> tuple[int, ...]:
    if asked is None:
        return tuple(range(count + 1))
    if max(asked) > count:
        raise UsageError(f"no layer {max(asked)}: the encoder has {count}, counted from 1", code="features.layer")
    return asked


def extract(
    sources: Iterable[Source],
    extractor: FeatureExtractor,
    batch_seconds: float = 120.0,
    *,
    warn: Callable[[Source, str], None] = lambda source, warning: log.warning("%s: %s", source.name, warning),
) -> Iterator[dict[str, Tensor] | Failure]:
    """The features of recordings by name, float `(F, D)` on the CPU, in the order of the recordings.

    Recordings longer than a window of `decode.windows` are cut as for recognition. One that is shorter than a frame
    gets no frames. `warn` is told of such, and of those that hold less than they say.
    """
    pending: list[_Pending] = []
    pool: list[Piece] = []
    pooled, batch_samples = 0, batch_seconds * extractor.sample_rate
    for source in sources:
        one = _Pending(source)
        pending.append(one)
        try:
            pieces = list(one.windows(extractor, owner=len(pending) - 1))
        except SpeechkitError as error:
            one.error = error
            continue
        pool += pieces
        pooled += sum(len(piece.samples) for piece in pieces)
        if pooled >= _POOL_BATCHES * batch_samples:
            _compute(pool, pending, extractor, batch_samples)
            yield from (one.result(extractor, warn) for one in pending)
            pending, pool, pooled = [], [], 0
    _compute(pool, pending, extractor, batch_samples)
    yield from (one.result(extractor, warn) for one in pending)


class _Pending:
    """A recording whose windows are being computed."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.recording: Recording | None = None
        self.error: SpeechkitError | None = None
        self.parts: dict[int, dict[str, Tensor]] = {}  # by the first sample of the window

    def windows(self, extractor: FeatureExtractor, owner: int) -> Iterator[Piece]:
        self.recording = Recording(self.source, sample_rate=extractor.sample_rate, eps=extractor.waveform_eps)
        return windows(self.recording, extractor.windows, owner)

    def result(self, extractor: FeatureExtractor, warn: Callable[[Source, str], None]) -> dict[str, Tensor] | Failure:
        if self.error:
            return Failure(input=self.source.name, error=self.error)
        assert self.recording is not None
        if self.recording.warning:
            warn(self.source, self.recording.warning)
        if not self.parts:
            shortest = extractor.windows.field_samples / extractor.sample_rate
            warn(self.source, f"{self.recording.duration_s:.3f} s are too short for a frame ({shortest:.3f} s)")
        parts = [self.parts[start] for start in sorted(self.parts)] or [_no_frames(extractor)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _compute(pool: list[Piece], pending: list[_Pending], extractor: FeatureExtractor, batch_samples: float) -> None:
    for batch in batches(pool, batch_samples):
        waves, lengths = padded(batch)
        with torch.inference_mode():
            named, counts = extractor(waves.to(extractor.device), lengths.to(extractor.device))
        for row, (piece, count) in enumerate(zip(batch, counts.tolist(), strict=True)):
            kept = slice(piece.window.first_frame, piece.window.end_frame)
            parts = {name: features[row, :count][kept].cpu() for name, features in named.items()}
            pending[piece.owner].parts[piece.window.start] = parts
        extractor.memory.hold()


def _no_frames(extractor: FeatureExtractor) -> dict[str, Tensor]:
    """What a recording that is too short has: features of the right width, and none of them."""
    samples = extractor.windows.field_samples
    with torch.inference_mode():
        waves = torch.zeros(1, samples, device=extractor.device)
        named, _ = extractor(waves, torch.tensor([samples], device=extractor.device))
    return {name: features[0, :0].cpu() for name, features in named.items()}
