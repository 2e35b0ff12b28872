"""Ray, started here for the tests alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from speechkit.errors import MissingDependency, SpeechkitError
from speechkit.files import sha256
from speechkit.jobs import Interrupted, JobsFailed, run_jobs
from speechkit.jobs.on_ray import _connected
from tests.jobs.works import PIECES, calls, upper, upper_once_killed, walk


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    if find_spec("ray") is None:
        pytest.skip("ray is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "local")  # and no cluster of somebody else
        with _connected(2) as started:
            yield started


def test_results_come_in_the_order_of_the_units(ray: Any) -> None:
    assert run_jobs(os.path.basename, ["a/b", "c/d", "e/f"], executor="ray") == ["b", "d", "f"]
    assert run_jobs(os.path.basename, [], executor="ray") == []


def test_ray_listens_on_the_loopback_alone(ray: Any) -> None:
    assert {node["NodeManagerAddress"] for node in ray.nodes()} == {"127.0.0.1"}


def test_failures_are_those_of_processes(ray: Any, tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(
        "from speechkit.errors import InputError\n"
        "def odd(n):\n    if n % 2 == 0:\n        raise InputError(f'{n} is even', hint='add 1')\n    return n\n"
    )
    with pytest.raises(JobsFailed, match="2 / 4 failed, the first: 2 is even") as caught:
        run_jobs((tmp_path / "work.py", "odd"), [1, 2, 3, 4], executor="ray")
    assert (caught.value.hint, caught.value.exit_code) == ("add 1", 3)


def test_a_worker_that_is_killed_costs_its_piece_only_and_loses_nothing(ray: Any, tmp_path: Path) -> None:
    plain = walk(tmp_path / "plain")
    plain.run(PIECES)
    killed = walk(tmp_path / "killed", compute=upper_once_killed)
    assert killed.run(PIECES, executor="ray") == []
    assert (tmp_path / "killed/died").exists()
    assert sorted(calls(tmp_path / "killed")) == [piece.name for piece in PIECES]  # each once
    assert sha256(killed.write_manifest(PIECES)) == sha256(plain.write_manifest(PIECES))


def test_a_unit_that_always_dies_is_an_error(ray: Any, tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text("import os\ndef die(n):\n    os._exit(1)\n")
    with pytest.raises(SpeechkitError, match="killed from outside"):
        run_jobs((tmp_path / "work.py", "die"), [1], executor="ray")


def test_a_stop_ends_the_work_and_what_is_done_stays(ray: Any, tmp_path: Path) -> None:
    answers = iter([False, True])
    with pytest.raises(Interrupted, match=r"stopped after \d of 8"):
        walk(tmp_path, compute=upper).run(PIECES, executor="ray", should_stop=lambda: next(answers, True))
    assert walk(tmp_path).run(PIECES, executor="ray") == []


def test_ray_that_is_not_installed_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependency, match="not installed") as caught:
        run_jobs(os.path.basename, ["a"], executor="ray")
    assert "pip install 'speechkit-torch[ray]'" in caught.value.hint
