"""A CTC network run over many recordings: windows of all of them together, sorted by length, in padded batches.

B batch, T samples, F frames, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from speechkit.allocator import MemoryLevel
from speechkit.decode.ctc import FrameClock
from speechkit.decode.vocabulary import Vocabulary
from speechkit.decode.windows import OVERLAP_SECONDS, WINDOW_SECONDS, Window, WindowSettings, cut
from speechkit.errors import ModelError
from speechkit.pipelines.device import DtypeName, choose_device, choose_dtype
from speechkit.pipelines.recordings import Recording, Samples
from speechkit.pipelines.sources import Source


class CTCModel(Protocol):
    """A network from waves `(B, T)` and lengths `(B,)` to logits `(B, F, V)` and lengths `(B,)` in frames."""

    @property
    def encoder(self) -> Any:
        """Its `config` has `sample_rate`, `waveform_eps`, `hop_samples` and `field_samples`."""

    @property
    def vocabulary(self) -> Vocabulary:
        """What the V columns stand for."""

    def __call__(self, waves: Tensor, lengths: Tensor) -> Any:
        """Logits and their lengths."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A window of a recording, ready for the network.

    Attributes:
        owner: which recording it belongs to.
        window: which frames of it count.
        samples: float32 `(T,)`.
    """

    owner: int
    window: Window
    samples: Samples


def windows(recording: Recording, settings: WindowSettings, owner: int = 0) -> Iterator[Piece]:
    """The windows of a recording; none when it is shorter than one frame."""
    for window, samples in cut(recording.pieces(), settings):
        if len(samples) >= settings.field_samples:
            yield Piece(owner=owner, window=window, samples=samples)


def batches(pieces: Iterable[Piece], batch_samples: float) -> Iterator[list[Piece]]:
    """Sort pieces by length, the longest first, into batches of so many samples with their padding."""
    ordered = sorted(pieces, key=lambda piece: len(piece.samples), reverse=True)
    while ordered:
        size = max(1, int(batch_samples // len(ordered[0].samples)))
        yield ordered[:size]
        ordered = ordered[size:]


def padded(batch: Sequence[Piece]) -> tuple[Tensor, Tensor]:
    """The waves float32 `(B, T)` of a batch whose first piece is the longest, and their lengths int64 `(B,)`."""
    lengths = torch.tensor([len(piece.samples) for piece in batch])
    waves = torch.zeros(len(batch), int(lengths[0]))
    for row, piece in zip(waves, batch, strict=True):
        row[: len(piece.samples)] = torch.from_numpy(np.ascontiguousarray(piece.samples))
    return waves, lengths


class Recognizer:
    """A CTC network with what has to be known to feed it.

    Args:
        model: see `CTCModel`; moved to the device.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        dtype: of the network's matrix products.
        batch_seconds: padded seconds of audio in a batch.
        window_seconds: a longer recording is cut into windows of this length.
        overlap_seconds: what windows share on each side.

    Raises:
        ModelError: the network has no CTC head.
        UsageError: there is no such device.
    """

    def __init__(
        self,
        model: CTCModel,
        *,
        device: str = "auto",
        dtype: DtypeName = "auto",
        batch_seconds: float = 120.0,
        window_seconds: float = WINDOW_SECONDS,
        overlap_seconds: float = OVERLAP_SECONDS,
    ) -> None:
        if not isinstance(getattr(model, "vocabulary", None), Vocabulary):
            raise ModelError(
                f"a {type(model).__name__} has no CTC head with a vocabulary and writes no text",
                hint="give a model that was fine-tuned with CTC",
                code="model.kind",
            )
        self.model = model
        self.device = choose_device(device)
        self.memory = MemoryLevel()
        self.dtype = choose_dtype(dtype, self.device)
        if isinstance(model, nn.Module):
            model.to(self.device).eval()
        self.vocabulary = model.vocabulary
        self.sample_rate: int = model.encoder.config.sample_rate
        self.batch_samples = batch_seconds * self.sample_rate
        config = model.encoder.config
        self.clock = FrameClock(
            hop_samples=config.hop_samples, field_samples=config.field_samples, sample_rate=self.sample_rate
        )
        self.settings = WindowSettings.from_seconds(
            hop_samples=config.hop_samples,
            field_samples=config.field_samples,
            sample_rate=self.sample_rate,
            window_seconds=window_seconds,
            overlap_seconds=overlap_seconds,
        )

    def open(self, source: Source) -> Recording:
        """The source as this network wants it."""
        return Recording(source, sample_rate=self.sample_rate, eps=self.model.encoder.config.waveform_eps)

    def pieces(self, recording: Recording, owner: int = 0) -> Iterator[Piece]:
        """The windows of a recording; none when it is shorter than one frame."""
        return windows(recording, self.settings, owner)

    def run(self, pieces: Sequence[Piece]) -> Iterator[list[tuple[Piece, Tensor]]]:
        """Give each piece the float32 logits `(F, V)` of its frames that count, on the device, batch by batch.

        Raises:
            ModelError: the device has too little memory for a batch.
        """
        for batch in batches(pieces, self.batch_samples):
            yield list(zip(batch, self._logits(batch), strict=True))
            self.memory.hold()

    def _logits(self, batch: Sequence[Piece]) -> list[Tensor]:
        waves, lengths = padded(batch)
        try:
            with (
                torch.inference_mode(),
                torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32),
            ):
                output = self.model(waves.to(self.device), lengths)  # which tell on the CPU whether anything is padded
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error):
                seconds = waves.numel() / self.sample_rate
                raise ModelError(
                    f"not enough memory on {self.device} for a batch of {seconds:.0f} s of audio",
                    hint="lower --batch-seconds",
                    code="model.memory",
                ) from error
            raise
        rows = zip(batch, output.logits.float(), output.lengths.tolist(), strict=True)
        return [logits[:length][piece.window.first_frame : piece.window.end_frame] for piece, logits, length in rows]


def load_recognizer(
    name: str | Path, *, device: str = "auto", offline: bool = False, vocab: str | Path | None = None, **options: Any
) -> Recognizer:
    """Load a model by name, path or hub id for recognition; `options` are those of `Recognizer`."""
    from speechkit.models import load

    model = cast("CTCModel", load(name, offline=offline, vocab=vocab))
    return Recognizer(model, device=device, **options)
