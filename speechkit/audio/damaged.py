"""What libsndfile keeps to itself about files that were cut short, and the noise that it makes about others."""

from __future__ import annotations

import contextlib
import os
import re
import struct
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

# data sizes that programs write to a pipe, where they cannot come back to put in the right one: ffmpeg's and SoX's
_UNKNOWN_SIZES = frozenset(0x7FFFF000 - rest for rest in range(64)) | {0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF}
_LARGEST_OGG_PAGE = 27 + 255 + 255 * 255
_MPG123 = re.compile(rb"\[[^]\n]*mpg123|Note: |Warning: |\s*$")
_STDERR = threading.Lock()


@dataclass(frozen=True, kw_only=True, slots=True)
class WavSizes:
    """How much the header of a WAV file promises, and how much follows.

    Attributes:
        offset: where the samples begin.
        promised: bytes of samples by the header.
        held: bytes that follow.
        bytes_per_second: by the header; 0 when it does not say.
        unfinished: a recorder died before it could write the size: it is 0, though samples follow.
    """

    offset: int
    promised: int
    held: int
    bytes_per_second: int
    unfinished: bool

    @property
    def warning(self) -> str:
        """One line when the file holds another length than its header promises, else ""."""
        cut = self.held < self.promised and self.promised not in _UNKNOWN_SIZES
        if not (cut or self.unfinished):
            return ""
        rate = max(1, self.bytes_per_second)
        return f"the header promises {self.promised / rate:.3f} s, the file holds {self.held / rate:.3f} s"


def wav_sizes(file: BinaryIO) -> WavSizes | None:
    """Find the samples of a RIFF/WAVE file; None when it is something else or has none."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return None
    bytes_per_second = 0
    for name, start, length in _chunks(file):
        if name == b"fmt ":
            bytes_per_second = struct.unpack("<I", file.read(12)[8:].ljust(4, b"\0"))[0]
        if name == b"data":
            return WavSizes(
                offset=start,
                promised=length,
                held=size - start,
                bytes_per_second=bytes_per_second,
                unfinished=length == 0 and size > start and not _are_chunks(file, size),
            )
    return None


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    while len(header := file.read(8)) == 8:
        name, length = struct.unpack("<4sI", header)
        start = file.tell()
        yield name, start, length
        file.seek(start + length + length % 2)


def _are_chunks(file: BinaryIO, size: int) -> bool:
    """Whether what follows is chunks to the very end: then the samples are not merely uncounted, there are none."""
    end = file.tell()
    for name, start, length in _chunks(file):
        if not name.isascii() or not name.decode().isprintable():
            return False
        end = start + length
    return size <= end + 1


def other_warning(file: BinaryIO) -> str:
    """One line when an AIFF, AU, RF64 or W64 is shorter than its header promises, or an Ogg has no end, else ""."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(32).ljust(32, b"\0")
    match head[:4]:
        case b"OggS":
            return "" if _ogg_has_end(file, size) else "cut short: the last page is missing"
        case b"FORM":
            promised = 8 + struct.unpack(">I", head[4:8])[0]
        case b".snd":
            offset, length = struct.unpack(">II", head[4:12])
            promised = 0 if length in _UNKNOWN_SIZES else offset + length
        case b"RF64":
            promised = 8 + struct.unpack("<Q", head[20:28])[0]
        case b"riff":
            promised = struct.unpack("<Q", head[16:24])[0]
        case _:
            return ""
    return f"the header promises {promised} bytes, the file holds {size}" if size < promised else ""


def _ogg_has_end(file: BinaryIO, size: int) -> bool:
    """Whether an Ogg file ends with a complete page that says that it is the last one."""
    file.seek(max(0, size - 2 * _LARGEST_OGG_PAGE))
    tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return False
    return bool(page[5] & 4) and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])


class Overlaid:
    """A binary file with other bytes at its beginning."""

    def __init__(self, file: BinaryIO, head: bytes) -> None:
        self._file = file
        self._head = head

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a byte."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The byte that is read next."""
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        """Read on."""
        start = self._file.tell()
        content = self._file.read(size)
        head = self._head[start : start + len(content)]
        return head + content[len(head) :]


def finish_wav(file: BinaryIO, sizes: WavSizes) -> Overlaid:
    """The same file with a header that says how much it holds."""
    file.seek(0)
    head = bytearray(file.read(sizes.offset))
    head[4:8] = struct.pack("<I", min(sizes.offset - 8 + sizes.held, 0xFFFFFFFF))
    head[-4:] = struct.pack("<I", min(sizes.held, 0xFFFFFFFF))
    return Overlaid(file, bytes(head))


@contextlib.contextmanager
def mpg123_silenced() -> Iterator[None]:
    """Take out what libmpg123 writes to file descriptor 2, past Python; what others write goes through afterwards."""
    with _STDERR, contextlib.ExitStack() as stack:
        try:
            stderr = os.dup(2)
        except OSError:  # closed: nobody listens
            yield
            return
        stack.callback(os.close, stderr)
        caught = stack.enter_context(tempfile.TemporaryFile())
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            caught.seek(0)
            others = b"".join(line for line in caught if not _MPG123.match(line))
            if others:
                os.write(stderr, others)
