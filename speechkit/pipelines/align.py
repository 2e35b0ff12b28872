"""When the words of a known text are said: forced alignment with a CTC network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from speechkit.decode.ctc import Floats, Span, align, time_word
from speechkit.errors import InputError
from speechkit.pipelines.recognizer import Recognizer
from speechkit.pipelines.recordings import Recording
from speechkit.pipelines.sources import Source
from speechkit.pipelines.transcript import Transcript, Word, segment_of

_DOUBTFUL = 0.05  # probability of a word


def align_text(recognizer: Recognizer, source: Source, text: str, *, name: str = "") -> Transcript:
    """Align a text to a recording: words as written, with their times; a segment a line.

    Args:
        recognizer: the network.
        source: the recording.
        text: what is said in it.
        name: of the model, for the transcript.

    Raises:
        InputError: there is no text, a word cannot be spelled with the model's symbols, or the recording is too short.
    """
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{source.name}: there is no text to align", code="align.empty")
    spelled = [ids for number, line in enumerate(text.splitlines(), 1) for ids in _spelled(recognizer, line, number)]
    recording = recognizer.open(source)
    try:
        spans = _align(recognizer, recording, spelled)
    except InputError as error:
        raise InputError(f"{source.name}: {error.message}", hint=error.hint, code=error.code) from error
    words = iter(spans)
    segments = []
    for line in lines:
        timed = [time_word(w, next(words), recognizer.clock, duration_s=recording.duration_s) for w in line]
        segments.append(
            segment_of([Word(text=" " + w.text, start=w.start, end=w.end, probability=w.probability) for w in timed])
        )
    warnings = [recording.warning] if recording.warning else []
    doubtful = sum(word.probability < _DOUBTFUL for segment in segments for word in segment.words)
    if 2 * doubtful > len(spans):
        warnings.append(f"{doubtful} of {len(spans)} words are hardly in it: is this the text of this recording?")
    return Transcript(
        input=source.name,
        text=" ".join(segment.text for segment in segments),
        segments=tuple(segments),
        duration_s=recording.duration_s,
        model=name,
        warnings=tuple(warnings),
        notes=recording.notes,
    )


def _spelled(recognizer: Recognizer, line: str, number: int) -> list[list[int]]:
    try:
        return [recognizer.vocabulary.spell(word) for word in line.split()]
    except InputError as error:
        raise InputError(f"line {number}: {error.message}", hint=error.hint, code=error.code) from error


def _align(recognizer: Recognizer, recording: Recording, spelled: Sequence[list[int]]) -> list[list[Span]]:
    """The spans of the symbols of each word."""
    separator, blank = recognizer.vocabulary.separator, recognizer.vocabulary.blank
    tokens = [token for number, ids in enumerate(spelled) for token in (separator if number else []) + ids]
    columns = sorted({blank, *tokens})  # the other symbols' log-probabilities are not kept
    place = {token: column for column, token in enumerate(columns)}
    spans = align(_log_probs(recognizer, recording, columns), [place[t] for t in tokens], blank=place[blank])
    words, position = [], 0
    for ids in spelled:
        words.append(spans[position : position + len(ids)])
        position += len(ids) + len(separator)
    return words


def _log_probs(recognizer: Recognizer, recording: Recording, columns: Sequence[int]) -> Floats:
    parts: list[Floats] = [np.zeros((0, len(columns)), dtype=np.float32)]
    for piece in recognizer.pieces(recording):
        for batch in recognizer.run([piece]):
            parts += [logits.log_softmax(-1)[:, columns].cpu().numpy() for _, logits in batch]
    return np.concatenate(parts)
