"""The Free Spoken Digit Dataset (FSDD) as Kaldi data dirs.

The owner's layout: `recordings/{digit}_{speaker}_{take}.wav`, one spoken digit each (lossless .flac copies will do).
README.md beside this file says what the sets are.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from speechkit.data.noise import NoiseSettings, write_noise
from speechkit.data.strings import Clip, StringSettings, write_clips, write_strings
from speechkit.errors import InputError

log = logging.getLogger(__name__)

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
TAKES = 50

LICENSE = "CC BY-SA 4.0"
ADDRESS = "https://github.com/Jakobovski/free-spoken-digit-dataset"  # commit 26eb9aa
# SHA-256 of the int16 samples of all recordings, in the order of their names
SAMPLES_SHA256 = "6f643a7422de89763625dfc9aa79427e69f7a690223a5bc5752a2f56db5af465"


class Facts(NamedTuple):
    """What a complete set holds; every utterance is one word."""

    utterances: int
    speakers: int
    hours: float


FACTS = {
    "repository_train": Facts(2580, 6, 0.314),
    "repository_dev": Facts(120, 6, 0.014),
    "repository_test": Facts(300, 6, 0.036),
    "speaker_disjoint_train": Facts(2000, 4, 0.261),
    "speaker_disjoint_train_10pct": Facts(200, 4, 0.026),
    "speaker_disjoint_dev": Facts(500, 1, 0.049),
    "speaker_disjoint_test": Facts(500, 1, 0.054),
}


class Recording(NamedTuple):
    """What a file's name says."""

    speaker: str
    digit: int
    take: int

    @property
    def id(self) -> str:
        """Speaker first, so that utterances and speakers sort alike."""
        return f"{self.speaker}-{self.digit}-{self.take:02d}"


SETS: dict[str, Callable[[Recording], bool]] = {
    "repository_train": lambda r: r.take >= 7,
    "repository_dev": lambda r: r.take in (5, 6),
    "repository_test": lambda r: r.take < 5,
    "speaker_disjoint_train": lambda r: r.speaker not in ("theo", "yweweler"),
    "speaker_disjoint_train_10pct": lambda r: r.speaker not in ("theo", "yweweler") and r.take % 10 == 0,
    "speaker_disjoint_dev": lambda r: r.speaker == "yweweler",
    "speaker_disjoint_test": lambda r: r.speaker == "theo",
}


def prepare(
    corpus_dir: Path | None,
    data_dir: Path,
    *,
    nj: int = 1,  # noqa: ARG001 (nothing here takes long)
    string_hours: float = 2.0,
    seed: int = 0,
) -> None:
    """Write data_dir/SET for every set, data_dir/SET_strings for those to train on, and data_dir/noise.

    Args:
        corpus_dir: the folder that holds recordings/.
        data_dir: where the sets go; the audio of strings and noise goes to dump/ beside it.
        nj: not used.
        string_hours: strings of 1 to 4 digits to make for each set to train on.
        seed: of the draws.

    Raises:
        InputError: the corpus is not there, or a recording of it is missing or cannot be read.
    """
    recordings = find_recordings(corpus_dir)
    dump = data_dir.parent / "dump"
    write_noise(data_dir / "noise", dump / "noise", NoiseSettings(seed=int(seed)))  # it may come as a float
    for name, belongs in SETS.items():
        chosen = [recording for recording in recordings if belongs(recording)]
        check_facts(name, chosen)
        if not chosen:
            continue
        clips = [Clip(r.id, r.speaker, WORDS[r.digit], recordings[r]) for r in chosen]
        write_clips(data_dir / name, clips)
        if "train" in name:
            settings = StringSettings(hours=string_hours, seed=int(seed))
            strings = f"{name}_strings"
            write_strings(data_dir / strings, dump / "strings" / strings, clips, settings)


def find_recordings(corpus_dir: Path | None) -> dict[Recording, Path]:
    """All recordings and their files, sorted."""
    folder = corpus_dir and corpus_dir / "recordings"
    if folder is None or not folder.is_dir():
        hint = f"--data-dir is a folder with recordings/, from {ADDRESS}"
        where = f" in {corpus_dir}" if corpus_dir else ": pass --data-dir DIR"
        raise InputError(f"FSDD not found{where}", hint=hint, code="E201")
    found = {}
    for path in folder.resolve().iterdir():
        match = re.fullmatch(r"(\d)_([A-Za-z]+)_(\d+)\.(wav|flac)", path.name)
        if match:
            found[Recording(match[2], int(match[1]), int(match[3]))] = path
    if not found:
        raise InputError(f"{folder}: no recordings named DIGIT_SPEAKER_TAKE.wav", code="E201")
    return dict(sorted(found.items()))


def check_facts(name: str, recordings: list[Recording]) -> None:
    """Compare with `FACTS`: gaps are an error; where more than a tenth is missing it is a part, and a warning."""
    everything = (Recording(s, d, t) for s in SPEAKERS for d in range(10) for t in range(TAKES))
    wanted = [recording for recording in everything if SETS[name](recording)]
    missing = sorted(set(wanted) - set(recordings))
    if not missing:
        return
    message = f"E201 {name}: {len(recordings)} utterances, expected {FACTS[name].utterances}"
    message += f" (first missing: {missing[0].id})"
    if len(missing) <= 0.1 * len(wanted):
        raise InputError(message, hint=f"get the recordings again from {ADDRESS}", code="E201")
    log.warning("%s", message)
