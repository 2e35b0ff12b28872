from __future__ import annotations

import os
import textwrap
import time
from pathlib import Path

import pytest

from speechkit.errors import InputError, OutputError, SpeechkitError
from speechkit.jobs import Interrupted, JobsFailed, run_jobs

WORK = """
    import logging, os, signal
    from speechkit.errors import InputError

    def square(n):
        return n * n

    def threads(n):
        return os.environ["OMP_NUM_THREADS"], os.environ["MKL_NUM_THREADS"]

    def picky(n):
        logging.getLogger("speechkit.work").info("got %d", n)
        if n % 3 == 0:
            raise InputError(f"{n}.wav: empty\\nmore", hint="look at it")
        if n % 5 == 0:
            raise KeyError(n)
        return n

    def die(n):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    file = tmp_path / "work.py"
    file.write_text(textwrap.dedent(WORK))
    return file


@pytest.mark.parametrize("nj", [1, 2, 8])
def test_results_come_in_the_order_of_the_units_whatever_nj_is(work: Path, nj: int) -> None:
    assert run_jobs((work, "square"), range(7), nj=nj) == [n * n for n in range(7)]


def test_an_importable_function_needs_no_file() -> None:
    assert run_jobs(os.path.basename, ["a/b", "c/d"], nj=2) == ["b", "d"]
    assert run_jobs(os.path.basename, []) == []


def test_cores_are_divided_among_the_jobs(work: Path) -> None:
    share = str(max(1, len(os.sched_getaffinity(0)) // 2))
    assert run_jobs((work, "threads"), [1, 2], nj=2) == [(share, share)] * 2


@pytest.mark.parametrize("nj", [1, 2])
def test_failures_are_counted_and_the_first_is_named(
    work: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, nj: int
) -> None:
    seen: list[tuple[int, int]] = []
    with pytest.raises(JobsFailed) as caught:
        run_jobs((work, "picky"), [1, 3, 4, 6, 7], nj=nj, progress=lambda *done: seen.append(done))
    assert "2 / 5 failed, the first:" in caught.value.message
    assert "wav: empty" in caught.value.message
    assert (caught.value.hint, caught.value.exit_code) == ("look at it", InputError.exit_code)
    assert seen[-1] == (5, 5)  # the others ran
    assert "unit 2 of 5: 3.wav: empty" in caplog.text


def test_errors_of_several_kinds_end_with_code_1(work: Path) -> None:
    with pytest.raises(JobsFailed) as caught:
        run_jobs((work, "picky"), [5, 3])
    assert caught.value.exit_code == 1
    assert "KeyError: 5" in caught.value.message


def test_fail_fast_begins_no_unit_after_the_first_failure(work: Path) -> None:
    seen: list[int] = []
    with pytest.raises(JobsFailed, match="1 / 4 failed"):
        run_jobs((work, "picky"), [1, 3, 6, 7], progress=lambda done, total: seen.append(done), fail_fast=True)
    assert seen == [1, 2]


def test_after_the_first_failure_processes_end_before_it_is_told(work: Path, tmp_path: Path) -> None:
    work.write_text(
        "import time, pathlib\n"
        "def late(n):\n    if n == 0: raise KeyError(n)\n    time.sleep(0.5)\n"
        f"    pathlib.Path({str(tmp_path)!r}, f'made{{n}}').touch()\n"
    )
    with pytest.raises(JobsFailed) as caught:
        run_jobs((work, "late"), range(12), nj=2, fail_fast=True)
    made = len(list(tmp_path.glob("made*")))
    time.sleep(1.5)
    assert len(list(tmp_path.glob("made*"))) == made
    assert "1 / 12 failed" in caught.value.message


def test_every_process_has_a_log(work: Path, tmp_path: Path) -> None:
    log = tmp_path / "06_decode.log"
    with pytest.raises(JobsFailed, match=r"log is in .*06_decode\.\*\.log"):
        run_jobs((work, "picky"), [1, 2, 3], nj=2, log_file=log)
    text = "".join(file.read_text() for file in tmp_path.glob("06_decode.*.log"))
    assert "got 1" in text
    assert "Traceback" in text


def test_a_killed_job_is_an_error_that_says_so(work: Path) -> None:
    with pytest.raises(SpeechkitError, match="killed from outside"):
        run_jobs((work, "die"), [1, 2], nj=2)


@pytest.mark.parametrize("nj", [1, 2])
def test_a_stop_ends_the_work_between_units(work: Path, nj: int) -> None:
    asked = iter([False, True, True, True])
    with pytest.raises(Interrupted, match=r"stopped after \d of 4"):
        run_jobs((work, "square") if nj == 1 else _slow(work), range(4), nj=nj, should_stop=lambda: next(asked))


def _slow(work: Path) -> tuple[Path, str]:
    work.write_text("import time\ndef slow(n):\n    time.sleep(0.3)\n")
    return work, "slow"


def test_nj_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        run_jobs(os.path.basename, ["a"], nj=0)


def test_an_output_error_keeps_its_code_through_processes(tmp_path: Path) -> None:
    file = tmp_path / "full.py"
    file.write_text("from speechkit.errors import OutputError\ndef f(n):\n    raise OutputError('full')\n")
    with pytest.raises(JobsFailed) as caught:
        run_jobs((file, "f"), [1, 2], nj=2)
    assert caught.value.exit_code == OutputError.exit_code
