"""LibriSpeech as Kaldi data dirs.

The owner's layout: `LibriSpeech/{subset}/{speaker}/{chapter}/{id}.flac` with `{speaker}-{chapter}.trans.txt`.
README.md beside this file says what the sets are.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from speechkit.data.kaldi.tables import DataDir
from speechkit.errors import InputError

log = logging.getLogger(__name__)

LICENSE = "CC BY 4.0"
ADDRESS = "https://www.openslr.org/12"


class Facts(NamedTuple):
    """What a complete subset holds, and the MD5 of its archive at `ADDRESS`."""

    utterances: int
    speakers: int
    words: int | None
    hours: float
    md5: str


FACTS = {
    "dev_clean": Facts(2703, 40, 54402, 5.4, "42e2234ba48799c1f50f24a7926300a1"),
    "dev_other": Facts(2864, 33, 50948, 5.3, "c8d0bcc9cca99d4f8b62fcc847357931"),
    "test_clean": Facts(2620, 40, 52576, 5.4, "32fa31d27d2e1cad72775fee3f4849a9"),
    "test_other": Facts(2939, 33, 52343, 5.1, "fb5a50374b501bb3bac4815ee91d3135"),
    "train_clean_100": Facts(28539, 251, None, 100.6, "2a93770f6d5c6c964bc36631d331a522"),
    "train_clean_360": Facts(104014, 921, None, 363.6, "c0e676e450a7ff2f54aeade5171606fa"),
    "train_other_500": Facts(148688, 1166, None, 496.7, "d1a0fd59409feb2c614ce4d30c387708"),
}

PART = 0.9  # a subset with a smaller share of its utterances is a part of it

# sets made of others, where all of them are there
JOINED = {
    "train_10h": ("train_1h", "train_9h"),
    "train_960": ("train_clean_100", "train_clean_360", "train_other_500"),
}


def prepare(
    corpus_dir: Path | None,
    data_dir: Path,
    *,
    nj: int = 1,  # noqa: ARG001 (only names are read)
) -> None:
    """Write data_dir/SET for every subset that is there, and for the sets that they make up.

    Args:
        corpus_dir: the folder LibriSpeech, or the one that holds it.
        data_dir: where the sets go.
        nj: not used.

    Raises:
        InputError: the corpus is not there, or a complete subset has a gap.
    """
    root = find_root(corpus_dir)
    sets = {folder.name.replace("-", "_"): read_subset(folder) for folder in subsets(root)}
    for folder in (root / "librispeech_finetuning", root.parent / "librispeech_finetuning"):
        if folder.is_dir():  # Libri-light's, for fine-tuning with few labels
            sets |= {f"train_{hours}": read_subset(folder / hours) for hours in ("1h", "9h")}
    for name, facts in FACTS.items():
        if name in sets:
            check_facts(name, sets[name], facts)
    for name, parts in JOINED.items():
        if all(part in sets for part in parts):
            sets[name] = joined(sets[part] for part in parts)
    sets |= own_splits(root.parent / "splits.json", joined(sets.values()))
    genders = read_genders(root / "SPEAKERS.TXT")
    for name, tables in sets.items():
        known = {speaker: genders[speaker] for speaker in tables.spk2utt if speaker in genders}
        complete = known if len(known) == len(tables.spk2utt) else {}
        replace(tables, spk2gender=complete).write(data_dir / name)


def find_root(corpus_dir: Path | None) -> Path:
    """The folder that holds the subsets."""
    for folder in (corpus_dir, corpus_dir / "LibriSpeech") if corpus_dir else ():
        if folder.is_dir() and subsets(folder):
            return folder.resolve()
    hint = f"--data-dir is the folder LibriSpeech/ as it comes from {ADDRESS}"
    where = f" in {corpus_dir}" if corpus_dir else ": pass --data-dir DIR"
    raise InputError(f"LibriSpeech not found{where}", hint=hint, code="E201")


def subsets(root: Path) -> list[Path]:
    """The folders of the subsets: those with chapters of recordings in them."""
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    return [folder for folder in folders if next(folder.glob("*/*/*.flac"), None)]


def read_subset(folder: Path) -> DataDir:
    """All recordings below a folder, with their transcripts where there are any at all.

    Raises:
        InputError: some recordings have a transcript and others not, or a transcript has no recording.
    """
    wav_scp = {path.stem: str(path) for path in folder.rglob("*.flac")}
    text: dict[str, str] = {}
    for path in folder.rglob("*.trans.txt"):
        for line in path.read_text(encoding="utf-8").splitlines():
            id, _, words = line.partition(" ")
            text[id] = words.strip()
    unmatched = sorted(set(wav_scp) ^ set(text)) if text else []
    if unmatched:
        lacks = "no transcript" if unmatched[0] in wav_scp else "no recording"
        raise InputError(f"{folder}: {unmatched[0]} has {lacks} ({len(unmatched)} in all)", code="E201")
    return DataDir(wav_scp=wav_scp, text=text, utt2spk={id: id.split("-")[0] for id in wav_scp})


def joined(parts: Iterable[DataDir]) -> DataDir:
    """The union."""
    parts = list(parts)
    return DataDir(
        wav_scp={id: path for part in parts for id, path in part.wav_scp.items()},
        text={id: words for part in parts for id, words in part.text.items()},
        utt2spk={id: speaker for part in parts for id, speaker in part.utt2spk.items()},
    )


def own_splits(path: Path, everything: DataDir) -> dict[str, DataDir]:
    """The sets of a splits.json beside the corpus, as a small sample has: `{"speaker_disjoint": {set: ids}}`."""
    splits = json.loads(path.read_text(encoding="utf-8"))["speaker_disjoint"] if path.exists() else {}
    for name, ids in splits.items():
        missing = sorted(set(ids) - set(everything.wav_scp))
        if missing:
            raise InputError(f"E201 {name}: {missing[0]} of {path} has no recording", code="E201")
    return {name: everything.select(ids) for name, ids in splits.items()}


def read_genders(path: Path) -> dict[str, str]:
    """Speaker → m or f, from SPEAKERS.TXT (`id | sex | subset | minutes | name`)."""
    if not path.exists():
        return {}
    lines = [line.split("|") for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith(";")]
    return {fields[0].strip(): fields[1].strip().lower() for fields in lines if len(fields) > 1}


def check_facts(name: str, tables: DataDir, facts: Facts) -> None:
    """Compare: gaps are an error; where more than a tenth is missing it is a part of the corpus, and a warning."""
    count = len(tables.wav_scp)
    if count < PART * facts.utterances:
        log.warning("E201 %s: %d utterances, a part of the %d there are", name, count, facts.utterances)
        return
    if count != facts.utterances:
        missing = first_gap(tables.wav_scp)
        what = f" (first missing: {missing})" if missing else ""
        found, expected = f"{count} utterances", f"{facts.utterances}{what}"
    elif len(tables.spk2utt) != facts.speakers:
        found, expected = f"{len(tables.spk2utt)} speakers", str(facts.speakers)
    elif facts.words is not None and (words := sum(len(text.split()) for text in tables.text.values())) != facts.words:
        found, expected = f"{words} words", str(facts.words)
    else:
        return
    raise InputError(f"E201 {name}: {found}, expected {expected}", hint=f"get it again from {ADDRESS}", code="E201")


def first_gap(ids: Iterable[str]) -> str:
    """The first number missing within a chapter, whose utterances are numbered from 0000 on."""
    seen: Counter[str] = Counter()
    for id in sorted(ids):
        chapter, _, number = id.rpartition("-")
        if int(number) != seen[chapter]:
            return f"{chapter}-{seen[chapter]:04d}"
        seen[chapter] += 1
    return ""
