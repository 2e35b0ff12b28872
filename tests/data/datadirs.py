"""Small data directories for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

PLAIN = {
    "utt2spk": "s01-u1 s01\ns01-u2 s01\ns02-u1 s02\n",
    "spk2utt": "s01 s01-u1 s01-u2\ns02 s02-u1\n",
    "text": "s01-u1 hello world\ns01-u2 good day\ns02-u1 yes\n",
    "wav.scp": "s01-u1 a.wav\ns01-u2 b.wav\ns02-u1 c.wav\n",
}
SEGMENTED = {
    **PLAIN,
    "wav.scp": "r1 a.wav\nr2 b.wav\n",
    "segments": "s01-u1 r1 0.00 1.50\ns01-u2 r1 1.50 3.00\ns02-u1 r2 0.25 2.00\n",
}


def make(path: Path, files: dict[str, str | bytes]) -> Path:
    """Write the files of a data directory."""
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / name).write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def contents(path: Path) -> dict[str, bytes]:
    """The files of a folder, hidden ones apart."""
    return {p.name: p.read_bytes() for p in path.iterdir() if p.is_file() and not p.name.startswith(".")}


def tone(path: Path, seconds: float, *, rate: int = 8000, channels: int = 1, frequency: float = 200.0) -> Path:
    """Write a recording."""
    time = np.arange(round(seconds * rate)) / rate
    samples = 0.3 * np.sin(2 * np.pi * frequency * time)
    soundfile.write(path, np.stack([samples * (c + 1) / channels for c in range(channels)], axis=1), rate)
    return path
