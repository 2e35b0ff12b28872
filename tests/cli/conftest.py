"""What several commands are tried on."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile

from tests.pipelines.test_transcribe import noise
from tests.pipelines.tiny import save_tiny


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny CTC model."""
    return str(save_tiny(tmp_path_factory.mktemp("model")))


@pytest.fixture
def seven_recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with rec/a.wav to rec/g.wav at 16 kHz, into which the command is typed."""
    (tmp_path / "rec").mkdir()
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("abcdefg"):
        soundfile.write(f"rec/{name}.wav", noise(number, 4000 + 1000 * number), 16000)
    return tmp_path
