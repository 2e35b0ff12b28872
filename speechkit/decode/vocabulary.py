"""What the rows of a recognition head mean: symbols, the blank, and how decoded symbols become text.

S is the number of decoded symbols.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from speechkit.errors import InputError

SPACE_PIECE = "▁"  # sentencepiece's mark of a word's beginning

_SHOWN = 40  # characters of a word in a message
_SHOWN_WORDS = 12


@dataclass(frozen=True)
class Vocabulary:
    """The symbols of a CTC head, row by row.

    Attributes:
        symbols: one a row.
        blank: the row of CTC's blank.
        word_delimiter: the symbol between words (characters only; "" when there is none).
        delimiter_text: what stands for it in text.
        lower_case: whether text is lower-cased.
        pieces: whether a symbol is a character, a sentencepiece piece (`▁` begins a word) or a word.
    """

    symbols: tuple[str, ...]
    blank: int
    word_delimiter: str = "|"
    delimiter_text: str = " "
    lower_case: bool = False
    pieces: Literal["characters", "sentencepiece", "words"] = "characters"

    def __post_init__(self) -> None:
        object.__setattr__(self, "symbols", tuple(self.symbols))
        if not 0 <= self.blank < len(self.symbols):
            raise ValueError(f"blank {self.blank} is not a row of {len(self.symbols)} symbols")

    def __len__(self) -> int:
        return len(self.symbols)

    def text(self, ids: Iterable[int]) -> str:
        """The text of decoded ids (repeats merged already; blanks are passed over).

        Symbols are joined, the word delimiter is replaced, the ends are stripped. Special symbols are printed as they
        stand and inner double spaces stay, as transformers' CTC tokenizer does.
        """
        return self._cased("".join(self._printed(i) for i in ids if i != self.blank).strip())

    def words(self, ids: Sequence[int]) -> list[tuple[str, int, int]]:
        """The words of decoded ids, each with the first and one past the last position of its symbols in `ids`."""
        words: list[tuple[str, int, int]] = []
        current, start, stop = "", 0, 0
        for position, i in enumerate(ids):
            printed = "" if i == self.blank else self._printed(i)
            if self._begins_word(i, printed):
                words += [(current, start, stop)] if current else []
                current = ""
            if self._is_delimiter(i) or not printed.strip():
                continue
            start = start if current else position
            current, stop = current + printed.strip(), position + 1
        words += [(current, start, stop)] if current else []
        return [(self._cased(word), first, last) for word, first, last in words]

    def ids(self, text: str) -> list[int]:
        """The ids that spell `text`, words separated by the delimiter where there is one.

        Raises:
            InputError: a word cannot be spelled with these symbols.
        """
        ids: list[int] = []
        for word in text.split():
            ids += (self.separator if ids else []) + self.spell(word)
        return ids

    @property
    def separator(self) -> list[int]:
        """The ids between two words: the delimiter, or nothing where words carry their own mark."""
        row = self._row(self.word_delimiter) if self.pieces == "characters" else None
        return [] if row is None else [row]

    def spell(self, word: str) -> list[int]:
        """The ids of one word: as written, else in upper case, else in lower case; fewest pieces first.

        Raises:
            InputError: no such spelling.
        """
        for form in dict.fromkeys((word, word.upper(), word.lower())):
            ids = self._spell(form)
            if ids:
                return ids
        known = {c for c in word if self._row(c) is not None or self._row(c.upper()) is not None}
        unknown = "".join(dict.fromkeys(c for c in word if c not in known)) or word
        shown, unknown = (text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…" for text in (word, unknown))
        if self.pieces == "words":
            some = ", ".join([s for row, s in enumerate(self.symbols) if row != self.blank][:_SHOWN_WORDS])
            what = f"is none of the {len(self)} words that the model knows: {some}"
            raise InputError(f"the word {shown!r} {what}, …", code="text.symbols")
        raise InputError(
            f"the word {shown!r} cannot be spelled with the model's symbols: {unknown!r} is unknown",
            hint="write numbers as words and leave out punctuation that the model does not print",
            code="text.symbols",
        )

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {symbol: row for row, symbol in reversed(list(enumerate(self.symbols)))}

    def _spell(self, word: str) -> list[int]:
        if self.pieces == "words":
            row = self._row(word)
            return [] if row is None else [row]
        if self.pieces == "characters":
            rows = [self._row(c) for c in word]
            return [] if None in rows else [r for r in rows if r is not None]
        return self._fewest_pieces(SPACE_PIECE + word)

    def _fewest_pieces(self, marked: str) -> list[int]:
        best: list[list[int] | None] = [[]] + [None] * len(marked)
        for end in range(1, len(marked) + 1):
            for start in range(end):
                before, row = best[start], self._row(marked[start:end])
                if before is None or row is None:
                    continue
                known = best[end]
                if known is None or len(before) + 1 < len(known):
                    best[end] = [*before, row]
        return best[-1] or []

    def _row(self, symbol: str) -> int | None:
        row = self._rows.get(symbol)
        return None if row == self.blank else row

    def _printed(self, i: int) -> str:
        symbol = self.symbols[i]
        if self.pieces == "words":
            return " " + symbol
        if self.pieces == "sentencepiece":
            return symbol.replace(SPACE_PIECE, " ")
        return self.delimiter_text if self._is_delimiter(i) else symbol

    def _is_delimiter(self, i: int) -> bool:
        return self.pieces == "characters" and bool(self.word_delimiter) and self.symbols[i] == self.word_delimiter

    def _begins_word(self, i: int, printed: str) -> bool:
        return self._is_delimiter(i) or printed[:1].isspace()

    def _cased(self, text: str) -> str:
        return text.lower() if self.lower_case else text
