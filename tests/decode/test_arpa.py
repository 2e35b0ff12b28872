from __future__ import annotations

import gzip
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechkit.decode import arpa
from speechkit.errors import InputError

Model = list[dict[arpa.Words, arpa.Entry]]

SENTENCES = st.lists(st.lists(st.sampled_from("abcd"), max_size=6).map(" ".join), min_size=1, max_size=8)


def probability(model: Model, context: arpa.Words, word: str) -> float:
    """P(word | context) as readers of ARPA files compute it."""
    context = context[max(0, len(context) - len(model) + 1) :]
    if (entry := model[len(context)].get((*context, word))) is not None:
        return 10**entry.log10_prob
    known = model[len(context) - 1].get(context)
    weight = 10 ** (known.log10_backoff or 0.0) if known and known.log10_backoff is not None else 1.0
    return weight * probability(model, context[1:], word)


def test_probabilities_are_those_computed_by_hand() -> None:
    model = arpa.learn(["a b", "a", ""], 2)
    # words a a b </s> </s>: 5 of 3 kinds, and <unk> makes 4 that share what is left
    assert {g[0]: 10**e.log10_prob for g, e in model[0].items() if g != ("<s>",)} == pytest.approx(
        {"a": (2 + 3 / 4) / 8, "b": (1 + 3 / 4) / 8, "</s>": (2 + 3 / 4) / 8, "<unk>": 3 / 4 / 8}
    )
    # after <s> always a; after a once b and once the end; after b the end
    assert {g: 10**e.log10_prob for g, e in model[1].items()} == pytest.approx(
        {
            ("<s>", "a"): (2 + 2.75 / 8) / 3,
            ("a", "b"): (1 + 2 * 1.75 / 8) / 4,
            ("a", "</s>"): (1 + 2 * 2.75 / 8) / 4,
            ("b", "</s>"): (1 + 2.75 / 8) / 2,
        }
    )
    backoffs = {g[0]: 10**e.log10_backoff for g, e in model[0].items() if e.log10_backoff is not None}
    assert backoffs == pytest.approx({"<s>": 1 / 3, "a": 1 / 2, "b": 1 / 2})


@given(SENTENCES.filter(lambda texts: any(texts)), st.integers(2, 4))
def test_probabilities_sum_to_one_after_every_context(texts: list[str], order: int) -> None:
    model = arpa.learn(texts, order)
    words = [gram[0] for gram in model[0] if gram != ("<s>",)]
    contexts = {gram[:-1] for grams in model for gram in grams} | {("<unk>", "a"), ("d", "d", "d")}
    for context in contexts:
        assert math.fsum(probability(model, context, word) for word in words) == pytest.approx(1)


@pytest.mark.parametrize("texts", [[], ["", "  "]])
def test_no_text_is_refused(texts: list[str]) -> None:
    with pytest.raises(InputError, match="no transcripts"):
        arpa.learn(texts, 3)


@pytest.mark.parametrize("packed", [False, True])
def test_the_words_of_a_file_are_read_without_special_ones(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "lm.arpa"
    arpa.write(path, arpa.learn(["ä b", "b c"], 2))
    assert path.read_text().startswith("\\data\\\nngram 1=6\nngram 2=6\n\n\\1-grams:\n")
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    assert list(arpa.read_words(path)) == ["b", "c", "ä"]


def test_a_file_that_is_missing_or_half_unpacked_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.arpa: no such file"):
        list(arpa.read_words(tmp_path / "none.arpa"))
    path = tmp_path / "half.arpa.gz"
    path.write_bytes(gzip.compress(b"\\1-grams:\n" + bytes(range(256)) * 9)[:-20])
    with pytest.raises(InputError, match=r"half\.arpa\.gz: "):
        list(arpa.read_words(path))
