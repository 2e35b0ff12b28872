"""Our own model folders: config.json, model.safetensors, card.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from speechkit import config
from speechkit.checkpoints.weights import write_safetensors
from speechkit.errors import ModelError, OutputError, UsageError
from speechkit.files import whole

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "card.md"

T = TypeVar("T")


def write_folder(folder: str | Path, settings: Any, tensors: Mapping[str, Tensor], card: str) -> None:
    """Write a model folder, whole or not at all; one that is there already is replaced.

    Args:
        folder: where to.
        settings: a dataclass with a field `kind`.
        tensors: the weights.
        card: what people should know about the model, in Markdown.

    Raises:
        OutputError: it cannot be written, or something else than a model lies there.
    """
    folder = Path(folder)
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or (folder / CONFIG).exists())):
        raise OutputError(f"{folder}: exists and is no model folder", hint="choose a new name", code="output.exists")
    with whole(folder) as temporary:
        temporary.mkdir()
        text = json.dumps(config.plain(settings), ensure_ascii=False, indent=1)
        (temporary / CONFIG).write_text(text + "\n", encoding="utf-8")
        (temporary / CARD).write_text(card, encoding="utf-8")
        write_safetensors(temporary / WEIGHTS, tensors)


def read_settings(folder: Path, schema: type[T]) -> T:
    """Read the settings of a model folder.

    Raises:
        ModelError: an unknown or missing setting, or one of the wrong type.
    """
    try:
        return config.load(schema, [folder / CONFIG])
    except UsageError as error:
        known = str(folder) in error.message  # file and line
        message = error.message if known else f"{folder / CONFIG}: {error.message}"
        raise ModelError(message, hint=error.hint if known else "", code="model.config") from error
