"""Transcripts to token ids: whole words, characters, or sentencepiece pieces."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from speechkit.decode.vocabulary import Vocabulary
from speechkit.errors import InputError
from speechkit.files import whole, write_json

Kind = Literal["words", "characters", "sentencepiece"]

BLANK = "<blank>"
DELIMITER = "|"


class TextTokenizer:
    """Encodes transcripts for a CTC head.

    Args:
        vocabulary: what the ids stand for.
        pieces: a sentencepiece model whose ids are those of the vocabulary; None for words and characters.
    """

    def __init__(self, vocabulary: Vocabulary, pieces: bytes | None = None) -> None:
        self.vocabulary = vocabulary
        self._pieces = pieces
        if pieces is not None:
            import sentencepiece

            self._encode = sentencepiece.SentencePieceProcessor(model_proto=pieces)

    def encode(self, text: str) -> list[int]:
        """Token ids of a transcript.

        Raises:
            InputError: it holds a word or a character that the vocabulary does not have.
        """
        if self._pieces is None:
            return self.vocabulary.ids(text)
        ids: list[int] = self._encode.encode(text)
        if self._encode.unk_id() in ids:
            raise InputError(f"{text!r} cannot be spelled with the learned pieces", code="text.symbols")
        return ids

    def save(self, folder: str | Path) -> None:
        """Write vocabulary.json and, where there is one, sentencepiece.model."""
        with whole(folder) as temporary:
            temporary.mkdir()
            v = self.vocabulary
            write_json(
                temporary / "vocabulary.json",
                {"symbols": v.symbols, "blank": v.blank, "word_delimiter": v.word_delimiter, "pieces": v.pieces},
            )
            if self._pieces is not None:
                (temporary / "sentencepiece.model").write_bytes(self._pieces)

    @classmethod
    def load(cls, folder: str | Path) -> TextTokenizer:
        """Read what `save` wrote."""
        folder = Path(folder)
        vocabulary = Vocabulary(**json.loads((folder / "vocabulary.json").read_text(encoding="utf-8")))
        model = folder / "sentencepiece.model"
        return cls(vocabulary, model.read_bytes() if model.exists() else None)


def learn(texts: Iterable[str], kind: Kind, size: int = 0) -> TextTokenizer:
    """Make a tokenizer from transcripts.

    Args:
        texts: the transcripts of the training set.
        kind: what a token is.
        size: the number of pieces of sentencepiece; words and characters are all that occur.

    Raises:
        InputError: there is no text, or too little of it for `size` pieces.
    """
    texts = [t for t in texts if t.strip()]
    if not texts:
        raise InputError("no transcripts to learn tokens from", code="text.empty")
    if kind == "words":
        words = sorted({w for t in texts for w in t.split()})
        return TextTokenizer(Vocabulary(symbols=(BLANK, *words), blank=0, word_delimiter="", pieces="words"))
    if kind == "characters":
        characters = sorted({c for t in texts for w in t.split() for c in w} - {DELIMITER})
        return TextTokenizer(Vocabulary(symbols=(BLANK, DELIMITER, *characters), blank=0, word_delimiter=DELIMITER))
    return _learn_pieces(texts, size)


def _learn_pieces(texts: list[str], size: int) -> TextTokenizer:
    import sentencepiece

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=model, vocab_size=size, model_type="unigram",
            character_coverage=1.0, pad_id=0, pad_piece=BLANK, unk_id=1, bos_id=-1, eos_id=-1,
            num_threads=1, minloglevel=2,
        )  # fmt: skip
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        message = f"cannot learn {size} pieces: {reason}"
        raise InputError(message, hint="--set tokens.size=…", code="text.size") from error
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    symbols = tuple(processor.id_to_piece(i) for i in range(processor.get_piece_size()))
    vocabulary = Vocabulary(symbols=symbols, blank=0, word_delimiter="", pieces="sentencepiece")
    return TextTokenizer(vocabulary, model.getvalue())
