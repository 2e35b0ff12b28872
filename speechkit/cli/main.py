"""The command line: finds the command, builds its parser alone, turns errors into one line and an exit code."""

from __future__ import annotations

import argparse
import errno
import io
import logging
import os
import re
import select
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn

from speechkit.errors import InputError, ModelError, OutputError, SpeechkitError, UsageError, nearest

COMMANDS = {
    "run": ("speechkit.cli.run", "run the numbered stages of a recipe"),
    "data": ("speechkit.cli.data", "check, repair, divide and describe data directories"),
    "transcribe": ("speechkit.cli.transcribe", "turn recordings into text"),
    "features": ("speechkit.cli.features", "compute filter banks, MFCC or the layers of an encoder"),
    "align": ("speechkit.cli.align", "find when each word of a text is spoken"),
    "eval": ("speechkit.cli.eval", "compare results with references"),
    "info": ("speechkit.cli.info", "describe an audio file or a model"),
    "models": ("speechkit.cli.models", "list published models, download, find and remove them"),
    "convert": ("speechkit.cli.convert", "write a model in another form"),
    "doctor": ("speechkit.cli.doctor", "say what works on this machine, and how fast"),
}

_EVERYWHERE = "everywhere: -q says errors only, -v more, -vv everything and tracebacks"
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


_NO_MEMORY = "can't allocate memory"  # what torch says on a CPU

# Torch reads these when it is loaded. Waiting threads must not spin for long: where another program takes one of two
# cores, a step of training took 0.4 s instead of up to 4.8 s, and no longer than before where none does (measured).
# oneDNN's cache of primitives grows with every new length otherwise.
_TORCH = {"GOMP_SPINCOUNT": "3000", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    words, verbosity = _take_verbosity(sys.argv[1:] if argv is None else argv)
    for name, value in _TORCH.items():
        os.environ.setdefault(name, value)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # for what is not UTF-8
    try:
        with _terminable():
            code = _run(words, verbosity)
            if sys.stdout is not None:
                sys.stdout.flush()
            return code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except KeyboardInterrupt:
        _say("speechkit: interrupted")
        return 128 + signal.SIGINT
    except BaseException as error:
        return _report(error, words, verbosity)


def _run(words: list[str], verbosity: int) -> int:
    configure_logging(verbosity)
    if not words or words[0] in ("-h", "--help"):
        print(_help(), file=sys.stdout if words else sys.stderr)
        return 0 if words else UsageError.exit_code
    if words[0] == "--version":
        print(_version())
        return 0
    name = words[0]
    if name not in COMMANDS:
        kind = "option" if name.startswith("-") else "command"
        hint = nearest(name, COMMANDS) or "see speechkit --help"
        raise UsageError(f"unknown {kind} {name!r}", hint=hint, code="usage.command")

    import importlib

    module_name, what = COMMANDS[name]
    module = importlib.import_module(module_name)
    parser = Parser(prog=f"speechkit {name}", description=what, epilog=_EVERYWHERE)
    module.add_arguments(parser)
    code: int = module.run(parser.parse_command(words[1:], verbosity))
    return code


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError, knows no abbreviations, and takes Kaldi's spellings."""

    def __init__(self, **options: object) -> None:
        super().__init__(**{**options, "allow_abbrev": False})  # type: ignore[arg-type]  # passed on as they came

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the words."""
        wrong = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        hint = nearest(wrong[1], re.findall(r"'(.*?)'", wrong[2])) if wrong else ""
        raise UsageError(message, hint=hint or f"see {self.prog} --help", code="usage.option")

    def parse_command(self, words: Sequence[str], verbosity: int = 0) -> argparse.Namespace:
        """Parse the words of a command; the namespace also gets `verbosity`, -1 to 2."""
        actions = list(_actions(self))
        args, unknown = self.parse_known_args(_spelled(words, actions))
        if unknown:
            known = [option for action in actions for option in action.option_strings]
            hint = nearest(unknown[0].partition("=")[0], known) or f"see {self.prog} --help"
            what = "option" if unknown[0].startswith("-") else "argument"
            raise UsageError(f"unknown {what} {unknown[0]!r}", hint=hint, code="usage.option")
        args.verbosity = verbosity
        return args


def configure_logging(verbosity: int) -> None:
    """Show what speechkit and Python's warnings log on standard error: errors only at -1, everything at 2."""
    level = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG)
    handler = _StandardError(level)
    logger = logging.getLogger("speechkit")
    logger.handlers = [handler]
    logger.setLevel(level)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").handlers = [handler if verbosity > 0 else logging.NullHandler()]


