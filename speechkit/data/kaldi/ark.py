"""Kaldi archives: arrays and audio objects by position, in order, and written.

kaldiio decodes and encodes. Ours is what stands before it: the refusal of pickles, and the check that an object's
header is one and that its bytes are all there.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from kaldiio import matio
from numpy.typing import NDArray

from speechkit.audio.files import Audio, read
from speechkit.data.kaldi.tables import read_table, write_table
from speechkit.errors import InputError
from speechkit.files import whole

Object = NDArray[Any] | Audio

_FLOATS = {b"FM ": 4, b"DM ": 8, b"FV ": 4, b"DV ": 8}
_COMPRESSED = {b"CM ": 1, b"CM2": 2, b"CM3": 1}
_LONGEST_HEADER = 24
_LOCATION = re.compile(r"(?P<path>.+?)(:(?P<offset>\d+))?(\[(?P<ranges>[\d:, ]+)\])?")
_RANGE = re.compile(r"(\d+):(\d+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Location:
    """Where an object lies, and which part of it is meant.

    Attributes:
        path: of the archive.
        offset: byte after `key `; 0 for a file that holds one object.
        ranges: first and last index of each axis, both inclusive; None for the whole axis.
    """

    path: str
    offset: int
    ranges: tuple[tuple[int, int] | None, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What the first bytes of an object say.

    Attributes:
        kind: how it is stored.
        shape: of the array; None where only decoding tells.
        num_bytes: of the whole object, header included; None where only decoding tells.
    """

    kind: Literal["binary", "text", "audio", "npy"]
    shape: tuple[int, ...] | None = None
    num_bytes: int | None = None


def parse_location(value: str) -> Location:
    """Take `path`, `path:offset` or `path:offset[r0:r1,c0:c1]` apart.

    Raises:
        InputError: a command, or a range that is none.
    """
    if value.endswith("|") or value.startswith("|"):
        raise InputError(f"'{value}': commands are not run for archives", code="E413")
    match = _LOCATION.fullmatch(value)
    if match is None:
        raise InputError(f"'{value}' is no place in an archive", code="E171")
    parts = match["ranges"].split(",") if match["ranges"] else []
    ranges = tuple(_parse_range(part.strip(), value) for part in parts)
    return Location(path=match["path"], offset=int(match["offset"] or 0), ranges=ranges)


def _parse_range(part: str, value: str) -> tuple[int, int] | None:
    if part in ("", ":"):
        return None
    match = _RANGE.fullmatch(part)
    if match is None or int(match[1]) > int(match[2]):
        raise InputError(f"'{value}': '{part}' is no range first:last", code="E171")
    return int(match[1]), int(match[2])


def read_ark(path: str | Path) -> Iterator[tuple[str, Object]]:
    """Read an archive from its beginning, without an scp: keys and their objects in order.

    Raises:
        InputError: the file is missing, an object is a pickle (E431), broken or cut short (E171).
    """
    with _open(path) as file:
        while key := _read_key(file, path):
            yield key, _read_object(file, f"{path}: '{key}'")


def read_scp(path: str | Path, *, root: str | Path | None = None) -> Iterator[tuple[str, Object]]:
    """Read the objects that an scp file lists, in its order.

    Args:
        path: the scp file.
        root: where relative paths in it count from; the current folder when None.
    """
    for key, value in read_table(path).items():
        yield key, read_at(value, root=root)


def read_at(value: str, *, root: str | Path | None = None) -> Object:
    """Read one object from `path:offset[ranges]`.

    Raises:
        InputError: as `read_ark`, or the range lies outside the array.
    """
    location = parse_location(value)
    path = Path(root or "") / location.path
    with _open(path) as file:
        file.seek(location.offset)
        found = _read_object(file, f"{path}:{location.offset}")
    if not location.ranges:
        return found
    if isinstance(found, Audio) or len(location.ranges) > found.ndim:
        raise InputError(f"{value}: the object has fewer axes than the range", code="E171")
    for size, limits in zip(found.shape, location.ranges, strict=False):
        if limits and limits[1] >= size:
            raise InputError(f"{value}: the range ends at {limits[1]}, the array has {size}", code="E171")
    return found[tuple(slice(r[0], r[1] + 1) if r else slice(None) for r in location.ranges)]


def header_at(value: str, *, root: str | Path | None = None) -> Header:
    """The header of the object at `path:offset`; a range is applied to the shape.

    Raises:
        InputError: the file is missing, or there is no whole object at that place.
    """
    location = parse_location(value)
    path = Path(root or "") / location.path
    with _open(path) as file:
        file.seek(location.offset)
        header = _read_header(file, f"{path}:{location.offset}")
    if header.shape is None or not location.ranges:
        return header
    sizes = [r[1] - r[0] + 1 if r else n for n, r in zip(header.shape, location.ranges, strict=False)]
    return Header(kind=header.kind, shape=(*sizes, *header.shape[len(sizes) :]), num_bytes=header.num_bytes)


def audio_bytes(path: str | Path, offset: int) -> bytes:
    """The audio file that lies in an archive at this offset.

    Raises:
        InputError: there is none, or it is cut short.
    """
    with _open(path) as file:
        file.seek(offset)
        where = f"{path}:{offset}"
        if _read_header(file, where).kind != "audio":
            raise InputError(f"{where}: not an audio object", code="E171")
        return _read_audio_bytes(file)


