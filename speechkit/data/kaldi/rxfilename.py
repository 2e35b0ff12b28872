"""The values of `wav.scp`: a path, a place in an archive or a tar, or a command whose output is audio.

The place in a tar, `path:offset+size`, is ours: Kaldi has nothing for a file among others whose end it does not tell.
"""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from speechkit.errors import InputError

PIPE_SECONDS = 600.0

_ARCHIVE = re.compile(r"(.+):(\d+)")
_RANGE = re.compile(r"(.+):(\d+)\+(\d+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rxfilename:
    """One value, taken apart.

    Attributes:
        kind: which form it has.
        target: the path, or the command without its `|`.
        offset: byte of the audio object in the archive, or of the audio file in the tar.
        size: bytes of the audio file in the tar.
    """

    kind: Literal["path", "archive", "range", "pipe"]
    target: str
    offset: int = 0
    size: int = 0

    def resolved(self, root: Path) -> str:
        """The same value with its path under `root`; a command stays as it is."""
        if self.kind == "pipe":
            return f"{self.target} |"
        path = root / self.target
        if self.kind == "range":
            return place(path, self.offset, self.size)
        return f"{path}:{self.offset}" if self.kind == "archive" else str(path)


class Part(io.BytesIO):
    """The bytes of an audio file that lies in another file; messages call it by its place."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


def place(path: Path, offset: int, size: int) -> str:
    """The value that stands for a range of bytes."""
    return f"{path}:{offset}+{size}"


def parse(value: str) -> Rxfilename:
    """Tell which form a value has.

    Raises:
        InputError: standard input or a home directory (E161).
    """
    if value.endswith("|"):
        return Rxfilename(kind="pipe", target=value[:-1].strip())
    if value.startswith("~"):
        raise InputError("'~' is not expanded", hint="write the full path", code="E161")
    if value == "-" or value.startswith("|"):
        raise InputError(f"'{value}' is not a recording", hint="write a path", code="E161")
    if match := _RANGE.fullmatch(value):
        return Rxfilename(kind="range", target=match[1], offset=int(match[2]), size=int(match[3]))
    if match := _ARCHIVE.fullmatch(value):
        return Rxfilename(kind="archive", target=match[1], offset=int(match[2]))
    return Rxfilename(kind="path", target=value)


def open_audio(value: str, *, root: str | Path = "", allow_pipes: bool = False) -> Path | io.BytesIO:
    """What `speechkit.audio.files` can read: the path itself, or the bytes out of an archive, a tar or a command.

    Args:
        value: of `wav.scp`, or the path of an utterance.
        root: where a relative path counts from, and where a command runs.
        allow_pipes: run commands.

    Raises:
        InputError: there is no such file or object (E162, E171), or a command failed or may not be run (E413).
    """
    name = parse(value)
    root = Path(root)
    if name.kind == "pipe":
        if not allow_pipes:
            raise InputError(
                f"'{value}' is a command", hint="pass --allow-pipes to run it if you trust the file", code="E413"
            )
        return io.BytesIO(run_pipe(name.target, cwd=root))
    path = check_file(name, root)
    if name.kind == "archive":
        from speechkit.data.kaldi.ark import audio_bytes  # kaldiio is needed for archives only

        return io.BytesIO(audio_bytes(path, name.offset))
    return _part(path, name) if name.kind == "range" else path


def _part(path: Path, name: Rxfilename) -> Part:
    with path.open("rb") as file:
        file.seek(name.offset)
        content = file.read(name.size)
    if len(content) < name.size:
        what = f"cut short: {len(content)} of {name.size} bytes at {name.offset}"
        raise InputError(f"{path}: {what}", code="E171")
    return Part(content, f"{path}:{name.offset}")


def check_file(name: Rxfilename, root: Path) -> Path:
    """The file that a path or a place in an archive names.

    Raises:
        InputError: there is no such file (E162).
    """
    path = root / name.target
    if not path.is_file():
        where = f" (relative to '{root}')" if not Path(name.target).is_absolute() else ""
        what = f"'{name.target}' is a folder" if path.is_dir() else f"no such audio file '{name.target}'"
        raise InputError(what + where, code="E162")
    return path


def run_pipe(command: str, *, cwd: Path, timeout_s: float = PIPE_SECONDS) -> bytes:
    """Run a shell command without standard input and give its standard output.

    Raises:
        InputError: it failed, took too long or put nothing out (E413).
    """
    process = subprocess.Popen(
        command,
        shell=True,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # its own process group, so that all of it can be ended
    )
    try:
        output, errors = process.communicate(timeout=timeout_s)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise InputError(f"'{command}' took longer than {timeout_s:g} s", code="E413") from error
        raise
    if process.returncode:
        last = errors.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise InputError(f"'{command}' failed with status {process.returncode}: {last}", code="E413")
    if not output:
        raise InputError(f"'{command}' put nothing out", code="E413")
    return output
