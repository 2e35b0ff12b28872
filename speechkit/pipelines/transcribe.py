"""Recordings in, transcripts out, in the order of the inputs and in bounded memory.

F frames, V vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from torch import Tensor

from speechkit.audio.files import Channel
from speechkit.decode.ctc import BestPath, Floats, Span, align, best_path, path_spans, prefix_beam, word_times
from speechkit.decode.ngram import BEAM_SIZE, NgramSearch, NgramSettings
from speechkit.errors import ModelError, SpeechkitError
from speechkit.pipelines.device import DtypeName
from speechkit.pipelines.recognizer import CTCModel, Piece, Recognizer, load_recognizer
from speechkit.pipelines.recordings import Recording
from speechkit.pipelines.sources import Failure, Source
from speechkit.pipelines.transcript import Transcript, Word, segments_of

log = logging.getLogger(__name__)

_POOL_BATCHES = 4  # so many batches of windows are sorted by length together

Progress = Callable[[float], None]  # told the seconds of audio just worked on


@dataclass(kw_only=True, slots=True)
class _Job:
    """An input on its way: what was read of it and what the network said so far."""

    source: Source
    recording: Recording | None = None
    parts: dict[int, BestPath | Floats] = field(default_factory=dict)  # by the first sample of the window
    num_pieces: int = 0
    read: bool = False
    error: SpeechkitError | None = None

    @property
    def done(self) -> bool:
        return self.error is not None or (self.read and len(self.parts) == self.num_pieces)


class Transcriber:
    """Writes down what is said in recordings.

    Args:
        recognizer: the network.
        beam_size: prefixes of a beam search; None takes the best symbol of every frame.
        search: takes the place of both with one that knows a language model.
        name: of the model, for the transcripts.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        *,
        beam_size: int | None = None,
        search: NgramSearch | None = None,
        name: str = "",
    ) -> None:
        self.recognizer = recognizer
        self.beam_size = beam_size
        self.search = search
        self.name = name

    def transcribe(self, sources: Iterable[Source], progress: Progress | None = None) -> Iterator[Transcript | Failure]:
        """A result for each source, in their order, as they get ready.

        Windows of several recordings share batches; their text is the same whatever the batch.

        Raises:
            ModelError: the device has too little memory.
        """
        jobs: dict[int, _Job] = {}  # in the order of the sources; the first leaves when it is done
        pool: list[Piece] = []
        pooled, limit = 0, _POOL_BATCHES * self.recognizer.batch_samples
        for owner, source in enumerate(sources):
            job = jobs[owner] = _Job(source=source)
            try:
                for piece in self._read(job, owner):
                    pool.append(piece)
                    pooled += len(piece.samples)
                    if pooled >= limit:
                        yield from self._run(pool, jobs, progress)
                        pool, pooled = [], 0
                job.read = True
            except ModelError:  # of a batch, not of this recording
                raise
            except SpeechkitError as error:
                job.error = error
                pool = [p for p in pool if p.owner != owner]
                pooled = sum(len(p.samples) for p in pool)
            yield from self._ready(jobs)
        yield from self._run(pool, jobs, progress)

    def _read(self, job: _Job, owner: int) -> Iterator[Piece]:
        job.recording = self.recognizer.open(job.source)
        for piece in self.recognizer.pieces(job.recording, owner):
            job.num_pieces += 1
            yield piece

    def _run(
        self, pool: Sequence[Piece], jobs: dict[int, _Job], progress: Progress | None
    ) -> Iterator[Transcript | Failure]:
        for batch in self.recognizer.run(pool):
            for piece, logits in batch:
                jobs[piece.owner].parts[piece.window.start] = self._keep(logits)
            if progress:
                clock = self.recognizer.clock
                progress(sum(len(logits) for _, logits in batch) * clock.hop_samples / clock.sample_rate)
            yield from self._ready(jobs)

    def _keep(self, logits: Tensor) -> BestPath | Floats:
        """What the search needs of the logits `(F, V)` of a window: one symbol a frame, or all for a beam."""
        if self.beam_size is None and self.search is None:
            return best_path(logits)
        log_probs: Floats = logits.log_softmax(-1).cpu().numpy()
        return log_probs

    def _ready(self, jobs: dict[int, _Job]) -> Iterator[Transcript | Failure]:
        while jobs and jobs[first := next(iter(jobs))].done:
            job = jobs.pop(first)
            yield Failure(input=job.source.name, error=job.error) if job.error else self._transcript(job)

    def _transcript(self, job: _Job) -> Transcript:
        assert job.recording is not None
        recording, recognizer = job.recording, self.recognizer
        spans = self._decode([job.parts[start] for start in sorted(job.parts)])
        timed = word_times(spans, recognizer.vocabulary, recognizer.clock, duration_s=recording.duration_s)
        words = [Word(text=" " + w.text, start=w.start, end=w.end, probability=w.probability) for w in timed]
        warnings = [recording.warning] if recording.warning else []
        if not job.parts:
            shortest = recognizer.clock.field_samples / recognizer.sample_rate
            warnings.append(f"{recording.duration_s:.3f} s are too short for a frame of the model ({shortest:.3f} s)")
        for note in recording.notes:
            log.info("%s: %s", job.source.name, note)
        return Transcript(
            input=job.source.name,
            text=recognizer.vocabulary.text([span.token for span in spans]),
            segments=segments_of(words),
            duration_s=recording.duration_s,
            model=self.name,
            warnings=tuple(warnings),
            notes=recording.notes,
        )

    def _decode(self, parts: Sequence[BestPath | Floats]) -> list[Span]:
        """Decode the joined frames once."""
        blank = self.recognizer.vocabulary.blank
        paths = [part for part in parts if isinstance(part, BestPath)]
        if paths:
            joined = BestPath(
                ids=np.concatenate([p.ids for p in paths]), log_probs=np.concatenate([p.log_probs for p in paths])
            )
            return path_spans(joined, blank)
        if not parts:
            return []
        log_probs: Floats = np.concatenate([part for part in parts if not isinstance(part, BestPath)])
        if self.search:
            return path_spans(self.search.best_path(log_probs), blank)
        assert self.beam_size is not None
        ids, _ = prefix_beam(log_probs, self.beam_size, blank=blank)[0]
        return align(log_probs, ids, blank=blank)


