"""Digests of files and folders by content, cached by what `stat` says so that unchanged files cost one call."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from speechkit.files import sha256

Kind = Literal["content", "listing", "recordings"]

_END_BYTES = 1 << 16
_SETTLED_SECONDS = 2.0  # a file changed again within its time stamp's step (1 s on NFS) would look unchanged


class Digests:
    """SHA-256 digests with a cache file.

    Args:
        cache: lines of JSON; read now, appended to by `save`.
        root: the folder from which relative paths in a wav.scp count.
    """

    def __init__(self, cache: Path, root: Path) -> None:
        self._cache = cache
        self._root = root
        self._known: dict[tuple[str, str], tuple[list[int], str]] = {}
        self._new: list[str] = []
        self._seen: dict[tuple[Path, str], str | None] = {}
        self._read()

    def forget(self) -> None:
        """Look at the disk again."""
        self._seen.clear()

    def digest(self, path: Path, kind: Kind = "content") -> str | None:
        """The digest of a file or folder, None where there is nothing."""
        if (path, kind) not in self._seen:
            self._seen[path, kind] = self._digest(path, kind) if path.exists() else None
        return self._seen[path, kind]

    def save(self) -> None:
        """Append what was computed to the cache, if its folder is there."""
        if self._new and self._cache.parent.is_dir():
            with self._cache.open("a", encoding="utf-8") as file:
                file.write("".join(self._new))
            self._new.clear()

    def _digest(self, path: Path, kind: Kind) -> str:
        if kind == "recordings":
            return self._recordings(path)
        if not path.is_dir():
            return self._file(path, "content", sha256)
        total = hashlib.sha256()
        for name, file in _files(path):
            stat = file.stat()
            last = str(stat.st_mtime_ns) if kind == "listing" else self._file(file, "content", sha256)
            total.update(f"{name} {stat.st_size} {last}\n".encode(errors="surrogateescape"))
        return total.hexdigest()

    def _recordings(self, table: Path) -> str:
        total = hashlib.sha256()
        for line in table.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            place = line.partition(" ")[2]
            if not place.endswith("|"):  # a command is known by its words alone
                line += " " + self._recording(place)
            total.update(f"{line}\n".encode(errors="surrogateescape"))
        return total.hexdigest()

    def _recording(self, place: str) -> str:
        file = self._root / place
        if not file.exists():  # perhaps archive:offset or tar:offset+size
            file = self._root / re.sub(r":\d+(\+\d+)?$", "", place)
        return self._file(file, "ends", _ends) if file.exists() else "missing"

    def _file(self, file: Path, kind: str, compute: Callable[[Path], str]) -> str:
        stat = file.stat()
        state = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        key = (str(file), kind)
        if key in self._known and self._known[key][0] == state:
            return self._known[key][1]
        digest = compute(file)
        if time.time() - stat.st_mtime > _SETTLED_SECONDS:
            self._known[key] = (state, digest)
            self._new.append(json.dumps([*key, state, digest]) + "\n")
        return digest

    def _read(self) -> None:
        if not self._cache.is_file():
            return
        with self._cache.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    path, kind, state, digest = json.loads(line)
                except ValueError:  # a line that a killed run left half written
                    continue
                self._known[path, kind] = (state, digest)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Files below a folder with their relative names, sorted; hidden ones are not looked at, links are followed."""
    found = []
    been = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        stat = Path(here).stat()
        if (stat.st_dev, stat.st_ino) in been:
            folders.clear()
            continue
        been.add((stat.st_dev, stat.st_ino))
        folders[:] = [f for f in folders if not f.startswith(".")]
        files = [Path(here) / n for n in names if not n.startswith(".")]
        found += [(f.relative_to(folder).as_posix(), f) for f in files if f.exists()]
    yield from sorted(found)


def _ends(file: Path) -> str:
    """Digest of size, first and last 64 KiB."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        total = hashlib.sha256(f"{size}\n".encode() + stream.read(_END_BYTES))
        stream.seek(max(0, size - _END_BYTES))
        total.update(stream.read(_END_BYTES))
    return total.hexdigest()
