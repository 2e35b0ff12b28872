"""TIMIT as Kaldi data dirs, with its phones.

The owner's layout: `{TRAIN,TEST}/DR{1..8}/{speaker}/{sentence}.WAV` with .WRD and .PHN beside it. A sample without the
first level, and .wav or .flac files, will do. README.md beside this file says what the sets are.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from speechkit.data.kaldi.tables import DataDir
from speechkit.errors import InputError
from speechkit.files import write_text

log = logging.getLogger(__name__)

LICENSE = "LDC User Agreement; the sample in NLTK: CC BY-NC-SA"
ADDRESS = "https://catalog.ldc.upenn.edu/LDC93S1"
RATE = 16000  # of the sample numbers in .PHN and .WRD


class Facts(NamedTuple):
    """What a complete set holds."""

    utterances: int
    speakers: int
    hours: float


FACTS = {"train": Facts(3696, 462, 3.14), "dev": Facts(400, 50, 0.34), "test": Facts(192, 24, 0.16)}

# the speakers of the core test set (TIMIT's TESTSET.DOC, table 1)
TEST = (  # noqa: SIM905
    "mdab0 mwbt0 felc0 mtas1 mwew0 fpas0 mjmp0 mlnt0 fpkt0 mlll0 mtls0 fjlm0 mbpm0 mklt0 fnlp0 mcmj0 mjdh0 fmgd0 "
    "mgrt0 mnjm0 fdhc0 mjln0 mpam0 fmld0"
).split()
# the usual development set: Halberstadt, "Heterogeneous acoustic measurements and multiple classifiers for speech
# recognition" (thesis, MIT 1998)
DEV = (  # noqa: SIM905
    "faks0 fdac1 fjem0 mgwt0 mjar0 mmdb1 mmdm2 mpdf0 fcmh0 fkms0 mbdg0 mbwm0 mcsh0 fadg0 fdms0 fedw0 mgjf0 mglb0 "
    "mrtk0 mtaa0 mtdt0 mthc0 mwjg0 fnmr0 frew0 fsem0 mbns0 mmjr0 mdls0 mdlf0 mdvc0 mers0 fmah0 fdrw0 mrcs0 mrjm4 "
    "fcal1 mmwh0 fjsj0 majc0 mjsw0 mreb0 fgjd0 fjmg0 mroa0 mteb0 mjfc0 mrjr0 fmml0 mrws1"
).split()

# 61 labels to 39: Lee and Hon, "Speaker-independent phone recognition using hidden Markov models" (1989), table 1.
# Those not named stay; the glottal stop q has no phone.
FOLD = {
    "ao": "aa", "ax": "ah", "ax-h": "ah", "axr": "er", "el": "l", "em": "m", "en": "n", "eng": "ng", "hv": "hh",
    "ix": "ih", "nx": "n", "ux": "uw", "zh": "sh",
    "bcl": "sil", "dcl": "sil", "gcl": "sil", "kcl": "sil", "pcl": "sil", "tcl": "sil",
    "epi": "sil", "h#": "sil", "pau": "sil",
    "q": "",
}  # fmt: skip


class Sentence(NamedTuple):
    """A recording."""

    speaker: str
    name: str
    path: Path

    @property
    def id(self) -> str:
        """Speaker first, so that utterances and speakers sort alike."""
        return f"{self.speaker}-{self.name}"


def prepare(
    corpus_dir: Path | None,
    data_dir: Path,
    *,
    nj: int = 1,  # noqa: ARG001 (nothing here takes long)
) -> None:
    """Write data_dir/train, dev and test; of a sample without TRAIN and TEST everything to data_dir/sample.

    The SA sentences, which all speakers say, are in `sample` only. Each set has `phones` beside the Kaldi tables: lines
    `<utterance> 1 <start> <duration> <phone>` with 39 phones.

    Args:
        corpus_dir: the folder that holds TRAIN and TEST, or DR1 to DR8.
        data_dir: where the sets go.
        nj: not used.

    Raises:
        InputError: the corpus is not there, or has a gap.
    """
    root = find_root(corpus_dir)
    parts = {path.name.lower(): path for path in root.iterdir() if path.is_dir()}
    if "train" not in parts or "test" not in parts:
        write_set(data_dir / "sample", find_sentences(root))
        return
    train = [s for s in find_sentences(parts["train"]) if not s.name.startswith("sa")]
    test = [s for s in find_sentences(parts["test"]) if not s.name.startswith("sa")]
    sets = {
        "train": train,
        "dev": [sentence for sentence in test if sentence.speaker in DEV],
        "test": [sentence for sentence in test if sentence.speaker in TEST],
    }
    for name, sentences in sets.items():
        check_facts(name, sentences)
        write_set(data_dir / name, sentences)


def find_root(corpus_dir: Path | None) -> Path:
    """The folder that holds TRAIN and TEST or DR1 to DR8."""
    for folder in (corpus_dir, corpus_dir / "TIMIT", corpus_dir / "timit") if corpus_dir else ():
        if folder.is_dir() and any(path.name.lower() in ("train", "dr1") for path in folder.iterdir()):
            return folder.resolve()
    hint = f"--data-dir is a folder with TRAIN/DR1/SPEAKER/SENTENCE.WAV, from {ADDRESS}"
    where = f" in {corpus_dir}" if corpus_dir else ": pass --data-dir DIR"
    raise InputError(f"TIMIT not found{where}", hint=hint, code="E201")


def find_sentences(folder: Path) -> list[Sentence]:
    """The recordings below a folder, sorted; names in small letters, as copies differ in that."""
    paths = [p for p in folder.rglob("*") if p.suffix.lower() in (".wav", ".flac") and p.parent.name[0] in "fmFM"]
    return sorted(Sentence(path.parent.name.lower(), path.stem.lower(), path) for path in paths)


def write_set(path: Path, sentences: Sequence[Sentence]) -> None:
    """Write a data dir with `phones`."""
    phones = []
    for sentence in sentences:
        for start, end, label in read_labels(sentence.path, "phn"):
            if phone := FOLD.get(label, label):
                phones.append(f"{sentence.id} 1 {start / RATE:.6f} {(end - start) / RATE:.6f} {phone}\n")
    DataDir(
        wav_scp={sentence.id: str(sentence.path) for sentence in sentences},
        text={s.id: " ".join(word for *_, word in read_labels(s.path, "wrd")) for s in sentences},
        utt2spk={sentence.id: sentence.speaker for sentence in sentences},
        spk2gender={sentence.speaker: sentence.speaker[0] for sentence in sentences},
    ).write(path)
    write_text(path / "phones", "".join(phones))


def read_labels(recording: Path, kind: str) -> list[tuple[int, int, str]]:
    """First sample, sample after the last, label; words may overlap, as in "had your".

    Raises:
        InputError: the file is missing or a line of it is not that (file and line are named).
    """
    path = next((p for s in (kind.upper(), kind) if (p := recording.with_suffix(f".{s}")).exists()), None)
    if path is None:
        raise InputError(f"E201 {recording}: no .{kind.upper()} beside it", code="E201")
    labels = []
    for number, line in enumerate(path.read_text(encoding="ascii").splitlines(), 1):
        try:
            start, end, label = line.split()
            labels.append((int(start), int(end), label))
        except ValueError as error:
            raise InputError(f"{path}:{number}: not a line of start, end and label: {line!r}", code="E201") from error
    return labels


def check_facts(name: str, sentences: Sequence[Sentence]) -> None:
    """Compare: gaps are an error; where more than a tenth is missing it is a part of the corpus, and a warning."""
    facts = FACTS[name]
    if len(sentences) == facts.utterances:
        return
    counts = dict.fromkeys(sorted({s.speaker for s in sentences}), 0)
    for sentence in sentences:
        counts[sentence.speaker] += 1
    short = next((f"; {speaker} has {count} of 8" for speaker, count in counts.items() if count != 8), "")
    message = f"E201 {name}: {len(sentences)} utterances of {len(counts)} speakers, expected {facts.utterances}"
    message += f" of {facts.speakers}{short}"
    if len(sentences) >= 0.9 * facts.utterances:
        raise InputError(message, hint=f"get it again from {ADDRESS}", code="E201")
    log.warning("%s", message)
