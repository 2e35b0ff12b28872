from __future__ import annotations

import errno
import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from speechkit import files
from speechkit.errors import Busy, OutputError


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_whole_file_appears_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    with files.whole(target) as temporary:
        temporary.write_text("x")
        assert not target.exists()
        assert (temporary.parent, temporary.suffix) == (target.parent, ".txt")
    assert target.read_text() == "x"
    assert names(target.parent) == ["a.txt"]


def test_a_whole_folder_replaces_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    with files.whole(tmp_path / "out") as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["new"]


def test_when_the_body_raises_all_is_as_before(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")

    def interrupted() -> None:
        with files.whole(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    with files.whole(tmp_path / "data" / "a") as temporary:
        assert temporary.parent == tmp_path / "disk"
        temporary.touch()
    with files.whole(tmp_path / "data") as temporary:
        temporary.mkdir()
    assert (tmp_path / "data").is_symlink()
    assert names(tmp_path / "disk") == []


def test_a_full_disk_is_an_output_error_and_leaves_nothing(tmp_path: Path) -> None:
    def fill() -> None:
        with files.whole(tmp_path / "a") as temporary:
            temporary.touch()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OutputError, match="No space left"):
        fill()
    assert names(tmp_path) == []


def test_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    with pytest.raises(OutputError, match="a: is neither a file nor a folder"):
        files.write_text(tmp_path / "a", "x")
    assert (tmp_path / "a").is_fifo()
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("name", ["file/a", "file/b/a"])
def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"), files.whole(tmp_path / name):
        pass


def test_leftovers_are_those_of_the_name_and_old_enough(tmp_path: Path) -> None:
    old = [tmp_path / name for name in (".a.old-2", ".a.tmp-1", ".a.tmp-2.txt", ".ab.tmp-1")]
    for path in [*old, tmp_path / ".a.tmp-3"]:
        path.touch()
    for path in old:
        os.utime(path, (0, 0))
    assert files.leftovers(tmp_path / "a", older_than_seconds=86400) == old[:2]
    assert files.leftovers(tmp_path / "a.txt", older_than_seconds=86400) == [old[2]]


def owner(**changes: object) -> str:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    mine = {"host": socket.gethostname(), "boot_id": files._boot_id(), "pid": int(dead.stdout), "user": "ann"}
    return json.dumps({**mine, "started": "2026-03-01 10:02:00", **changes})


def test_a_lock_is_held_while_the_body_runs(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with files.lock(lock, "exp/base"):
        assert (files.lock_owner(lock) or {})["pid"] == os.getpid()
        with (
            pytest.raises(Busy, match=rf"exp/base is in use by .*@.* pid {os.getpid()} since"),
            files.lock(lock, "exp/base"),
        ):
            pass
        assert lock.exists()
    assert names(tmp_path) == []


def test_the_lock_of_a_dead_process_is_taken_over_with_a_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lock = tmp_path / ".lock"
    lock.write_text(owner())
    assert files.lock_owner(lock) is None
    with caplog.at_level(logging.WARNING), files.lock(lock, "exp/base"):
        assert (files.lock_owner(lock) or {})["pid"] == os.getpid()
    assert "is gone: taking over" in caplog.text
    assert names(tmp_path) == []


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"boot_id": "another boot", "pid": 1}])
def test_the_lock_of_another_machine_is_never_taken_over(tmp_path: Path, change: dict[str, object]) -> None:
    lock = tmp_path / ".lock"
    lock.write_text(owner(**change))
    with pytest.raises(Busy) as caught, files.lock(lock, "exp/base"):
        pass
    assert caught.value.exit_code == 75
    assert lock.exists()


def test_another_machines_lock_is_named_in_the_hint(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text(owner(host="node3"))
    with pytest.raises(Busy, match="ann@node3") as caught, files.lock(tmp_path / ".lock", "exp/base"):
        pass
    assert str(tmp_path / ".lock") in caught.value.hint


def test_a_lock_that_is_just_being_written_is_held(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    lock.touch()
    with pytest.raises(Busy), files.lock(lock, "exp/base"):
        pass
    os.utime(lock, (0, 0))  # its writer died between the two steps
    with files.lock(lock, "exp/base"):
        pass
