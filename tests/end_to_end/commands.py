"""Command lines in processes of their own that need not import torch again.

A server imports it once and forks a process a command. Such a process can be given an order: at the n-th time that a
stage touches a file below a folder it sends a signal to itself.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Order:
    """A signal that a command sends to itself.

    Attributes:
        below: only files below this folder count.
        stage: as its record is called, `05_learn_tokens`; counting begins when it does.
        touch: before which touch of a file (opening, making, renaming, removing), counted from 1.
        seconds: and so much later, from another thread.
        number: the signal.
        tally: instead of all this, where to write how many touches each stage made.
    """

    below: str
    stage: str = ""
    touch: int = 0
    seconds: float = 0.0
    number: int = signal.SIGKILL
    tally: str = ""


@dataclass(frozen=True, kw_only=True)
class Done:
    """What came of a command; a negative code is the signal that ended it."""

    code: int
    out: str
    err: str


@dataclass
class Running:
    """A command on its way."""

    pid: int
    out: Path
    err: Path
    commands: Commands = field(repr=False)

    def wait(self) -> Done:
        """Wait for its end."""
        return Done(code=self.commands.ask(wait=self.pid), out=self.out.read_text(), err=self.err.read_text())

    def send(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def until(self, what: str, sees: Any) -> None:
        """Wait until `sees()` is true, while the command runs."""
        end = time.monotonic() + 60
        while not sees():
            assert time.monotonic() < end, f"no {what}: {self.err.read_text()}"
            time.sleep(0.005)


class Commands:
    """The client of the server."""

    def __init__(self, scratch: Path) -> None:
        self.scratch, self._number = scratch, 0
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HOME": str(scratch)}
        self._server = subprocess.Popen(
            [sys.executable, __file__], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **question: Any) -> int:
        """Send a question to the server and read its answer, a number."""
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.write(json.dumps(question) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def start(
        self,
        *words: object,
        cwd: Path | None = None,
        stdin: Path | None = None,
        order: Order | None = None,
        max_bytes: int | None = None,
    ) -> Running:
        """Start `speechkit WORDS`; no file may grow beyond `max_bytes`, as if the disk were full."""
        self._number += 1
        out, err = (self.scratch / f"{self._number}.{name}" for name in ("out", "err"))
        pid = self.ask(
            words=[str(word) for word in words],
            cwd=str(cwd or self.scratch),
            files=[str(stdin or os.devnull), str(out), str(err)],
            order=asdict(order) if order else None,
            max_bytes=max_bytes,
        )
        return Running(pid, out, err, self)

    def run(self, *words: object, code: int | None = 0, **options: Any) -> Done:
        """Run `speechkit WORDS` to its end, which must have this code."""
        done = self.start(*words, **options).wait()
        assert code is None or done.code == code, f"exit code {done.code}: {done.err}"
        return done

    def close(self) -> None:
        """End the server."""
        assert self._server.stdin
        self._server.stdin.close()
        self._server.wait()


def _serve() -> None:
    """Fork a process for every line of standard input, or wait for one; answer with its pid, or its code."""
    import speechkit.data.loader
    import speechkit.metrics.wer
    import speechkit.models.wavlm.folder
    import speechkit.models.wavlm.hugging_face
    import speechkit.pipelines.transcribe
    import speechkit.report.page
    import speechkit.train.loop  # noqa: F401
    from speechkit.cli.main import main

    with contextlib.suppress(ImportError):
        import torch.utils.tensorboard  # noqa: F401

    for line in sys.stdin:
        question = json.loads(line)
        if "wait" in question:
            answer = os.waitstatus_to_exitcode(os.waitpid(question["wait"], 0)[1])
        elif (answer := os.fork()) == 0:
            _become(question["cwd"], question["files"])
            if question["max_bytes"] is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (question["max_bytes"],) * 2)
            if question["order"]:
                _obey(Order(**question["order"]))
            sys.argv = ["speechkit", *question["words"]]
            code = main()
            atexit._run_exitfuncs()
            sys.stdout.flush()
            os._exit(code)  # taking down what the server imported would take half a second
        print(answer, flush=True)


def _become(cwd: str, files: Sequence[str]) -> None:
    os.chdir(cwd)
    for descriptor, (file, flags) in enumerate(zip(files, (os.O_RDONLY, *[os.O_WRONLY | os.O_CREAT] * 2), strict=True)):
        os.dup2(os.open(file, flags, 0o644), descriptor)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 the old one has read ahead


def _obey(order: Order) -> None:
    """Look at every touch of a file, which Python announces to audit hooks."""
    touches: Counter[str] = Counter()
    ends: dict[str, int] = {}
    stage = ""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal stage
        path = args[0] if args and isinstance(args[0], str | os.PathLike) else ""
        if not str(path).startswith(order.below) or not event.startswith(("open", "os.", "shutil.")):
            return
        name = os.path.basename(path)  # noqa: PTH119 a hook has to be quick
        is_record = name.startswith(".") and ".tmp-" in name and os.path.dirname(path).endswith(".stages")  # noqa: PTH120
        if is_record:
            stage = name[1:].partition(".")[0]
        touches[stage] += 1
        if is_record:
            ends[stage] = touches[stage]  # its last one is that of the record that calls the stage done
        if order.tally:
            return
        if (stage, touches[stage]) == (order.stage, order.touch):
            if order.seconds:
                threading.Timer(order.seconds, os.kill, (os.getpid(), order.number)).start()
            else:
                os.kill(os.getpid(), order.number)

    sys.addaudithook(hook)
    if order.tally:
        atexit.register(lambda: Path(order.tally).write_text(json.dumps(dict(ends))))


@contextlib.contextmanager
def serving(scratch: Path) -> Iterator[Commands]:
    """A server for the time of the body."""
    commands = Commands(scratch)
    try:
        yield commands
    finally:
        commands.close()


def environment(**more: str) -> Mapping[str, str]:
    """The environment of a command that runs as users run it."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **more}


if __name__ == "__main__":
    _serve()
