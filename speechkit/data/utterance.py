"""An utterance as a plain record, and the file that lists them with their lengths."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from speechkit.errors import InputError
from speechkit.files import write_text


@dataclass(frozen=True, kw_only=True, slots=True)
class Utterance:
    """A span of a recording, with what is known about it.

    Attributes:
        id: unique in its set.
        path: the audio file, or what else `wav.scp` may hold: a place in an archive or in a tar.
        start: first sample of the span.
        num_samples: length of the span, at `sample_rate`.
        sample_rate: of the file, in Hz.
        channel: the channel to take; None averages all.
        text: the transcript; None when there is none.
        speaker: "" when unknown.
    """

    id: str
    path: str
    num_samples: int
    sample_rate: int
    start: int = 0
    channel: int | None = None
    text: str | None = None
    speaker: str = ""

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate


def write_utterances(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Write one JSON object a line, in the order given; fields at their defaults are left out."""
    lines = []
    for utterance in utterances:
        fields = {k: v for k, v in asdict(utterance).items() if v not in (None, "") and (k, v) != ("start", 0)}
        lines.append(json.dumps(fields, ensure_ascii=False) + "\n")
    write_text(path, "".join(lines))


def read_utterances(path: str | Path) -> list[Utterance]:
    """Read what `write_utterances` wrote, or the cuts of a Shar folder.

    Raises:
        InputError: a line is not an utterance (file and line are named); the folder is no Shar, or is damaged.
    """
    if Path(path).is_dir():
        from speechkit.data.lhotse.shar import SharUtterances  # which is made of utterances

        return list(SharUtterances(path))
    utterances = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").split("\n")[:-1], 1):
        try:
            utterances.append(Utterance(**json.loads(line)))
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}:{number}: not an utterance: {error}", code="data.utterance") from error
    return utterances
