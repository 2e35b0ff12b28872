from __future__ import annotations

import itertools
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechkit.errors import SpeechkitError
from speechkit.files import sha256
from speechkit.jobs import Piece, Shard, cut
from tests.jobs.works import PIECES, Word, calls, upper_once_killed, walk

NAMES = [piece.name for piece in PIECES]


@pytest.fixture(scope="module")
def digest(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of the manifest of a walk that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    assert walk(folder).run(PIECES) == []
    return sha256(walk(folder).write_manifest(PIECES))


@given(st.lists(st.integers(1, 9)), st.integers(1, 12))
def test_pieces_are_all_things_in_order_and_no_larger_than_asked(sizes: list[int], limit: int) -> None:
    pieces = cut(sizes, float, limit)
    assert [size for piece in pieces for size in piece.items] == sizes
    assert all(sum(piece.items) <= limit or len(piece.items) == 1 for piece in pieces)
    assert all(sum(a.items) + b.items[0] > limit for a, b in itertools.pairwise(pieces))  # none too small


@given(st.integers(1, 9), st.integers(0, 30))
def test_shards_share_all_things_out(count: int, things: int) -> None:
    shares = [Shard(index, count).of(range(things)) for index in range(count)]
    assert sorted(thing for share in shares for thing in share) == list(range(things))


@pytest.mark.parametrize("text", ["4/4", "1", "-1/2", "a/b", "0/0"])
def test_a_share_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"shard|not like"):
        Shard.parse(text)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_number_of_shards_gives_the_same_manifest(tmp_path: Path, digest: str, count: int) -> None:
    missing = [len(walk(tmp_path).run(PIECES, Shard(index, count))) for index in range(count)]
    assert missing == [len(PIECES) - sum(len(NAMES[i::count]) for i in range(n + 1)) for n in range(count)]
    assert sorted(calls(tmp_path)) == NAMES
    assert sha256(walk(tmp_path).write_manifest(PIECES)) == digest


def test_another_number_of_shards_goes_on_where_the_first_stopped(tmp_path: Path, digest: str) -> None:
    walk(tmp_path).run(PIECES, Shard(0, 2))
    before = calls(tmp_path)
    assert walk(tmp_path).run(PIECES) == []
    assert sorted(calls(tmp_path) + before) == NAMES
    assert sha256(walk(tmp_path).write_manifest(PIECES)) == digest


@pytest.mark.parametrize("nj", [1, 2])
def test_the_number_of_processes_changes_nothing(tmp_path: Path, digest: str, nj: int) -> None:
    assert walk(tmp_path).run(PIECES, nj=nj) == []
    assert sha256(walk(tmp_path).write_manifest(PIECES)) == digest


def test_a_walk_that_was_killed_halfway_ends_as_if_nothing_had_happened(tmp_path: Path, digest: str) -> None:
    dying = walk(tmp_path, compute=upper_once_killed)
    with pytest.raises(SpeechkitError, match="killed from outside"):
        dying.run(PIECES, nj=2)
    done = calls(tmp_path)
    assert "000002" not in done
    assert list(tmp_path.glob(".000002.tmp-*.txt"))  # what it had begun to write
    assert dying.run(PIECES) == []
    assert "000000" not in calls(tmp_path)  # which was done
    assert sha256(dying.write_manifest(PIECES)) == digest


def test_two_walks_at_once_give_what_one_gives(tmp_path: Path, digest: str) -> None:
    with ThreadPoolExecutor(2) as threads:
        ran = list(threads.map(lambda n: walk(tmp_path / "x").run(PIECES, nj=n), [2, 2]))
    assert ran == [[], []]
    assert sha256(walk(tmp_path / "x").write_manifest(PIECES)) == digest


@pytest.mark.parametrize("damage", ["OTHER CAKE\n", "", None], ids=["bytes", "size", "gone"])
def test_an_output_that_is_not_the_marked_one_is_made_anew(tmp_path: Path, digest: str, damage: str | None) -> None:
    walk(tmp_path).run(PIECES)
    calls(tmp_path)
    file = tmp_path / "000001.txt"
    if damage is None:
        file.unlink()
    else:
        file.write_text(damage[: file.stat().st_size])
    assert walk(tmp_path).run(PIECES) == []
    assert calls(tmp_path) == ["000001"]
    assert sha256(walk(tmp_path).write_manifest(PIECES)) == digest


def test_a_torn_marker_counts_as_none(tmp_path: Path) -> None:
    walk(tmp_path).run(PIECES)
    calls(tmp_path)
    (tmp_path / "000003.done.json").write_text("{")
    walk(tmp_path).run(PIECES)
    assert calls(tmp_path) == ["000003"]


def test_another_setting_makes_all_anew_and_another_item_its_piece(tmp_path: Path) -> None:
    walk(tmp_path).run(PIECES)
    assert walk(tmp_path).otherwise(PIECES) is None
    assert walk(tmp_path, "t").otherwise(PIECES) == tmp_path / "000000.done.json"
    calls(tmp_path)
    assert len(walk(tmp_path, "t").run(PIECES, Shard(0, len(PIECES)))) == len(PIECES) - 1
    walk(tmp_path, "t").run(PIECES)
    assert sorted(calls(tmp_path)) == NAMES
    changed = [PIECES[0], Piece(name="000001", items=(Word(text="now"),)), *PIECES[2:]]
    walk(tmp_path, "t").run(changed)
    assert calls(tmp_path) == ["000001"]


def test_the_manifest_names_pieces_with_what_is_known_of_them_and_forgets_others(tmp_path: Path) -> None:
    walk(tmp_path).run(PIECES)
    for name in (".000009.tmp-0-1.txt", ".000009.tmp-0-2.txt"):
        (tmp_path / name).touch()
    os.utime(tmp_path / ".000009.tmp-0-1.txt", (0, 0))
    manifest = json.loads(walk(tmp_path).write_manifest(PIECES[:2]).read_text())
    assert manifest["settings"] == "s"
    assert manifest["pieces"] == [
        {
            "file": f"{p.name}.txt",
            "words": len(p.items),
            "bytes": len(text),
            "sha256": sha256(tmp_path / f"{p.name}.txt"),
        }
        for p in PIECES[:2]
        for text in ["".join(f"{word.text}\n" for word in p.items)]
    ]
    left = {path.name for path in tmp_path.iterdir()} - {"calls", "manifest.json"}
    assert left == {f"{n}.{ending}" for n in NAMES[:2] for ending in ("txt", "done.json")} | {".000009.tmp-0-2.txt"}
