"""One unit of the work: it is called, and an error comes back as a value that any process can send."""

from __future__ import annotations

import functools
import importlib.util
import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from speechkit.errors import SpeechkitError

log = logging.getLogger(__name__)

Unit = TypeVar("Unit")
Result = TypeVar("Result")
Work = Callable[[Unit], Result] | tuple[str | Path, str]  # or the file and the name of the function in it

KILLED = "a job was killed from outside, perhaps for want of memory"


class Interrupted(Exception):
    """Work ended early because it was asked to stop; what it finished is kept where it keeps it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """What is known of a unit that raised."""

    unit: str
    message: str
    hint: str
    exit_code: int


def call(function: Work[Any, Any], index: int, unit: Any) -> Any:
    """Run one unit; its result, or the `Failure`. The traceback goes to the log."""
    if isinstance(function, tuple):
        function = _load(*function)
    try:
        return function(unit)
    except Exception as error:
        name = f"unit {index + 1}" + (f" ({unit})" if isinstance(unit, str | Path) else "")
        log.info("%s failed\n%s", name, traceback.format_exc().rstrip())
        known = isinstance(error, SpeechkitError)
        return Failure(
            unit=name,
            message=str(error).partition("\n")[0] if known else f"{type(error).__name__}: {error}".partition("\n")[0],
            hint=error.hint if isinstance(error, SpeechkitError) else "",
            exit_code=error.exit_code if isinstance(error, SpeechkitError) else 1,
        )


@functools.cache
def _load(file: str | Path, name: str) -> Callable[[Any], Any]:
    spec = importlib.util.spec_from_file_location(f"speechkit_work_{Path(file).stem}", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[[Any], Any] = getattr(module, name)
    return function
