"""Functions over pieces that other processes can import."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechkit.jobs import Piece, Walk, cut


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """An item of a corpus."""

    text: str


def upper(piece: Piece[Word], output: Path) -> dict[str, Any]:
    """Write the words in capitals, and count the process in a file `calls` beside."""
    output.write_text("".join(f"{word.text.upper()}\n" for word in piece.items))
    with (output.parent / "calls").open("a") as calls:
        calls.write(f"{piece.name}\n")
    return {"words": len(piece.items)}


def upper_once_killed(piece: Piece[Word], output: Path) -> dict[str, Any]:
    """The same, but the process of piece 2 dies when it first comes to it, its output half written."""
    died = output.parent / "died"
    if piece.name == "000002" and not died.exists():
        died.touch()
        output.write_text("HAL")
        os.kill(os.getpid(), signal.SIGKILL)
    return upper(piece, output)


WORDS = [Word(text="x" * (1 + 7 * n % 5) + str(n)) for n in range(14)]
PIECES = cut(WORDS, lambda w: len(w.text), 10)


def walk(folder: Path, settings: Any = "s", compute: Any = upper) -> Walk[Word]:
    """A walk over the words, to `folder`."""
    return Walk(compute=compute, folder=folder, suffix=".txt", settings=settings)


def calls(folder: Path) -> list[str]:
    """The names of the pieces in the order of their computation; the list begins anew."""
    file = folder / "calls"
    names = file.read_text().split() if file.exists() else []
    file.unlink(missing_ok=True)
    return names
