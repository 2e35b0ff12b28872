from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from speechkit.data.utterance import Utterance, write_utterances
from speechkit.decode import arpa
from speechkit.decode.ngram import NgramSearch, read_lexicon
from speechkit.stages.lm import learn_lm
from speechkit.tokenizers.text import Kind, learn

pytest.importorskip("flashlight.lib.text", reason="flashlight-text (extra lm) is not installed")

TEXTS = ["so la so", "mi solami la", "so mi", "la"]


@pytest.mark.parametrize("kind", ["words", "characters", "sentencepiece"])
def test_the_lexicon_spells_the_words_of_the_model_as_the_tokenizer_does(tmp_path: Path, kind: Kind) -> None:
    tokenizer = learn(TEXTS, kind, 12)
    tokenizer.save(tmp_path / "tokens")
    utterances = [
        Utterance(id=str(i), path="x.wav", num_samples=1, sample_rate=1, text=text) for i, text in enumerate(TEXTS)
    ]
    write_utterances(tmp_path / "train.jsonl", utterances)
    places = {name: tmp_path / name for name in ("lm", "lexicon")}
    inputs = {"train": tmp_path / "train.jsonl", "tokens": tmp_path / "tokens"}
    learn_lm().run(SimpleNamespace(inputs=inputs, outputs=places, log=logging.getLogger()), 3)  # type: ignore[arg-type]
    spellings = dict(read_lexicon(places["lexicon"], tokenizer.vocabulary))
    assert spellings == {word: tuple(tokenizer.encode(word)) for word in ("la", "mi", "so", "solami")}
    assert list(arpa.read_words(places["lm"])) == ["la", "mi", "so", "solami"]
    NgramSearch(tokenizer.vocabulary, places["lm"], places["lexicon"])
