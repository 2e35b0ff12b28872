"""What a run ran with: versions and the commit of a clone."""

from __future__ import annotations

import platform
import socket
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TypedDict

DISTRIBUTION = "speechkit-torch"
CLONE = Path(__file__).parents[2]


class Environment(TypedDict):
    """Names and versions for records and logs."""

    host: str
    python: str
    speechkit: str
    torch: str
    commit: str
    modified: bool


@cache
def environment() -> Environment:
    """Look once."""
    commit = _git("rev-parse", "HEAD")
    return Environment(
        host=socket.gethostname(),
        python=platform.python_version(),
        speechkit=version(DISTRIBUTION),
        torch=version("torch"),
        commit=commit,
        modified=bool(commit and _git("status", "--porcelain", "--untracked-files=no")),
    )


@cache
def version(distribution: str) -> str:
    """The installed version of a distribution, `unknown` where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"


def _git(*words: str) -> str:
    if not (CLONE / ".git").exists():  # an installed copy may lie inside somebody else's clone
        return ""
    try:
        command = ["git", "-C", str(CLONE), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
