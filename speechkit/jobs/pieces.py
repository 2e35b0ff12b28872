"""A corpus walked in pieces: each is computed alone, appears whole, is marked as done, and is not computed again.

Where a corpus is cut depends on the corpus alone, so results are the same to the bit however many processes or machines
work on it, at once or one after the other.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from speechkit.config import plain
from speechkit.files import left_of, remove, sha256, whole, write_json
from speechkit.jobs.run import run_jobs
from speechkit.jobs.shard import Shard

log = logging.getLogger(__name__)

Item = TypeVar("Item")

MANIFEST = "manifest.json"

_DAY_SECONDS = 86400.0
_DIGITS = 6  # of a piece's number


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece(Generic[Item]):
    """Some things that are worked on together.

    Attributes:
        name: its number in the corpus, `000000` and on.
        items: dataclasses of plain values; another value of one of them makes another piece.
    """

    name: str
    items: tuple[Item, ...]

    @property
    def digest(self) -> str:
        """Of what its items say."""
        return _digest(self.items)


def cut(items: Iterable[Item], size: Callable[[Item], float], limit: float) -> list[Piece[Item]]:
    """Cut things into pieces of consecutive ones, in their order.

    Args:
        items: in an order that does not change.
        size: of a thing.
        limit: a piece ends before the thing that would make it larger; one thing alone may be.
    """
    pieces: list[list[Item]] = []
    total = 0.0
    for item in items:
        total += size(item)
        if not pieces or total > limit:
            pieces.append([])
            total = size(item)
        pieces[-1].append(item)
    return [Piece(name=f"{number:0{_DIGITS}d}", items=tuple(piece)) for number, piece in enumerate(pieces)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """What the marker of a piece says.

    Attributes:
        inputs: digest of the piece.
        settings: digest of the settings.
        bytes: size of the output.
        sha256: of the output.
        facts: what the function returned.
        seconds: that it took.
        host: where.
    """

    inputs: str
    settings: str
    bytes: int
    sha256: str
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    host: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Walk(Generic[Item]):
    """A function over the pieces of a corpus, and the folder of their outputs.

    Each output is followed by a marker, `NAME.done.json`. A piece is done when its marker is of these inputs and
    settings and the output is the one that the marker means. Whoever finds it otherwise computes it; of two that do so
    at once the later rename wins, with the same bytes.

    Attributes:
        compute: writes the output of a piece to a path and returns facts of JSON. It goes to other processes.
        folder: of outputs and markers.
        suffix: of the outputs.
        settings: everything besides the pieces that outputs depend on, in plain values.
    """

    compute: Callable[[Piece[Item], Path], dict[str, Any]]
    folder: Path
    suffix: str
    settings: Any

    def output(self, piece: Piece[Item]) -> Path:
        """Where the output of a piece lies."""
        return self.folder / f"{piece.name}{self.suffix}"

    def marker(self, piece: Piece[Item]) -> Path:
        """Where its marker lies."""
        return self.folder / f"{piece.name}.done.json"

    def __call__(self, piece: Piece[Item]) -> None:
        """Compute a piece."""
        started = time.monotonic()
        output = self.output(piece)
        with whole(output) as temporary:
            facts = self.compute(piece, temporary)
            size, digest = temporary.stat().st_size, sha256(temporary)
        done = Done(
            inputs=piece.digest,
            settings=_digest(self.settings),
            bytes=size,
            sha256=digest,
            facts=facts,
            seconds=round(time.monotonic() - started, 3),
            host=socket.gethostname(),
        )
        write_json(self.marker(piece), asdict(done))

    def done(self, piece: Piece[Item], *, reread: bool = False) -> Done | None:
        """The marker of a piece that is done; None for others.

        Args:
            piece: which.
            reread: believe the output's digest, not only its size.
        """
        found = _read(self.marker(piece))
        if found is None or (found.inputs, found.settings) != (piece.digest, _digest(self.settings)):
            return None
        output = self.output(piece)
        there = output.is_file() and output.stat().st_size == found.bytes
        return found if there and (not reread or sha256(output) == found.sha256) else None

    def otherwise(self, pieces: Sequence[Piece[Item]]) -> Path | None:
        """A marker of these pieces that was written under other settings."""
        for piece in pieces:
            found = _read(self.marker(piece))
            if found is not None and found.settings != _digest(self.settings):
                return self.marker(piece)
        return None

    def found(self) -> Iterator[Done]:
        """What all markers in the folder say, whatever pieces they are of."""
        for marker in sorted(self.folder.glob("*.done.json")):
            done = _read(marker)
            if done is not None:
                yield done

    def run(self, pieces: Sequence[Piece[Item]], shard: Shard | None = None, **options: Any) -> list[Piece[Item]]:
        """Compute what is not done of all pieces, or of a share; give those of all that are then still missing.

        Args:
            pieces: of the corpus.
            shard: the share of this process.
            options: of `run_jobs`.

        Raises:
            JobsFailed: some pieces failed; the others are done.
            Interrupted: it was asked to stop; pieces that are done stay.
        """
        mine = shard.of(pieces) if shard else pieces
        todo = [piece for piece in mine if self.done(piece, reread=True) is None]
        if len(todo) < len(mine):
            log.info("%d of %d pieces are done already", len(mine) - len(todo), len(mine))
        if todo or any(self.done(piece) is None for piece in pieces):
            (self.folder / MANIFEST).unlink(missing_ok=True)  # it tells of others
        run_jobs(self, todo, **options)
        return [piece for piece in pieces if self.done(piece) is None]

    def write_manifest(self, pieces: Sequence[Piece[Item]]) -> Path:
        """Write `manifest.json`, which says what the pieces, all of them done, hold, and remove what is of no piece.

        Its content does not depend on who computed them.
        """
        rows = []
        for piece in pieces:
            done = self.done(piece)
            assert done is not None
            rows.append({"file": self.output(piece).name, "bytes": done.bytes, "sha256": done.sha256, **done.facts})
        self._tidy({piece.name for piece in pieces})
        write_json(self.folder / MANIFEST, {"settings": plain(self.settings), "pieces": rows})
        return self.folder / MANIFEST

    def _tidy(self, names: set[str]) -> None:
        """Remove pieces that the corpus had when it was larger or in another format, and what killed processes left."""
        kept = {name + suffix for name in names for suffix in (self.suffix, ".done.json")}
        for path in self.folder.glob(f"{'[0-9]' * _DIGITS}.*"):
            if path.name not in kept:
                remove(path)
        before = time.time() - _DAY_SECONDS  # what is younger, another process may still be writing
        for path in self.folder.glob(".*"):
            if left_of(path) and path.lstat().st_mtime < before:
                remove(path)


def _read(marker: Path) -> Done | None:
    try:
        return Done(**json.loads(marker.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _digest(value: Any) -> str:
    text = json.dumps(plain(value), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(os.fsencode(text)).hexdigest()