Input = str | Path | BinaryIO | Source


def transcribe(
    audio: Input | Sequence[Input],
    model: str | Path | CTCModel,
    *,
    device: str = "auto",
    dtype: DtypeName = "auto",
    batch_seconds: float = 120.0,
    beam_size: int | None = None,
    lm: str | Path | None = None,
    lexicon: str | Path | None = None,
    lm_weight: float = 2.0,
    word_score: float = -1.0,
    channel: Channel = "mix",
    vocab: str | Path | None = None,
    offline: bool = False,
) -> Transcript | list[Transcript]:
    """Transcribe a recording, or several.

    Args:
        audio: a path or an open binary file, or a sequence of them.
        model: a folder, a published file, a hub id, or a loaded network.
        device: `auto`, `cpu`, `cuda`, …
        dtype: of the network's matrix products.
        batch_seconds: padded seconds of audio in a batch.
        beam_size: prefixes of a beam search; None takes the best symbol of every frame, with a language model 500.
        lm: an n-gram language model, see `NgramSearch`, as are the next three.
        lexicon: the words that may be written, and how they are spelled.
        lm_weight: of the language model.
        word_score: added for every word.
        channel: `mix`, `left`, `right` or a number.
        vocab: a file of symbols for models published without.
        offline: no network at all.

    Returns:
        A transcript, or a list of them in the order given.

    Raises:
        SpeechkitError: what is wrong with the first input that cannot be transcribed, or with the model.
        TypeError: audio is something else, such as an array.
    """
    if isinstance(model, str | Path):
        recognizer = load_recognizer(
            model, device=device, dtype=dtype, batch_seconds=batch_seconds, vocab=vocab, offline=offline
        )
        name = str(model)
    else:
        recognizer = Recognizer(model, device=device, dtype=dtype, batch_seconds=batch_seconds)
        name = type(model).__name__
    several = isinstance(audio, list | tuple)
    inputs = cast("Sequence[Input]", audio if several else [audio])
    sources = [_source(item, channel) for item in inputs]
    search = None
    if lm:
        settings = NgramSettings(beam_size=beam_size or BEAM_SIZE, lm_weight=lm_weight, word_score=word_score)
        search = NgramSearch(recognizer.vocabulary, Path(lm), Path(lexicon) if lexicon else None, settings)
    transcripts = []
    for result in Transcriber(recognizer, beam_size=beam_size, search=search, name=name).transcribe(sources):
        if isinstance(result, Failure):
            raise result.error
        transcripts.append(result)
    return transcripts if several else transcripts[0]


def _source(item: Input, channel: Channel) -> Source:
    if isinstance(item, Source):
        return item
    if isinstance(item, str | Path):
        return Source.of_path(item, channel=channel)
    if not hasattr(item, "read"):
        raise TypeError(f"audio is a path, a binary file or a list of them, not {type(item).__name__}")
    return Source(name=getattr(item, "name", "-"), path=item, channel=channel)
