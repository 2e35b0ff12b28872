"""Outputs that appear whole or not at all; digests; locks."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import logging
import os
import re
import shlex
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speechkit.errors import Busy, OutputError

log = logging.getLogger(__name__)

_CHUNK = 1 << 20
# the names that `whole` gives
_LEFT = re.compile(r"\.(?P<stem>.+)\.(?:tmp-(?:[0-9a-f]+-)?\d+(?P<suffix>\.[^.]*)?|old-\d+)")
_NEW_LOCK_SECONDS = 10.0  # a lock file without content is being written, or its writer died within a moment


@contextlib.contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Give a temporary sibling of `path` to write a file or a folder to; rename it to `path` at the end.

    The sibling lies beside the resolved target (a link stays a link) and keeps its ending. When the body raises, the
    sibling is removed and `path` stays as it was.

    Raises:
        OutputError: the folder cannot be written to, the disk is full, or a device or pipe is in the place.
    """
    target = Path(path).resolve()
    refuse_special(target, path)
    temporary = target.with_name(f".{target.stem}.tmp-{_host_digest()}-{os.getpid()}{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        remove(temporary)
        yield temporary
        sync(temporary)
        _replace(temporary, target)
    except OSError as error:
        remove(temporary)
        refused = (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EPERM)
        if error.errno in refused or str(error.filename).startswith(str(temporary)):  # /proc has no such file to make
            raise unwritable(path, error) from error
        raise
    except BaseException:
        remove(temporary)
        raise


@functools.cache
def _host_digest() -> str:
    """Tells machines that write to one folder apart: in containers their processes have the same numbers."""
    return hashlib.blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()


def refuse_special(target: Path, name: str | Path) -> None:
    """See that an output called `name` would not take the place of a device or a pipe.

    Raises:
        OutputError: it would.
    """
    if target.exists() and not (target.is_file() or target.is_dir()):
        hint = f"send standard output there: > {shlex.quote(str(name))}"
        raise OutputError(f"{name}: is neither a file nor a folder", hint=hint, code="output.special")


def leftovers(path: str | Path, *, older_than_seconds: float) -> list[Path]:
    """What killed runs left beside `path`: temporary siblings, and folders that were about to be replaced."""
    target = Path(path).resolve()
    if not target.parent.is_dir():
        return []
    before = time.time() - older_than_seconds
    return sorted(p for p in target.parent.iterdir() if left_of(p) == target and p.lstat().st_mtime < before)


def left_of(path: Path) -> Path | None:
    """The output that a killed run was about to write when it left `path`; None for everything else."""
    match = _LEFT.fullmatch(path.name)
    return path.with_name(match["stem"] + (match["suffix"] or "")) if match else None


def unwritable(path: str | Path, error: OSError) -> OutputError:
    """The error to raise for an OSError met in writing `path`."""
    hint = "free some space or choose another folder" if error.errno in (errno.ENOSPC, errno.EFBIG) else ""
    return OutputError(f"{path}: cannot write: {error.strerror}", hint=hint, code="output.write")


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file, whole or not at all, with sorted keys."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n")


def remove(path: Path) -> None:
    """Remove a file or a folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Force a file, or every file of a folder, to the disk."""
    for file in [path] if path.is_file() else (p for p in path.rglob("*") if p.is_file()):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _replace(temporary: Path, target: Path) -> None:
    if temporary.is_dir() and target.exists():  # a folder cannot be renamed over a full one
        old = target.with_name(f".{target.name}.old-{os.getpid()}")
        target.rename(old)
        temporary.rename(target)
        remove(old)
    else:
        temporary.replace(target)


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def lock(path: str | Path, what: str) -> Iterator[None]:
    """Hold a lock file while the body runs.

    Args:
        path: the lock file; its folder must exist.
        what: what is locked, for the message.

    Raises:
        Busy: another live process holds it, or a process of another machine does.
    """
    path = Path(path)
    owner = {
        "host": socket.gethostname(),
        "boot_id": _boot_id(),
        "pid": os.getpid(),
        "user": os.environ.get("USER", ""),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    for _ in range(2):
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            _break_if_stale(path, what, owner)
        except OSError as error:
            raise unwritable(path, error) from error
        else:
            break
    else:
        raise Busy(f"{what} is in use: {path} appeared again", code="busy")
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(owner, file)
        yield
    finally:
        path.unlink(missing_ok=True)


def lock_owner(path: str | Path) -> dict[str, Any] | None:
    """Who holds a lock file; None when nobody does or the holder is dead."""
    owner = _read_lock(Path(path))
    return None if owner is None or _dead(owner) else owner


def _read_lock(path: Path) -> dict[str, Any] | None:
    try:
        owner = json.loads(path.read_text())
        known = {key: str(owner[key]) for key in ("host", "boot_id", "user", "started")}
        return {**known, "pid": int(owner["pid"])}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime < _NEW_LOCK_SECONDS:
                return {"host": socket.gethostname(), "boot_id": "", "pid": 0, "user": "", "started": "a moment ago"}
        return {"host": socket.gethostname(), "boot_id": _boot_id(), "pid": 0, "user": "", "started": ""}


def _dead(owner: dict[str, Any]) -> bool:
    here = owner["host"] == socket.gethostname() and owner["boot_id"] == _boot_id()
    return here and not (owner["pid"] and _alive(owner["pid"]))


def _break_if_stale(path: Path, what: str, me: dict[str, Any]) -> None:
    owner = _read_lock(path)
    if owner is None:
        return
    if _dead(owner):
        log.warning("%s was in use by pid %s, which is gone: taking over", what, owner["pid"])
        aside = path.with_name(f"{path.name}.{os.getpid()}")
        with contextlib.suppress(FileNotFoundError):
            path.rename(aside)  # of several that find it stale one succeeds
            if _read_lock(aside) != owner:  # another took over in between: give it back
                aside.replace(path)
            aside.unlink(missing_ok=True)
        return
    hint = "" if owner["host"] == me["host"] else f"if that run is gone, delete {path}"
    who = f"{owner['user'] or 'someone'}@{owner['host']} pid {owner['pid']} since {owner['started']}"
    raise Busy(f"{what} is in use by {who}", hint=hint, code="busy")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _boot_id() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""
