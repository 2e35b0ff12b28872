"""Outputs that cannot be written: folders that are closed or none, files that exist, a full disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from speechkit.audio import files
from tests.audio.test_bad_audio import RATE, speechlike
from tests.bad_input.conftest import Typed, content
from tests.end_to_end.commands import Commands

COMMANDS = {  # OUT stands for a file, M for the model
    "transcribe": ["transcribe", "a.wav", "-m", "M", "-f", "json", "-o", "OUT"],
    "align": ["align", "a.wav", "said.txt", "-m", "M", "-f", "json", "-o", "OUT", "-q"],
    "eval --per-utt": ["eval", "wer", "ref.txt", "ref.txt", "--per-utt", "OUT"],
    "eval --align": ["eval", "cer", "ref.txt", "ref.txt", "--align", "OUT"],
    "data index": ["data", "index", "d", "-o", "OUT"],
    "data copy": ["data", "copy", "d", "-o", "OUT"],
    "data subset": ["data", "subset", "d", "--first", "8", "-o", "OUT"],
    "data split": ["data", "split", "d", "2", "-o", "OUT"],
    "data combine": ["data", "combine", "d", "-o", "OUT"],
}
every_command = pytest.mark.parametrize("command", COMMANDS)


@pytest.fixture
def filled(typed: Typed) -> Typed:
    """A folder with what the commands read."""
    files.save("a.wav", speechlike(), RATE)
    Path("said.txt").write_text("ab ba\n" * 3)
    Path("ref.txt").write_text("".join(f"u{n} " + "word " * 30 + "\n" for n in range(9)))
    Path("d").mkdir()
    for name, value in (("wav.scp", "a.wav"), ("utt2spk", "s{}"), ("text", "la")):
        lines = "".join(f"s{n}-u{n}-{'x' * 99} {value.format(n)}\n" for n in range(9))
        Path("d", name).write_text(lines)
    Path("d/spk2utt").write_text("".join(f"s{n} s{n}-u{n}-{'x' * 99}\n" for n in range(9)))
    return typed


def words(command: str, out: str, model: Path) -> list[str]:
    return [{"OUT": out, "M": str(model)}.get(word, word) for word in COMMANDS[command]]


@every_command
@pytest.mark.parametrize("out", ["said.txt/x", "/proc/x", "/dev/null/x", "/sys/x/y"])
def test_a_place_that_cannot_be_written_is_refused(command: str, out: str, filled: Typed, model: Path) -> None:
    if not Path("/proc/self").exists() and out.startswith(("/proc", "/sys")):
        pytest.skip("no such file systems here")
    said = filled.refused(*words(command, out, model), code=5)
    assert out.removesuffix("/x").removesuffix("/y") in said.splitlines()[0]


@every_command
def test_a_closed_folder_is_refused(command: str, filled: Typed, model: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("nothing is closed to root")
    Path("closed").mkdir(mode=0o500)
    assert "closed" in filled.refused(*words(command, "closed/x", model), code=5)


@every_command
def test_what_exists_is_kept(command: str, filled: Typed, model: Path) -> None:
    if command.startswith("eval"):
        pytest.skip("notes of one scoring replace those of the one before")
    Path("x").write_text("mine")
    assert "x: " in filled.refused(*words(command, "x", model), code=5)


@every_command
def test_a_full_disk_leaves_nothing_half_written(command: str, filled: Typed, model: Path, commands: Commands) -> None:
    before = content(filled.here)
    done = commands.run(*words(command, "out", model), cwd=filled.here, max_bytes=300, code=5)
    lines = done.err.splitlines()
    assert lines[0].startswith("speechkit: error: ")
    assert "File too large" in lines[0]
    assert [line.partition(":")[0] for line in lines] == ["speechkit", "hint"]
    after = content(filled.here)
    assert {p: after[p] for p in before} == before
    assert [p for p in after if p not in before and after[p] is not None] == []  # folders may be there
    out, _ = filled(*words(command, "out", model))
    assert out or Path("out").exists()


def test_a_batch_on_a_full_disk_fails_and_can_be_resumed(filled: Typed, model: Path, commands: Commands) -> None:
    for number in range(4):
        files.save(f"in/{number}.wav", speechlike()[: 4000 * (number + 1)], RATE)
    arguments = ["transcribe", "in", "-m", model, "-f", "json", "-o", "out", "--batch-seconds", "1"]
    filled(*arguments)
    whole = {path.name: path.read_text() for path in Path("out").glob("*.json")}
    sizes = sorted(len(text.encode()) for text in whole.values())
    done = commands.run(
        *arguments[:-3], "other", "--batch-seconds", "1", cwd=filled.here, max_bytes=sizes[2], code=None
    )
    assert done.code == 5, done.err
    assert done.err.count("speechkit: error: ") == 1
    made = {path.name: path.read_text() for path in Path("other").glob("*.json")}
    assert all(whole[name] == text for name, text in made.items())
    assert not list(Path("other").glob(".*.tmp-*"))
    assert all(json.loads(text) for text in made.values())
    filled(*arguments[:-3], "other", "--batch-seconds", "1", "--resume")
    assert {path.name: path.read_text() for path in Path("other").glob("*.json")} == whole
