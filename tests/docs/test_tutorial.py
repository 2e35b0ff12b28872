"""The commands of docs/your_own_corpus.md, one after the other, as a reader would type them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechkit import draws

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/your_own_corpus.md"
WORDS = {"low": 300.0, "mid": 900.0, "high": 2500.0}  # Hz
SPEAKERS = ("eve", "ann", "bob")  # not in order, so that there is something to repair

Block = tuple[str, str]  # language and content


def blocks(page: str) -> list[Block]:
    return re.findall(r"^```(\w+)\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)


def named_file(content: str) -> str:
    first = content.partition("\n")[0]
    assert first.startswith("# "), f"a file block begins with a comment that names the file, not {first!r}"
    return first.removeprefix("# ")


def utterances(count: int) -> Iterator[tuple[str, list[str], np.ndarray]]:
    """Ids, words and samples: every word is a tone, with a little noise."""
    rate = 16000
    time = np.arange(round(0.4 * rate)) / rate
    for n in range(count):
        id = f"{SPEAKERS[n % 3]}-{n:02d}"
        drawn = draws.words(0, 0, "tutorial", [id], 4 + 2 * 4 * len(time))[0]
        words = [list(WORDS)[i] for i in draws.randint(drawn[:4], len(WORDS))]
        wave = np.concatenate([0.3 * np.sin(2 * np.pi * WORDS[word] * time) for word in words])
        yield id, words, wave + 0.01 * draws.normal(drawn[4:])


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What a reader has of the clone and touches: recipes, and another corpus's run.sh. The corpus lies at home."""
    folder = tmp_path / "clone"
    shutil.copytree(ROOT / "recipes", folder / "recipes", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "egs/fsdd/wavlm").mkdir(parents=True)
    shutil.copy2(ROOT / "egs/fsdd/wavlm/run.sh", folder / "egs/fsdd/wavlm")
    corpus = tmp_path / "home/mycorpus"
    corpus.mkdir(parents=True)
    lines = []
    for id, words, wave in utterances(20):
        soundfile.write(corpus / f"{id}.wav", wave, 16000)
        lines.append(f"{id} {' '.join(words)}\n")
    (corpus / "transcripts.txt").write_text("".join(lines))
    return folder


@pytest.mark.slow
def test_every_command_of_the_tutorial_works(clone: Path) -> None:
    environment = os.environ | {
        "HOME": str(clone.parent / "home"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
    }
    ran = []
    for language, content in blocks(PAGE.read_text(encoding="utf-8")):
        if language in ("python", "yaml"):
            path = clone / named_file(content)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        elif language == "sh":
            start = time.monotonic()
            command = ["bash", "-euo", "pipefail", "-c", content]
            done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{content}\n{done.stdout}\n{done.stderr}"
            ran.append(done)
            print(f"{time.monotonic() - start:.1f} s: {content.splitlines()[0]}")
        else:
            assert language == "text", f"a block in {language}: is it a file or a command?"
    _, look, _, train, transcribe, python, by_hand = ran
    assert "E108 'ann-01' after 'eve-00' is not in C-locale (byte) order" in look.stderr
    assert "repaired spk2utt, text, utt2spk, wav.scp" in look.stderr
    assert look.stderr.endswith("mydata: 0 errors, 0 warnings\n")
    assert "|mydata|0.009|20|3|80|" in look.stdout
    assert re.search(r"^WER \d+\.\d\d % on 8 words of test$", train.stdout, flags=re.MULTILINE)
    assert len(re.findall(r"  done  ", train.stdout)) == 17 - 1  # publishing was not asked for
    assert "20 files · 20 ok" in transcribe.stderr
    assert len(list((clone / "texts").glob("*.srt"))) == 20
    assert python.stdout.count("[") == 2
    assert by_hand.stderr.count("done in") == 4
