"""What goes wrong, said for people: a message, a hint and the exit code of the command line."""

from __future__ import annotations

from collections.abc import Iterable


class SpeechkitError(Exception):
    """Something a user can act on.

    Args:
        message: one line: where (path, line, utterance), what, and both values when two disagree.
        hint: one line: what to do about it.
        code: a short stable name for programs, such as `audio.decode`.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code


class UsageError(SpeechkitError):
    """An unknown flag or setting, a bad value, flags that contradict each other."""

    exit_code = 2


class InputError(SpeechkitError):
    """An input is missing, empty, not audio, undecodable, or holds NaN."""

    exit_code = 3


class ModelError(SpeechkitError):
    """A model is missing, of the wrong kind, corrupt, or needs more memory than there is."""

    exit_code = 4


class OutputError(SpeechkitError):
    """An output cannot be written, exists already, or the disk is full."""

    exit_code = 5


class MissingDependency(SpeechkitError):
    """An optional package is not installed; the hint is the pip command that installs it."""

    exit_code = 6


class Busy(SpeechkitError):
    """Another run holds the lock."""

    exit_code = 75


def first_line(error: BaseException) -> str:
    """What went wrong in one line, with the kind of an error that is not ours."""
    text = str(error).partition("\n")[0]
    return text if isinstance(error, SpeechkitError) else f"{type(error).__name__}: {text}"


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint that names the known word most like this one, empty when none is like it."""
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]}?" if near else ""
