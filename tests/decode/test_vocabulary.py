from __future__ import annotations

import pytest

from speechkit.decode.vocabulary import Vocabulary
from speechkit.errors import InputError

LETTERS = Vocabulary(("<s>", "<pad>", "</s>", "<unk>", "|", *"ABCDE"), blank=0)
PIECES = Vocabulary(("<blank>", "▁", "▁a", "b", "▁ab", "c"), blank=0, pieces="sentencepiece")
DIGITS = Vocabulary(("<blank>", "one", "two"), blank=0, pieces="words")


@pytest.mark.parametrize(
    ("vocabulary", "ids", "text"),
    [
        (LETTERS, [4, 5, 6, 4, 7, 4], "AB C"),
        (LETTERS, [5, 4, 4, 6], "A  B"),
        (LETTERS, [5, 2, 3, 0, 6], "A</s><unk>B"),
        (Vocabulary(LETTERS.symbols, blank=0, lower_case=True), [5, 4, 6], "a b"),
        (Vocabulary(LETTERS.symbols, blank=0, delimiter_text="_"), [5, 4, 6], "A_B"),
        (PIECES, [4, 5, 1, 3], "abc b"),
        (DIGITS, [1, 2, 1], "one two one"),
    ],
)
def test_symbols_become_text(vocabulary: Vocabulary, ids: list[int], text: str) -> None:
    assert vocabulary.text(ids) == text


@pytest.mark.parametrize(
    ("vocabulary", "ids", "words"),
    [
        (LETTERS, [4, 5, 6, 4, 4, 7], [("AB", 1, 3), ("C", 5, 6)]),
        (LETTERS, [4, 4], []),
        (PIECES, [4, 5, 1, 3, 2], [("abc", 0, 2), ("b", 3, 4), ("a", 4, 5)]),
        (DIGITS, [2, 1], [("two", 0, 1), ("one", 1, 2)]),
    ],
)
def test_words_know_their_symbols(vocabulary: Vocabulary, ids: list[int], words: list[tuple[str, int, int]]) -> None:
    assert vocabulary.words(ids) == words


@pytest.mark.parametrize(
    ("vocabulary", "text", "ids"),
    [
        (LETTERS, "ab  C", [5, 6, 4, 7]),
        (PIECES, "abc b", [4, 5, 1, 3]),
        (DIGITS, "Two one", [2, 1]),
        (LETTERS, "", []),
    ],
)
def test_text_becomes_symbols_that_spell_it(vocabulary: Vocabulary, text: str, ids: list[int]) -> None:
    assert vocabulary.ids(text) == ids
    assert vocabulary.text(ids).split() == [w if w in vocabulary.text(ids) else w.upper() for w in text.lower().split()]


def test_a_word_that_cannot_be_spelled_is_named_with_the_unknown_symbol() -> None:
    with pytest.raises(InputError, match=r"'A1' cannot be spelled .* '1' is unknown"):
        LETTERS.ids("A A1")


def test_a_word_that_cannot_be_spelled_is_shown_in_a_line() -> None:
    with pytest.raises(InputError) as caught:
        LETTERS.ids("1" + "A" * 100_000)
    assert len(caught.value.message) < 150


def test_the_blank_spells_nothing() -> None:
    with pytest.raises(InputError, match="<s>"):
        Vocabulary(("<s>", "a"), blank=0, pieces="words").ids("<s>")


def test_a_blank_outside_the_symbols_is_refused() -> None:
    with pytest.raises(ValueError, match="blank 2 is not a row of 2 symbols"):
        Vocabulary(("a", "b"), blank=2)
