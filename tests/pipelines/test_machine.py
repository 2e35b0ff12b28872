"""What a machine has is found, and what it lacks is named."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import soundfile

from speechkit.audio.files import FORMATS
from speechkit.pipelines import machine


def test_every_format_is_tried_both_ways() -> None:
    found = {f.name: f for f in machine.formats()}
    assert set(found) == {*FORMATS, "m4a", "webm"}
    assert found["wav"] == machine.Format(name="wav", reads=True, writes=True)
    assert all(f.reads for f in found.values()), found
    assert {name for name, f in found.items() if f.writes} == set(FORMATS)


def test_a_format_that_does_not_work_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    write = soundfile.write

    def without_mp3(file: object, data: object, rate: int, *, format: str, subtype: str) -> None:
        if format == "MP3":
            raise soundfile.LibsndfileError(1)
        write(file, data // 3 if format == "FLAC" else data, rate, format=format, subtype=subtype)  # type: ignore[operator]

    monkeypatch.setattr("soundfile.write", without_mp3)
    monkeypatch.setitem(sys.modules, "av", None)
    found = {f.name: f for f in machine.formats()}
    assert not found["mp3"].writes
    assert found["mp3"].why.startswith("mp3: MP3 cannot hold ")
    assert (found["flac"].reads, found["flac"].why) == (False, "what comes back is something else")
    assert found["m4a"].why == "PyAV is not installed: pip install 'speechkit-torch[ffmpeg]'"


def test_an_extra_that_is_missing_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toolbox-1.dist-info").mkdir()
    elsewhere = 'other>=1; python_version < "3" and extra == "here"'
    requires = [
        "numpy>=1",
        elsewhere,
        'numpy>=2; extra == "here"',
        "no_such-thing>=3; extra == 'gone'",
        'numpy; extra == "gone"',
    ]
    lines = ["Metadata-Version: 2.1", "Name: toolbox", "Version: 1", *(f"Requires-Dist: {r}" for r in requires)]
    (tmp_path / "toolbox-1.dist-info/METADATA").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert machine.extras("toolbox") == [
        machine.Extra(name="gone", missing=("no_such-thing",), install="pip install 'toolbox[gone]'"),
        machine.Extra(name="here", missing=(), install=""),
    ]
    assert machine.extras("not-installed-at-all") == []


def test_versions_and_the_processor_are_named() -> None:
    found = machine.versions()
    assert list(found) == ["python", "system", "torch", "torchaudio", "numpy", "soundfile", "libsndfile"]
    assert "missing" not in found.values()
    assert machine.devices().cpu == machine.processor_name() != ""
