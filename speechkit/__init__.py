"""Speech and audio processing: pre-training, hidden units, recognition and alignment."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speechkit.models import load
    from speechkit.pipelines.transcribe import transcribe

__all__ = ["load", "transcribe"]

_HOMES = {"load": "speechkit.models", "transcribe": "speechkit.pipelines.transcribe"}


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: `import speechkit` takes neither torch nor numpy."""
    if name not in _HOMES:
        raise AttributeError(f"module 'speechkit' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
