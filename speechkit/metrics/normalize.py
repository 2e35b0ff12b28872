"""Texts made comparable before they are scored."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

Normalizer = Literal["none", "basic"]


def normalize_text(text: str, normalizer: Normalizer) -> str:
    """Apply a normalizer by name; `none` only makes white space uniform."""
    return basic(text) if normalizer == "basic" else " ".join(text.split())


def basic(text: str) -> str:
    """Lower case, without what stands in brackets, and with a space for every mark, symbol and punctuation sign.

    Source: the basic text normalizer of Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision"
    (2022), appendix C.
    """
    text = re.sub(r"[<\[][^>\]]*[>\]]|\([^)]+?\)", "", text.lower())
    kept = (" " if unicodedata.category(c)[0] in "MSP" else c for c in unicodedata.normalize("NFKC", text))
    return " ".join("".join(kept).split())
