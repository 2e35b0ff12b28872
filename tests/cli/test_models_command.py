"""`speechkit models` as a user types it, on a cache laid out as the hub's client lays it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from speechkit.cli import main as cli
from speechkit.models import PUBLISHED, load, save
from tests.models.hub_cache import COMMIT, empty_hub, lay
from tests.models.wavlm import tiny

ROOT = Path(__file__).parents[2]
OTHER = COMMIT[::-1]
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cli, "_drop_stdout", lambda: None)  # this process needs it
    return empty_hub(tmp_path / "hub", monkeypatch)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder as the hub has it."""
    save(tiny.encoder(), tmp_path / "made", "hf")
    return tmp_path / "made"


def size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.iterdir())


def test_the_list_has_a_row_a_model_and_says_what_is_cached(
    hub: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lay(made, hub, "microsoft/wavlm-base")
    assert cli.main(["models", "list"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "kind", "repo@revision", "size", "languages", "rate", "cached", "licence"]
    assert [row.split()[0] for row in rows] == list(PUBLISHED)
    starts = [head.index(word) for word in head.split()]
    cells = [[row[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)] for row in rows]
    base, large = cells[0], cells[2]
    assert base == [
        *("wavlm-base", "wavlm", "microsoft/wavlm-base@main", f"{size(made) / 1e3:.1f} kB", "en", "16000 Hz", "yes"),
        PUBLISHED["wavlm-base"].licence,
    ]
    assert large[3:7] == ["1.2 GB", "en", "16000 Hz", "no"]
    assert cells[3][3] == "-"  # nobody has said how large it is


def test_the_list_is_an_object_a_line_for_programs(hub: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "list", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["name"] for row in rows] == list(PUBLISHED)
    assert rows[3] == {
        "name": "hubert-base",
        "kind": "hubert",
        "repo": "facebook/hubert-base-ls960",
        "revision": "main",
        "size_bytes": None,
        "licence": "Apache-2.0",
        "languages": ["en"],
        "sample_rate": 16000,
        "cached": False,
        "folder": "",
    }


def test_show_tells_all_of_one_model(hub: Path, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "show", "hubert-base"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "name       hubert-base",
        "kind       hubert",
        "repo       facebook/hubert-base-ls960@main",
        "page       https://huggingface.co/facebook/hubert-base-ls960",
        "languages  en",
        "rate       16000 Hz",
        "licence    Apache-2.0",
        "cached     no",
    ]
    snapshot = lay(made, hub, "owner/tiny")
    assert cli.main(["models", "show", "hf:owner/tiny"]) == 0  # of others only what is in the cache is known
    assert capsys.readouterr().out.splitlines()[1:] == [
        "repo    owner/tiny@main",
        "page    https://huggingface.co/owner/tiny",
        f"size    {size(made) / 1e3:.1f} kB",
        f"cached  {snapshot}",
    ]
    assert cli.main(["models", "show", "owner/tiny", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["folder"] == str(snapshot)


def test_path_is_the_folder_that_other_commands_read(hub: Path, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    snapshot = lay(made, hub, "facebook/hubert-base-ls960")
    for name in ("hubert-base", "hf:facebook/hubert-base-ls960", f"facebook/hubert-base-ls960@{COMMIT}"):
        assert cli.main(["models", "path", name]) == 0
        assert capsys.readouterr().out == f"{snapshot}\n"
    assert cli.main(["info", str(snapshot)]) == 0
    assert "\tlicence Apache-2.0\t" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["lst"], 2, "hint: did you mean list?"),
        ([], 2, "required: COMMAND"),
        (["show"], 2, "required: NAME"),
        (["list", "--jsn"], 2, "hint: did you mean --json?"),
        (["show", "wavlm-basee"], 4, "no model 'wavlm-basee'\nhint: did you mean wavlm-base?"),
        (["pull", "zzz"], 4, "no model 'zzz'\nhint: known names: wavlm-base, "),
        (["path", "hf:one"], 4, "'one' is no hub id"),
        (["rm", "hf:--a/b..c"], 4, "not in the cache"),
        (["path", "hf:--a/b..c"], 4, "is no hub id"),
        (
            ["path", "wavlm-base"],
            4,
            "microsoft/wavlm-base@main: not in the cache\nhint: fetch it: speechkit models",
        ),
        (["rm", "wavlm-base"], 4, "microsoft/wavlm-base@main: not in the cache"),
        (["path", "owner/tiny@v2"], 4, "owner/tiny@v2: not in the cache"),
        (["rm", "owner/tiny@v2"], 4, "owner/tiny@v2: not in the cache"),
        (
            ["pull", "wavlm-base", "--offline"],
            4,
            "not in the cache, and offline\nhint: fetch it on a machine",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_one_line(
    words: list[str], code: int, said: str, hub: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lay(made, hub, "owner/tiny")
    assert cli.main(["models", *words]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("speechkit: error: ")
    assert len(err.splitlines()) <= 2
    assert said in err
    assert (hub / "models--owner--tiny").is_dir()


def test_a_cache_that_is_not_there_yet_is_an_empty_one(hub: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not hub.exists()
    assert cli.main(["models", "list"]) == 0
    assert " yes " not in capsys.readouterr().out
    assert cli.main(["models", "rm", "wavlm-base"]) == 4


# Downloads ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def online(hub: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A hub with one model, which its client downloads into the cache; `downloads` counts."""
    online = SimpleNamespace(downloads=0)
    files = [SimpleNamespace(rfilename=p.name, size=p.stat().st_size) for p in made.iterdir()]

    def model_info(self: object, repo: str, *, revision: str, files_metadata: bool) -> Any:
        return SimpleNamespace(siblings=files)

    def snapshot_download(repo: str, *, revision: str, allow_patterns: Sequence[str]) -> str:
        online.downloads += 1
        return str(lay(made, hub, repo, ref=revision))

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return online


def test_pull_says_what_it_downloads_and_does_it_once(
    online: Any, hub: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for times in range(2):
        assert cli.main(["models", "pull", "wavlm-base"]) == 0
        out, err = capsys.readouterr()
        assert out == f"{hub}/models--microsoft--wavlm-base/snapshots/{COMMIT}\n"
        assert err.count("downloading microsoft/wavlm-base, 0.00 GB, to ") == 1 - times
    assert online.downloads == 1
    assert cli.main(["models", "pull", "wavlm-base", "--offline"]) == 0  # nothing to download
    assert load(capsys.readouterr().out.strip()).config.kind == "wavlm"


def test_pull_with_q_says_nothing_but_the_folder(online: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, enable_progress_bars

    assert cli.main(["models", "pull", "wavlm-base", "-q"]) == 0
    assert capsys.readouterr().err == ""
    assert are_progress_bars_disabled()
    enable_progress_bars()


def test_a_download_without_room_is_not_begun(
    online: Any, made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    need = sum(p.stat().st_size for p in made.iterdir() if p.name != "card.md")
    for free, code in ((1.2 * need - 1, 5), (1.2 * need + 1, 0)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: Usage(10**12, 0, free))
        assert cli.main(["models", "pull", "wavlm-base"]) == code
        assert ("GB free at" in capsys.readouterr().err) == (code == 5)
    assert online.downloads == 1


def test_a_network_that_fails_is_said_in_a_line(
    online: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("connection reset")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    assert cli.main(["models", "pull", "wavlm-base"]) == 4
    assert "microsoft/wavlm-base@main: cannot download: connection reset" in capsys.readouterr().err


# Removal ------------------------------------------------------------------------------------------------------------


def test_rm_frees_the_revision_and_says_how_much(hub: Path, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lay(made, hub, "microsoft/wavlm-base")
    lay(made, hub, "owner/tiny", commit=OTHER)  # the hub's client finds revisions by their hashes alone
    assert cli.main(["models", "rm", "wavlm-base"]) == 0
    assert capsys.readouterr().out == f"microsoft/wavlm-base: removed, {size(made) / 1e3:.1f} kB freed\n"
    assert [p.name for p in hub.iterdir()] == ["models--owner--tiny"]
    assert cli.main(["models", "rm", "wavlm-base"]) == 4


def test_rm_leaves_what_another_revision_needs(hub: Path, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    snapshot = lay(made, hub, "owner/tiny")
    (made / "config.json").write_text((made / "config.json").read_text() + " ")
    (made / "config.json").rename(made / "old.json")
    other = hub / f"models--owner--tiny/snapshots/{OTHER}"
    other.mkdir()
    (other / "model.safetensors").symlink_to("../../blobs/model.safetensors.blob")
    shutil.copy(made / "old.json", hub / "models--owner--tiny/blobs/old.blob")
    (other / "config.json").symlink_to("../../blobs/old.blob")
    (hub / "models--owner--tiny/refs/v2").write_text(OTHER)
    assert cli.main(["models", "rm", "owner/tiny@v2"]) == 0
    freed = (made / "old.json").stat().st_size
    assert capsys.readouterr().out == f"owner/tiny@v2: removed, {freed / 1e3:.1f} kB freed\n"
    assert not other.exists()
    assert load(snapshot).config.kind == "wavlm"


def test_what_may_not_be_removed_is_an_output_error(
    hub: Path, made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lay(made, hub, "owner/tiny")

    def refuse(path: object, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    assert cli.main(["models", "rm", "owner/tiny"]) == 5
    assert "cannot remove" in capsys.readouterr().err


# Processes of their own ---------------------------------------------------------------------------------------------


def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}


def test_listing_imports_no_torch(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "speechkit", "models", "list"]
    done = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "huggingface_hub" in imported
    assert not imported & {"torch", "numpy"}
    assert len(done.stdout.splitlines()) == 1 + len(PUBLISHED)


def test_a_closed_pipe_ends_the_list_silently(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "speechkit", "models", "list"]
    done = subprocess.run(command, env=environment(tmp_path), stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_the_hubs_own_offline_switch_is_heeded(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "speechkit", "models", "pull", "wavlm-base"]
    done = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (4, "")
    first, hint = done.stderr.splitlines()
    assert first.startswith("speechkit: error: microsoft/wavlm-base@main: cannot download: ")
    assert hint == "hint: fetch it on a machine with a network: speechkit models pull microsoft/wavlm-base"
