"""Word and character error rates: counts, alignments, confusions, and how sure they are.

Edit distance with unit costs (kaldialign), as Kaldi's compute-wer and jiwer count; N is the number of utterances.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import kaldialign
import numpy as np

from speechkit import draws
from speechkit.errors import InputError

Unit = Literal["word", "char"]
Pair = tuple[str | None, str | None]  # reference and hypothesis; None where one of them has nothing

_NOTHING = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorCounts:
    """Counts of an alignment; they add up over utterances."""

    correct: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def length(self) -> int:
        """Symbols of the reference."""
        return self.correct + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors over the reference's length; of an empty reference 0, or infinite with insertions."""
        return self.errors / self.length if self.length else float("inf") if self.errors else 0.0

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(
            correct=self.correct + other.correct,
            substitutions=self.substitutions + other.substitutions,
            deletions=self.deletions + other.deletions,
            insertions=self.insertions + other.insertions,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """The result of `score`.

    Attributes:
        unit: what was counted.
        counts: over all utterances.
        utterances: of each utterance, by id.
        alignments: of each utterance, by id.
    """

    unit: Unit
    counts: ErrorCounts
    utterances: dict[str, ErrorCounts]
    alignments: dict[str, list[Pair]]

    @property
    def sentence_errors(self) -> int:
        """Utterances with at least one error."""
        return sum(counts.errors > 0 for counts in self.utterances.values())

    @property
    def sentence_error_rate(self) -> float:
        """Their share."""
        return self.sentence_errors / len(self.utterances) if self.utterances else 0.0

    def confusions(self) -> Counter[Pair]:
        """How often each wrong pair occurs."""
        return Counter(pair for pairs in self.alignments.values() for pair in pairs if pair[0] != pair[1])


def align_words(ref: Sequence[str], hyp: Sequence[str]) -> list[Pair]:
    """Align two sequences of words (or characters) with the fewest errors."""
    numbers = {word: number for number, word in enumerate(dict.fromkeys([*ref, *hyp]))}
    words: dict[int, str | None] = {number: word for word, number in numbers.items()} | {_NOTHING: None}
    pairs = kaldialign.align([numbers[w] for w in ref], [numbers[w] for w in hyp], _NOTHING)
    return [(words[a], words[b]) for a, b in pairs]


def count(pairs: Sequence[Pair]) -> ErrorCounts:
    """Count the errors of an alignment."""
    deletions, insertions = sum(h is None for _, h in pairs), sum(r is None for r, _ in pairs)
    correct = sum(r == h for r, h in pairs)
    return ErrorCounts(
        correct=correct,
        substitutions=len(pairs) - correct - deletions - insertions,
        deletions=deletions,
        insertions=insertions,
    )


def symbols(text: str, unit: Unit) -> list[str]:
    """The words of a text, or its characters with one space between words."""
    words = text.split()
    return words if unit == "word" else list(" ".join(words))


def score(refs: Mapping[str, str], hyps: Mapping[str, str], unit: Unit = "word") -> Score:
    """Score hypotheses against references, by id; a missing hypothesis counts as an empty one.

    Raises:
        InputError: a hypothesis has no reference, or there are no references.
    """
    unknown = next((i for i in hyps if i not in refs), None)
    if unknown is not None or not refs:
        raise InputError(
            f"{unknown}: a hypothesis without reference" if refs else "there are no references",
            hint="do both files belong to the same data?",
            code="score.ids",
        )
    alignments = {i: align_words(symbols(refs[i], unit), symbols(hyps.get(i, ""), unit)) for i in sorted(refs)}
    utterances = {i: count(pairs) for i, pairs in alignments.items()}
    counts = sum(utterances.values(), ErrorCounts())
    return Score(unit=unit, counts=counts, utterances=utterances, alignments=alignments)


def bootstrap_interval(score: Score, seed: int = 0, resamples: int = 1000) -> tuple[float, float]:
    """The 95 % interval of the error rate over resampled utterances.

    Draws are keyed by the number of the resample (purpose `bootstrap`), so the interval is the same everywhere.
    Source: Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", 2004.
    """
    utterances = [score.utterances[i] for i in sorted(score.utterances)]
    errors = np.array([u.errors for u in utterances])
    lengths = np.array([u.length for u in utterances])
    rates = []
    for resample in range(resamples):
        w = draws.words(seed, draws.EVALUATION, "bootstrap", [str(resample)], len(utterances))[0]
        chosen = draws.randint(w, len(utterances))
        rates.append(errors[chosen].sum() / max(1, lengths[chosen].sum()))
    low, high = np.percentile(rates, [2.5, 97.5])
    return float(low), float(high)
