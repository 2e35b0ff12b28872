"""The rows of metrics.jsonl as TensorBoard wants them (extra `tensorboard`)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from speechkit.files import remove

log = logging.getLogger(__name__)


class Board:
    """A folder of TensorBoard's events: every number of a row is a scalar `kind/name`.

    Where the package is not installed nothing is written, and one line of the log says how to get it.

    Args:
        folder: made anew, so that no step is in it twice after a training was killed.
        rows: known so far.
    """

    def __init__(self, folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            command = "pip install 'speechkit-torch[tensorboard]' (in a clone: pip install '.[tensorboard]')"
            log.info("no curves for TensorBoard, which is not installed: %s", command)
            return
        remove(folder)
        self._writer = SummaryWriter(str(folder))
        for row in rows:
            self._add(row)
        self._writer.flush()

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row."""
        if self._writer:
            self._add(row)
            self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        if self._writer:
            self._writer.close()

    def _add(self, row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            if name != "step" and isinstance(value, int | float):
                self._writer.add_scalar(f"{row['kind']}/{name}", value, row["step"])