def write_ark(
    path: str | Path,
    items: Iterable[tuple[str, NDArray[Any]]],
    *,
    scp: str | Path | None = None,
    compression_method: int | None = None,
) -> dict[str, int]:
    """Write matrices, vectors and int32 vectors, whole or not at all.

    Args:
        path: the archive.
        items: keys and arrays: float32 or float64 `(F, D)` or `(D,)`, int32 `(F,)`.
        scp: where to list them; the archive is named there as given.
        compression_method: Kaldi's number (2 CM, 3 CM2, 5 and 7 CM3); None stores exactly.

    Returns:
        The byte at which each object begins.
    """
    offsets: dict[str, int] = {}
    with whole(path) as temporary, temporary.open("wb") as file:
        for key, array in items:
            if key.split() != [key] or key in offsets:
                raise ValueError(f"{path}: {key!r} cannot be a key or is there already")
            file.write(key.encode("utf-8") + b" ")
            offsets[key] = file.tell()
            matio.write_array(file, array, compression_method=compression_method)
    if scp is not None:
        write_table(scp, {key: f"{path}:{offset}" for key, offset in offsets.items()})
    return offsets


def _open(path: str | Path) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror}", code="data.missing") from error


def _read_key(file: BinaryIO, path: str | Path) -> str:
    start = file.tell()
    key = bytearray()
    while (byte := file.read(1)) not in (b"", b" "):
        key += byte
    try:
        text = key.decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if (key and not byte) or not text.isprintable():
        raise InputError(f"{path}: no key at byte {start}", code="E171")
    return text


def _read_object(file: BinaryIO, where: str) -> Object:
    header = _read_header(file, where)
    if header.kind == "audio":
        return read(io.BytesIO(_read_audio_bytes(file)))
    options: dict[str, Any] = {"allow_pickle": False} if header.kind == "npy" else {}
    try:
        return matio.read_kaldi(_with_room(file), load_kwargs=options)
    except (AssertionError, ValueError, EOFError, RuntimeError, struct.error) as error:
        raise InputError(f"{where}: cannot decode the object: {error}", code="E171") from error


def _with_room(file: BinaryIO) -> BinaryIO:
    """Pad the last, very short text object: kaldiio looks at five bytes and goes back as many."""
    start = file.tell()
    rest = file.read(5)
    if len(rest) == 5:
        file.seek(start)
        return file
    return io.BytesIO(b" " * (5 - len(rest)) + rest)


def _read_header(file: BinaryIO, where: str) -> Header:
    """Look at the object that begins here; the position of the file stays."""
    start = file.tell()
    head = file.read(_LONGEST_HEADER)
    remaining = file.seek(0, io.SEEK_END) - start
    file.seek(start)
    header = _parse_header(head, where)
    if header.num_bytes is not None and header.num_bytes > remaining:
        raise InputError(f"{where}: cut short: {remaining} of {header.num_bytes} bytes", code="E171")
    return header


def _parse_header(head: bytes, where: str) -> Header:
    if head.startswith(b"PKL"):
        raise InputError(f"{where}: a pickle, which is not read: it could run code", code="E431")
    if head.startswith(b"RIFF"):
        return Header(kind="audio", num_bytes=8 + int.from_bytes(head[4:8], "little"))
    if head.startswith(b"AUDIO"):
        return Header(kind="audio", num_bytes=6 + head[5] + _counted_length(head, 5) if len(head) > 5 else 6)
    if head.startswith(b"NPY"):
        return Header(kind="npy", num_bytes=4 + head[3] + _counted_length(head, 3) if len(head) > 3 else 4)
    if head.startswith(b"\0B"):
        shape, num_bytes = _binary_size(head, where)
        return Header(kind="binary", shape=shape, num_bytes=num_bytes)
    if head.lstrip()[:1] and head.lstrip()[:1] in b"[-+.0123456789ni":
        return Header(kind="text")
    raise InputError(f"{where}: no object begins with {head[:5]!r}", code="E171")


def _counted_length(head: bytes, at: int) -> int:
    """The number of bytes that follows: one byte n, then n bytes of the number."""
    return int.from_bytes(head[at + 1 : at + 1 + head[at]], "little")


def _binary_size(head: bytes, where: str) -> tuple[tuple[int, ...], int]:
    tag = head[2:5]
    shape: tuple[int, ...]
    try:
        if head[2:3] == b"\4":
            (n,) = struct.unpack_from("<i", head, 3)
            shape, num_bytes = (n,), 2 + 5 * (n + 1)
        elif tag in _COMPRESSED:
            start = 5 if tag == b"CM " else 6
            rows, cols = struct.unpack_from("<ii", head, start + 8)
            columns = 8 * cols if tag == b"CM " else 0
            shape, num_bytes = (rows, cols), start + 16 + columns + rows * cols * _COMPRESSED[tag]
        elif tag in _FLOATS and tag.endswith(b"V "):
            (n,) = struct.unpack_from("<xi", head, 5)
            shape, num_bytes = (n,), 10 + n * _FLOATS[tag]
        elif tag in _FLOATS:
            rows, cols = struct.unpack_from("<xixi", head, 5)
            shape, num_bytes = (rows, cols), 15 + rows * cols * _FLOATS[tag]
        else:
            raise InputError(f"{where}: unknown kind of object {tag!r}", code="E171")
    except struct.error as error:
        raise InputError(f"{where}: cut short within its header", code="E171") from error
    if min(shape) < 0:
        raise InputError(f"{where}: impossible shape {shape}", code="E171")
    return shape, num_bytes


def _read_audio_bytes(file: BinaryIO) -> bytes:
    head = file.read(6)
    if head.startswith(b"RIFF"):
        size = int.from_bytes(head[4:6] + file.read(2), "little")
        return b"RIFF" + size.to_bytes(4, "little") + file.read(size)
    return file.read(int.from_bytes(file.read(head[5]), "little"))
