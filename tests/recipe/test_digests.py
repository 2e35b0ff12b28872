from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from speechkit.recipe import digests
from speechkit.recipe.digests import Digests


def fresh(tmp_path: Path) -> Digests:
    return Digests(tmp_path / "exp/.digests.jsonl", tmp_path)


def test_a_file_has_the_digest_of_its_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert fresh(tmp_path).digest(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    assert fresh(tmp_path).digest(tmp_path / "gone") is None


def test_a_folder_changes_with_names_and_contents_and_not_with_times_or_hidden_files(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/a").write_text("1")
    first = fresh(tmp_path).digest(folder)
    os.utime(folder / "sub/a", (0, 0))
    (folder / ".lock").touch()
    assert fresh(tmp_path).digest(folder) == first
    (folder / "sub/a").rename(folder / "sub/b")
    second = fresh(tmp_path).digest(folder)
    (folder / "sub/b").write_text("2")
    assert len({first, second, fresh(tmp_path).digest(folder)}) == 3


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/a").write_text("1")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/link").symlink_to(tmp_path / "real")
    (tmp_path / "real/back").symlink_to(tmp_path / "folder")
    first = fresh(tmp_path).digest(tmp_path / "folder")
    (tmp_path / "real/a").write_text("2")
    assert fresh(tmp_path).digest(tmp_path / "folder") != first


def test_an_unchanged_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(digests, "sha256", lambda path: read.append(path) or f"digest {len(read)}")
    file = tmp_path / "a"
    file.write_text("1")
    os.utime(file, (1000, 1000))
    (tmp_path / "exp").mkdir()
    first = fresh(tmp_path)
    first.digest(file)
    first.save()
    assert fresh(tmp_path).digest(file) == "digest 1"
    file.write_text("12")
    os.utime(file, (1000, 1000))
    assert fresh(tmp_path).digest(file) == "digest 2"


def test_a_file_that_may_still_change_within_its_time_stamp_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "exp").mkdir()
    (tmp_path / "a").write_text("1")
    first = fresh(tmp_path)
    first.digest(tmp_path / "a")
    first.save()
    assert not (tmp_path / "exp/.digests.jsonl").exists()


def test_a_half_written_line_of_the_cache_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp/.digests.jsonl").write_text('["/a", "cont')
    (tmp_path / "a").write_text("1")
    assert fresh(tmp_path).digest(tmp_path / "a")


def test_nothing_is_saved_where_there_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    os.utime(tmp_path / "a", (0, 0))
    found = fresh(tmp_path)
    found.digest(tmp_path / "a")
    found.save()
    assert not (tmp_path / "exp").exists()


def test_a_recording_replaced_under_its_name_is_seen(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "wavs").mkdir()
    audio = tmp_path / "wavs/a b.wav"
    audio.write_bytes(bytes(200_000))
    (tmp_path / "wavs/all.ark").write_bytes(b"ark")
    table = tmp_path / "data/wav.scp"
    table.write_text("u1 wavs/a b.wav\nu2 wavs/all.ark:12\nu3 cat x.wav |\nu4 gone.wav\nu5 wavs/0.tar:5+12\n")
    (tmp_path / "wavs/0.tar").write_bytes(b"tar")

    def digest() -> str | None:
        return fresh(tmp_path).digest(table, "recordings")

    seen = [digest()]
    assert digest() == seen[0]
    audio.write_bytes(bytes(199_999) + b"1")
    seen.append(digest())
    (tmp_path / "wavs/all.ark").write_bytes(b"arc")
    seen.append(digest())
    (tmp_path / "gone.wav").touch()
    seen.append(digest())
    (tmp_path / "wavs/0.tar").write_bytes(b"rat")
    seen.append(digest())
    assert len(set(seen)) == 5
