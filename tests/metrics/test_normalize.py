from __future__ import annotations

import pytest

from speechkit.metrics.normalize import normalize_text


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Hello,  WORLD!", "hello world"),
        ("it's [noise] (laughs) <unk> fine", "it s fine"),
        ("Größe → 100 €", "größe 100"),
        ("ｆｕｌｌ", "full"),
    ],
)
def test_basic_leaves_words(text: str, plain: str) -> None:
    assert normalize_text(text, "basic") == plain


def test_none_only_makes_white_space_uniform() -> None:
    assert normalize_text(" Hello,\t WORLD! ", "none") == "Hello, WORLD!"
