"""The record of a stage while it runs."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import replace
from typing import Literal

from speechkit.recipe.environment import environment
from speechkit.recipe.places import Places
from speechkit.recipe.planning import Planned
from speechkit.recipe.record import Record


class Attempt:
    """The record of a run in progress."""

    def __init__(self, this: Planned, places: Places, *, command: str, device: str) -> None:
        before = this.record if this.state == "partial" else None
        self.note = ""
        self._folder = places.records
        self._begun = time.time()
        self._cpu = time.process_time()
        self._seconds_before = before.seconds if before else 0.0
        self._record = Record(
            stage=this.stage.number,
            name=this.stage.name,
            status="running",
            key=this.key,
            parts=this.parts,
            code=this.code,
            command=command,
            corpus_dir=str(places.corpus_dir or ""),
            device=device,
            environment=dict(environment()),
            started=time.strftime("%Y-%m-%d %H:%M:%S"),
        )

    @property
    def seconds(self) -> float:
        """Wall time so far, of all runs that continue one another."""
        return self._seconds_before + time.time() - self._begun

    def remember(self, note: str) -> None:
        """Note how far it is."""
        self.note = note
        self.write("running", note)

    def write(
        self,
        status: Literal["running", "done", "partial", "failed"],
        note: str = "",
        outputs: dict[str, str] | None = None,
    ) -> None:
        """Write the record as it stands."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        replace(
            self._record,
            status=status,
            note=note,
            outputs=outputs or {},
            seconds=round(self.seconds, 3),
            user_seconds=round(time.process_time() - self._cpu, 3),
            peak_memory_bytes=peak if sys.platform == "darwin" else peak * 1024,
        ).write(self._folder)


def duration(seconds: float) -> str:
    """`00:04:11`."""
    whole = round(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"
