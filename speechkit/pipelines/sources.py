"""What is to be transcribed: a recording or a part of one, and the failure that may come of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from speechkit.audio.files import Channel
from speechkit.data.utterance import Utterance
from speechkit.errors import SpeechkitError


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A recording or a part of one.

    Attributes:
        name: what the user calls it: a path as given, `-`, an utterance id.
        path: a Path is an audio file; a str what Kaldi's wav.scp may hold (also `archive:offset`); else a binary file.
        start: first sample, at the file's rate.
        num_samples: length; None is all of it.
        channel: `mix` averages, `left`, `right` or a number take one.
    """

    name: str
    path: str | Path | BinaryIO
    start: int = 0
    num_samples: int | None = None
    channel: Channel = "mix"

    @classmethod
    def of_path(cls, path: str | Path, *, channel: Channel = "mix") -> Source:
        """A whole file, called by its path."""
        return cls(name=str(path), path=Path(path), channel=channel)

    @classmethod
    def of_utterance(cls, utterance: Utterance) -> Source:
        """An utterance, called by its id."""
        return cls(
            name=utterance.id,
            path=utterance.path,
            start=utterance.start,
            num_samples=utterance.num_samples,
            channel="mix" if utterance.channel is None else utterance.channel,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """An input that could not be worked on, in place of its result."""

    input: str
    error: SpeechkitError
