"""A day in small: thousands of steps and of recordings need no more memory and no more open files than a few."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Finished
from tests.end_to_end.endurance.watch import check_level, watch

pytestmark = [
    pytest.mark.endurance,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="there is no /proc to watch processes in"),
]

STEPS, FILES = 2000, 10_000


@pytest.mark.parametrize("cache", [True, False], ids=["cache", "no cache"])
def test_2000_steps_of_training_need_the_memory_of_the_first(finished: Finished, tmp_path: Path, cache: bool) -> None:
    workspace = finished.workspace.copy(tmp_path)
    (workspace.exp / ".stages/30_finetune.json").unlink()
    train = {"max_steps": STEPS, "validate_every": 250, "log_every": 1, "save_minutes": 0.1}
    settings = [f"finetune.train.{name}={value}" for name, value in train.items()]
    words = [*workspace.command, *settings, f"finetune.cache={cache}".lower(), "--stages", 30]
    samples = watch(words, workspace.exp / "finetune" / "work" / "metrics.jsonl", tmp_path / "out")
    check_level(samples, range(200, 400), range(STEPS - 200, STEPS + 10), "steps")


def test_10000_recordings_need_the_memory_of_the_first_thousands(
    finished: Finished, corpus: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    files = sorted(corpus.glob("*.wav"))
    for number in range(FILES):
        os.link(files[number % len(files)], folder / f"{number:05d}.wav")
    out = tmp_path / "out"
    samples = watch(["transcribe", folder, "-m", finished.workspace.exp, "--jsonl"], out, out)
    check_level(samples, range(1000, 2000), range(FILES - 1000, FILES + 1), "recordings")
