"""N-gram language models as ARPA files: learned from transcripts, and the words of one that somebody else made.

An n-gram is a tuple of words; `<s>` begins a sentence, `</s>` ends it, `<unk>` is any word that is not listed.
"""

from __future__ import annotations

import gzip
import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from speechkit.errors import InputError
from speechkit.files import write_text

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
SPECIAL = frozenset((BEGIN, END, UNKNOWN, "<UNK>"))

_GZIP = b"\x1f\x8b"
_NEVER = -99.0  # what ARPA files write of a word that is never predicted: the sentence's beginning

Words = tuple[str, ...]


class Entry(NamedTuple):
    """Of an n-gram, as base-10 logarithms: its last word's probability after the others, and its back-off weight."""

    log10_prob: float
    log10_backoff: float | None


def learn(texts: Iterable[str], order: int) -> list[dict[Words, Entry]]:
    """Estimate an interpolated Witten-Bell model: P(w|h) = (c(hw) + T(h) P(w|h')) / (c(h) + T(h)).

    T(h) is the number of different words seen after h, h' is h without its first word, and below single words lie equal
    shares for all words, `</s>` and `<unk>`. It needs no counts of counts, which a few hundred sentences over ten words
    do not have.

    Source: Chen and Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling" (1998), section 2.5.

    Args:
        texts: a sentence each, words separated by spaces; those without a word are passed over.
        order: the most words of an n-gram.

    Returns:
        The entries of the n-grams of one word, of two, …

    Raises:
        InputError: there is no text.
    """
    counts = _count(texts, order)
    if not counts[0]:
        raise InputError("no transcripts to learn a language model from", code="text.empty")
    probs: dict[Words, float] = {(UNKNOWN,): 0.0} | dict.fromkeys(counts[0], 0.0)
    share = 1 / len(probs)
    shorter: Mapping[Words, float] = {}
    entries: list[dict[Words, Entry]] = []
    for number, grams in enumerate(counts):
        totals: Counter[Words] = Counter()
        types: Counter[Words] = Counter()
        for gram, count in grams.items():
            totals[gram[:-1]] += count
            types[gram[:-1]] += 1
        for gram in grams if number else list(probs):
            context = gram[:-1]
            below = shorter[gram[1:]] if number else share
            probs[gram] = (grams[gram] + types[context] * below) / (totals[context] + types[context])
        if number:
            for context, kinds in types.items():
                entry = entries[-1].get(context, Entry(_NEVER, None))  # only <s> has no probability
                entries[-1][context] = Entry(entry.log10_prob, math.log10(kinds / (totals[context] + kinds)))
        entries.append({gram: Entry(math.log10(prob), None) for gram, prob in probs.items()})
        shorter, probs = probs, {}
    return entries


def _count(texts: Iterable[str], order: int) -> list[Counter[Words]]:
    counts: list[Counter[Words]] = [Counter() for _ in range(order)]
    for text in texts:
        if words := text.split():
            marked = (BEGIN, *words, END)
            for size, grams in enumerate(counts, 1):
                grams.update(marked[i : i + size] for i in range(size == 1, len(marked) - size + 1))
    return counts


def write(path: Path, entries: Iterable[Mapping[Words, Entry]]) -> None:
    """Write what `learn` returned, sorted."""
    entries = list(entries)
    lines = ["\\data\\", *(f"ngram {size}={len(grams)}" for size, grams in enumerate(entries, 1)), ""]
    for size, grams in enumerate(entries, 1):
        lines.append(f"\\{size}-grams:")
        for gram, (prob, backoff) in sorted(grams.items()):
            lines.append(f"{prob:.6f}\t{' '.join(gram)}" + ("" if backoff is None else f"\t{backoff:.6f}"))
        lines.append("")
    write_text(path, "\n".join([*lines, "\\end\\", ""]))


def opened(path: Path) -> BinaryIO:
    """Open an ARPA file, which may be packed with gzip.

    Raises:
        InputError: it is not there.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
        return cast("BinaryIO", gzip.open(path)) if packed else path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: {(error.strerror or str(error)).lower()}", code="lm.missing") from error


def read_words(path: Path) -> Iterator[str]:
    """The words that an ARPA file lists, special ones left out; what is no entry is passed over.

    Raises:
        InputError: it is not there, or a damaged gzip file.
    """
    try:
        with opened(path) as file:
            begun = itertools.dropwhile(lambda line: line.strip() != b"\\1-grams:", file)
            next(begun, None)
            for line in itertools.takewhile(lambda line: not line.startswith(b"\\"), begun):
                fields = line.decode("utf-8", errors="replace").split()
                if len(fields) > 1 and fields[1] not in SPECIAL:
                    yield fields[1]
    except (OSError, EOFError) as error:
        raise InputError(f"{path}: {error}", code="lm.damaged") from error
