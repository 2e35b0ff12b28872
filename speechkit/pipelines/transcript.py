"""What a transcription is: words with times, segments of words, and the whole."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

PAUSE_SECONDS = 0.5  # a pause this long ends a segment
SEGMENT_SECONDS = 10.0  # a segment longer than this is cut at its longest pause


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """A word with its times in seconds; `text` keeps the white space before it, so that words join to their segment."""

    text: str
    start: float
    end: float
    probability: float = 1.0
    speaker: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A stretch of speech with its text and, where known, its words.

    Attributes:
        start: seconds.
        end: seconds.
        text: of the segment.
        words: empty where only the segment's times are known.
        speaker: "" when unknown.
        avg_logprob: mean log-probability of the words.
        no_speech_prob: that nobody speaks; 0 for models that do not say.
        temperature: of the sampling; 0 for none.
    """

    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()
    speaker: str = ""
    avg_logprob: float = 0.0
    no_speech_prob: float = 0.0
    temperature: float = 0.0

    @property
    def compression_ratio(self) -> float:
        """How far the text can be packed: beyond 2.4 it repeats itself."""
        data = self.text.encode()
        return len(data) / len(zlib.compress(data)) if data else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Transcript:
    """The text of one input.

    Attributes:
        input: the input's name, as the user gave it.
        text: all of it.
        segments: in time order.
        duration_s: of the recording.
        language: "" when unknown.
        model: what it was made with.
        warnings: what is odd about the input (shorter than its header says, too short for a frame, …).
        notes: what was done to the input before the model saw it.
    """

    input: str = ""
    text: str = ""
    segments: tuple[Segment, ...] = ()
    duration_s: float = 0.0
    language: str = ""
    model: str = ""
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> list[Word]:
        """The words of all segments."""
        return [word for segment in self.segments for word in segment.words]

    @property
    def speakers(self) -> list[str]:
        """Speakers in order of first appearance."""
        return list(dict.fromkeys(segment.speaker for segment in self.segments if segment.speaker))


def segments_of(words: Sequence[Word]) -> tuple[Segment, ...]:
    """Group words without segments of their own: a new one at a pause, long ones cut at their longest pause.

    Among equally long pauses the one nearest the middle is taken.
    """
    groups: list[list[Word]] = []
    for word in words:
        if groups and _pause(groups[-1][-1], word) < PAUSE_SECONDS:
            groups[-1].append(word)
        else:
            groups.append([word])
    return tuple(segment_of(part) for group in groups for part in _cut(group))


def _cut(words: list[Word]) -> list[list[Word]]:
    done: list[list[Word]] = []
    waiting = [words]
    while waiting:
        group = waiting.pop()
        if len(group) == 1 or group[-1].end - group[0].start <= SEGMENT_SECONDS:
            done.append(group)
            continue
        middle = (group[0].start + group[-1].end) / 2
        pauses = [(_pause(a, b), -abs(b.start - middle)) for a, b in pairwise(group)]
        at = pauses.index(max(pauses)) + 1
        waiting += [group[at:], group[:at]]
    return done


def _pause(before: Word, after: Word) -> float:
    return round(after.start - before.end, 6)  # times are sums of hops: equal pauses must compare equal


def segment_of(words: Sequence[Word]) -> Segment:
    """The segment that these words make."""
    mean = sum(math.log(max(word.probability, 1e-10)) for word in words) / len(words)
    text = "".join(word.text for word in words).strip()
    return Segment(start=words[0].start, end=words[-1].end, text=text, words=tuple(words), avg_logprob=mean)
