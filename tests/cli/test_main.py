from __future__ import annotations

import errno
import logging
import os
import resource
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from speechkit.cli import main as cli
from speechkit.errors import Busy, InputError, MissingDependency, ModelError, OutputError, UsageError

ROOT = Path(__file__).parents[2]

Boom = Callable[[BaseException | int], int]


def speechkit(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "speechkit", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


@pytest.fixture
def boom(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Boom:
    """Runs a command that raises what it is given."""
    monkeypatch.setenv("HOME", str(tmp_path))

    def run(outcome: BaseException | int, *words: str) -> int:
        def act(args: object) -> int:
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        module = types.ModuleType("boom")
        module.add_arguments = lambda parser: parser.add_argument("--some-switch", action="store_true")  # type: ignore[attr-defined]
        module.run = act  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "boom", module)
        monkeypatch.setitem(cli.COMMANDS, "boom", ("boom", "fails"))
        return cli.main(["boom", *words])

    return run


def test_help_imports_neither_torch_nor_numpy_and_is_quick() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "speechkit", "--help"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert not imported & {"torch", "numpy", "omegaconf", "yaml"}
    assert "argparse" in imported
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 0.15  # wall time depends on others
    assert all(f"  {name} " in done.stdout for name in cli.COMMANDS)


def test_the_commands_are_named_in_the_help_of_the_module_that_runs_them() -> None:
    for module, what in cli.COMMANDS.values():
        assert module.startswith("speechkit.cli.")
        assert what


def test_version_names_torch() -> None:
    done = speechkit("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("speechkit 0.")
    assert ", torch 2." in done.stdout


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["trancribe", "a.wav"], "unknown command 'trancribe'", "did you mean transcribe?"),
        (["--halp"], "unknown option '--halp'", "see speechkit --help"),
        (["run", "r", "--stop-stge", "3"], "unknown option '--stop-stge'", "did you mean --stop-stage?"),
        (["run", "r", "--stag", "3"], "unknown option '--stag'", "did you mean --stage?"),
        (["run", "r", "--stage", "x"], "argument --stage: invalid int value: 'x'", "see speechkit run --help"),
        (["run", "r", "--list=maybe"], "--list: expected true or false, found 'maybe'", ""),
        (["run"], "the following arguments are required: RECIPE", "see speechkit run --help"),
        (
            ["eval", "werr", "a", "b"],
            "argument metric: invalid choice: 'werr' (choose from 'cer', 'wer')",
            "did you mean wer?",
        ),
        (["run", "a", "b"], "unknown argument 'b'", ""),
    ],
)
def test_wrong_words_are_refused_with_the_nearest_right_one(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str, hint: str
) -> None:
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    first, *rest = captured.err.splitlines()
    assert first == f"speechkit: error: {message}"
    assert hint in "".join(rest)


def test_no_words_print_the_help_as_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    captured = capsys.readouterr()
    assert (captured.out, "usage: speechkit" in captured.err) == ("", True)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("m", hint="h"), 2),
        (InputError("m", hint="h"), 3),
        (ModelError("m", hint="h"), 4),
        (OutputError("m", hint="h"), 5),
        (MissingDependency("m", hint="h"), 6),
        (Busy("m", hint="h"), 75),
    ],
)
def test_an_error_is_one_line_one_hint_and_its_code(
    boom: Boom, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    monkeypatch.setattr(cli, "_drop_stdout", lambda: None)
    assert boom(error) == code
    assert capfd.readouterr().err == "speechkit: error: m\nhint: h\n"


def test_vv_shows_the_traceback(boom: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    boom(InputError("m"), "-vv")
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (MemoryError(), 4, "out of memory"),
        (OSError(errno.ENOSPC, "No space left on device", "out.txt"), 5, "out.txt: cannot write: No space left"),
        (PermissionError(errno.EACCES, "Permission denied", "in.txt"), 1, "in.txt: permission denied"),
    ],
)
def test_known_faults_of_the_machine_are_said_in_a_line(
    boom: Boom,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: int,
    message: str,
) -> None:
    monkeypatch.setattr(cli, "_drop_stdout", lambda: None)
    assert boom(error) == code
    assert f"speechkit: error: {message}" in capsys.readouterr().err


def test_any_other_error_is_internal_and_leaves_a_crash_log(
    boom: Boom, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert boom(RuntimeError("unexpected")) == 1
    said = capsys.readouterr().err
    assert said.startswith("speechkit: internal error (please report): RuntimeError: unexpected\n")
    assert "Traceback" not in said
    (log,) = (tmp_path / ".cache/speechkit").glob("crash-*.log")
    assert str(log) in said
    assert "RuntimeError: unexpected" in log.read_text()


def test_interruption_has_the_shells_codes(boom: Boom) -> None:
    assert boom(KeyboardInterrupt()) == 130
    before = signal.getsignal(signal.SIGTERM)
    assert boom(SystemExit(143)) == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_commands_code_is_the_exit_code(boom: Boom) -> None:
    assert boom(10) == 10


def test_a_closed_pipe_ends_silently() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "speechkit", "--help"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_standard_output_is_an_output_error() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "speechkit", "--help"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 5
    assert done.stderr.startswith("speechkit: error: standard output: cannot write: No space left on device\n")


@pytest.mark.parametrize(
    ("words", "spelled"),
    [
        (["--stop_stage", "3"], {"stop_stage": 3}),
        (["--stop_stage=3"], {"stop_stage": 3}),
        (["--list", "true"], {"list": True}),
        (["--list", "false"], {"list": False}),
        (["--list=true"], {"list": True}),
        (["--dither", "false"], {"dither": False}),
        (["--no-dither"], {"dither": False}),
        (["--set", "model.a_b=1"], {"set": "model.a_b=1"}),
        (["--", "--a_b"], {"rest": ["--a_b"]}),
    ],
)
def test_kaldis_spellings_are_understood(words: list[str], spelled: dict[str, object]) -> None:
    import argparse

    parser = cli.Parser(prog="x")
    parser.add_argument("--stop-stage", type=int)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--dither", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--set")
    parser.add_argument("rest", nargs="*")
    args = vars(parser.parse_command(words))
    assert {name: args[name] for name in spelled} == spelled


@pytest.mark.parametrize(
    ("words", "level"),
    [([], "WARNING"), (["-v"], "INFO"), (["-vv"], "DEBUG"), (["-v", "-v"], "DEBUG"), (["-q"], "ERROR")],
)
def test_verbosity_sets_what_is_logged(boom: Callable[..., int], words: list[str], level: str) -> None:
    boom(0, *words)
    assert logging.getLogger("speechkit").level == getattr(logging, level)


def test_log_lines_have_time_level_and_message(boom: Boom, capsys: pytest.CaptureFixture[str]) -> None:
    boom(0)
    logging.getLogger("speechkit.test").warning("a %s", "b")
    time, level, message = capsys.readouterr().err.rstrip("\n").split(" ", 2)
    assert (len(time), level, message) == (8, "warning", "a b")
