"""Commands run in this process, and what every refusal has in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from speechkit.cli import main as cli
from tests.end_to_end.commands import Commands, serving
from tests.pipelines.tiny import save_tiny

Said = tuple[str, str]


def content(folder: Path) -> dict[Path, bytes | None]:
    """Everything below a folder."""
    return {p: p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@dataclass(frozen=True, kw_only=True)
class Typed:
    """Types commands in a folder."""

    here: Path
    capture: pytest.CaptureFixture[str]

    def __call__(self, *words: object, code: int = 0) -> Said:
        """Run `speechkit WORDS`, which must end with this code; give what it said on both outputs."""
        self.capture.readouterr()
        found = cli.main([str(word) for word in words])
        out, err = self.capture.readouterr()
        assert found == code, f"exit code {found}: {err}"
        assert "Traceback" not in err
        assert "internal error" not in err
        return out, err

    def refused(self, *words: object, code: int) -> str:
        """Run what cannot be: one line, at most one hint, no output, nothing written. Gives both lines."""
        before = content(self.here)
        out, err = self(*words, code=code)
        assert out == ""
        kinds = [line.partition(":")[0] for line in err.splitlines()]
        assert kinds in (["speechkit"], ["speechkit", "hint"]), err
        assert err.startswith("speechkit: error: ")
        assert content(self.here) == before
        return err


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Types commands in an empty folder, which is the current one."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(cli, "_drop_stdout", lambda: None)  # this process needs it
    return Typed(here=here, capture=capfd)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CTC model."""
    return save_tiny(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """Commands in processes of their own."""
    with serving(tmp_path_factory.mktemp("commands")) as server:
        yield server