class _StandardError(logging.Handler):
    """Prints `HH:MM:SS level message`."""

    def emit(self, record: logging.LogRecord) -> None:
        time, level = logging.Formatter().formatTime(record, "%H:%M:%S"), record.levelname.lower()
        _say(f"{time} {level} {self.format(record)}")


def _take_verbosity(argv: Sequence[str]) -> tuple[list[str], int]:
    levels = {"-q": -1, "--quiet": -1, "-v": 1, "--verbose": 1, "-vv": 2}
    end = list(argv).index("--") if "--" in argv else len(argv)
    given = [levels[word] for word in argv[:end] if word in levels]
    words = [word for word in argv[:end] if word not in levels] + list(argv[end:])
    if -1 in given:
        return words, -1
    return words, min(2, sum(given))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _actions(inner)


def _spelled(words: Sequence[str], actions: Sequence[argparse.Action]) -> list[str]:
    """Rewrite Kaldi's spellings: `--stop_stage 5` to `--stop-stage 5`, `--list true` to `--list`."""
    switches = {o for a in actions if a.nargs == 0 for o in a.option_strings if o.startswith("--")} - {"--help"}
    spelled: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*spelled, word, *rest]
        if not word.startswith("--"):
            spelled.append(word)
            continue
        name, equals, value = word.partition("=")
        name = name.replace("_", "-")
        if name not in switches:
            spelled.append(name + equals + value)
            continue
        if not equals and rest and rest[0] in ("true", "false"):
            value = rest.pop(0)
        if value not in ("", "true", "false"):
            raise UsageError(f"{name}: expected true or false, found {value!r}", code="usage.option")
        opposite = f"--no-{name[2:]}"
        if value != "false":
            spelled.append(name)
        elif opposite in switches:
            spelled.append(opposite)
    return spelled


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the command in order, so that temporary files are removed."""

    def leave(number: int, frame: object) -> NoReturn:  # noqa: ARG001
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _report(error: BaseException, words: Sequence[str], verbosity: int) -> int:
    """Tell what went wrong and return the exit code."""
    if isinstance(error, OSError) and _reader_left():
        _drop_stdout()
        return 128 + signal.SIGPIPE
    known = _known(error)
    if verbosity >= 2:
        import traceback

        _say("".join(traceback.format_exception(error)).rstrip())
    if known is None:
        _say(f"speechkit: internal error (please report): {type(error).__name__}: {error}")
        _say(f"hint: the traceback is in {_write_crash(error, words)}")
        return 1
    if isinstance(known, OutputError):
        _drop_stdout()  # it may be what is full
    _say(f"speechkit: error: {' '.join(known.message.splitlines())}")
    if known.hint:
        _say(f"hint: {known.hint}")
    return known.exit_code


def _known(error: BaseException) -> SpeechkitError | None:
    """The error as one that a user can act on, None when it is a fault of the program."""
    if isinstance(error, SpeechkitError):
        return error
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or _NO_MEMORY in str(error):
        return ModelError("out of memory", hint="use a smaller --batch-seconds", code="memory")
    if isinstance(error, OSError) and error.errno in _DISK:
        from speechkit.files import unwritable

        return unwritable(error.filename or "standard output", error)
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return InputError(f"{error.filename}: {error.strerror}", code="input.name")
    if isinstance(error, PermissionError):
        return SpeechkitError(f"{error.filename}: permission denied", code="permission")
    return None


def _reader_left() -> bool:
    """Whether standard output is a pipe that nobody reads any more."""
    with suppress(OSError, ValueError, AttributeError):
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLOUT)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    return False


def _drop_stdout() -> None:
    """Keep Python from failing again when it flushes standard output at its end."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write_crash(error: BaseException, words: Sequence[str]) -> str:
    import time
    import traceback
    from pathlib import Path

    text = "".join(traceback.format_exception(error))
    file = Path.home() / ".cache/speechkit" / f"crash-{time.strftime('%Y%m%d-%H%M%S')}.log"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"speechkit {' '.join(words)}\n{_version()}\n{text}", encoding="utf-8")
    except OSError:
        _say(text.rstrip())
        return "the lines above"
    return str(file)


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name.ljust(width)}  {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: speechkit COMMAND …",
            "",
            "Speech and audio processing.",
            "",
            "commands:",
            *lines,
            "",
            "speechkit COMMAND --help tells more; speechkit --version names versions",
            _EVERYWHERE,
        ]
    )


def _version() -> str:
    from speechkit.recipe.environment import environment

    found = environment()
    commit = f" (commit {found['commit'][:12]}{', modified' * found['modified']})" if found["commit"] else ""
    return f"speechkit {found['speechkit']}{commit}, torch {found['torch']}, python {found['python']}"


def _say(text: str) -> None:
    print(text, file=sys.stderr)
