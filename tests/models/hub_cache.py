"""A cache of Hugging Face's hub in a folder of the test, and no network."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest
from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def empty_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))

    def refuse(*arguments: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return folder


def lay(folder: Path, hub: Path, repo: str, *, ref: str = "main", commit: str = COMMIT) -> Path:
    """Lay the files of a folder into the cache as the hub's client does: blobs, links to them, a ref."""
    root = hub / ("models--" + repo.replace("/", "--"))
    snapshot = root / f"snapshots/{commit}"
    for made in (root / "blobs", snapshot, root / "refs"):
        made.mkdir(parents=True, exist_ok=True)
    (root / f"refs/{ref}").write_text(commit)
    for path in folder.iterdir():
        shutil.copy(path, root / f"blobs/{path.name}.blob")
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}.blob")
    return snapshot
