from __future__ import annotations

from pathlib import Path

import pytest

from speechkit.errors import InputError
from speechkit.tokenizers.text import TextTokenizer, learn

TEXTS = ["one two three", "three four", "two one", "it's four", "eins zwei drei", "five six seven eight nine zero"]


@pytest.mark.parametrize(("kind", "size"), [("words", 0), ("characters", 0), ("sentencepiece", 28)])
def test_text_survives_encoding_saving_and_loading(kind: str, size: int, tmp_path: Path) -> None:
    learn(TEXTS, kind, size).save(tmp_path / "tokens")
    tokenizer = TextTokenizer.load(tmp_path / "tokens")
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert tokenizer.vocabulary.blank not in ids
        assert tokenizer.vocabulary.text(ids) == text


@pytest.mark.parametrize(("kind", "size"), [("words", 0), ("characters", 0), ("sentencepiece", 28)])
def test_unknown_symbols_are_refused(kind: str, size: int) -> None:
    tokenizer = learn(TEXTS, kind, size)
    with pytest.raises(InputError):
        tokenizer.encode("qqq ß")


def test_the_size_asked_of_sentencepiece_has_to_be_reachable() -> None:
    with pytest.raises(InputError, match="cannot learn 5000 pieces"):
        learn(TEXTS, "sentencepiece", 5000)


def test_no_transcripts_are_an_error() -> None:
    with pytest.raises(InputError):
        learn(["", " "], "words")
