"""A language model of the training transcripts, and the lexicon that goes with it."""

from __future__ import annotations

from typing import Any

from speechkit.data.utterance import read_utterances
from speechkit.recipe.context import Context
from speechkit.recipe.stage import Stage


def learn_lm() -> Stage[Any, int]:
    """Stage 6, where `decode.lm.order` is above 0: an n-gram of the transcripts that CTC is trained on.

    exp/lexicon.txt spells their words as the tokenizer of stage 5 does, sentencepiece's pieces included.
    """
    return Stage(
        number=6,
        name="learn_lm",
        group="data",
        inputs={"train": "exp/finetune/train.jsonl", "tokens": "exp/tokens"},
        outputs={"lm": "exp/lm.arpa", "lexicon": "exp/lexicon.txt"},
        settings=lambda c: c.decode.lm.order,
        run=_learn,
        when=has_lm,
    )


def has_lm(config: Any) -> bool:
    """Whether decoding uses a language model."""
    return bool(config.decode.lm.order)


def lm_inputs(config: Any) -> dict[str, str]:
    """What decoding reads of it."""
    return {"lm": "exp/lm.arpa", "lexicon": "exp/lexicon.txt"} if has_lm(config) else {}


def _learn(context: Context, order: int) -> None:
    from speechkit.decode import arpa
    from speechkit.decode.ngram import Spelling, flashlight, write_lexicon
    from speechkit.tokenizers.text import TextTokenizer

    flashlight()  # that it is missing is better known now than after the training
    texts = [u.text for u in read_utterances(context.inputs["train"]) if u.text]
    entries = arpa.learn(texts, order)
    arpa.write(context.outputs["lm"], entries)
    tokenizer = TextTokenizer.load(context.inputs["tokens"])
    words = sorted({word for text in texts for word in text.split()})
    spellings: list[Spelling] = [(word, tuple(tokenizer.encode(word))) for word in words]
    write_lexicon(context.outputs["lexicon"], spellings, tokenizer.vocabulary)
    sizes = ", ".join(f"{len(grams)} of {size}" for size, grams in enumerate(entries, 1))
    context.log.info("%d words in %d sentences; n-grams: %s", len(words), len(texts), sizes)
