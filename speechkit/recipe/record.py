"""The record of a stage's last run, one JSON file each in exp/TAG/.stages."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from speechkit import files


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What is known of the last run of a stage.

    Args:
        status: `running` stays when a run is killed.
        key: of `parts`.
        parts: everything the stage depended on: recipe, stage, version, settings, inputs, outputs, environment.
        outputs: digests by declared name, when done.
        code: digest of the module of the stage; no part of the key.
        note: the error, or how far it came.
        started: local time.
        seconds: wall time, of all runs that continued one another.
        user_seconds: CPU time of this process in the last run.
        peak_memory_bytes: of the process, up to the end of the stage.
    """

    stage: int
    name: str
    status: Literal["running", "done", "partial", "failed"]
    key: str
    parts: Mapping[str, Any]
    outputs: Mapping[str, str] = field(default_factory=dict)
    code: str = ""
    note: str = ""
    command: str = ""
    corpus_dir: str = ""
    device: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    started: str = ""
    seconds: float = 0.0
    user_seconds: float = 0.0
    peak_memory_bytes: int = 0

    @property
    def file_name(self) -> str:
        """The name of the record's file."""
        return f"{self.stage:02d}_{self.name}.json"

    def write(self, folder: Path) -> None:
        """Write it, whole or not at all."""
        files.write_json(folder / self.file_name, dataclasses.asdict(self))


def read(file: Path) -> Record | None:
    """Read a record; None where there is none that can be read."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        known = {f.name for f in dataclasses.fields(Record)}
        return Record(**{k: v for k, v in values.items() if k in known})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def last_corpus_dir(*folders: Path) -> Path | None:
    """The `--data-dir` of the last run that had one, so that later runs need not name it again."""
    found = (read(file) for folder in folders for file in sorted(folder.glob("[!.]*.json")))
    records = [r for r in found if r is not None and r.corpus_dir]
    return Path(max(records, key=lambda r: r.started).corpus_dir) if records else None
