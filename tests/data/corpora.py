"""Data directories with real samples, for tests of what carries audio along."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speechkit import draws
from speechkit.audio.files import read_int16, save
from speechkit.data.kaldi.rxfilename import open_audio
from speechkit.data.utterance import Utterance
from tests.data.datadirs import make

TABLES = {
    "wav.scp": "r1 a.flac\nr2 b.wav\nr3 c.wav\n",
    "segments": "s1-u1 r1 0.00 1.50\ns1-u2 r1 1.502 3.00\ns2-u1 r2 0.25 2.00\ns2-u2 r3 0.00 1.00\n",
    "utt2spk": "s1-u1 s1\ns1-u2 s1\ns2-u1 s2\ns2-u2 s2\n",
    "text": "s1-u1 Grüße aus Köln\ns1-u2 good day\ns2-u1 yes\ns2-u2 no no\n",
    "utt2lang": "s1-u1 de\ns1-u2 en\ns2-u1 en\ns2-u2 en\n",
    "spk2gender": "s1 f\ns2 m\n",
    "text.tc.en": "s1-u1 Greetings from Cologne\ns1-u2 Good day\ns2-u1 Yes\ns2-u2 No, no\n",
    "reco2file_and_channel": "r1 a A\nr2 b A\nr3 c B\n",
}


def noise(name: str, num_samples: int) -> NDArray[np.int16]:
    """Samples `(T,)` that depend on the name alone."""
    return (draws.uniform(draws.words(0, 0, "test", [name], num_samples)[0]) * 20000 - 10000).astype(np.int16)


def corpus(folder: Path, tables: dict[str, str] = TABLES) -> Path:
    """A data directory `data/train` with segments of long recordings, one of them in stereo; its root is the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save(folder / "a.flac", noise("a", 48000), 16000)
    save(folder / "b.wav", noise("b", 32000), 16000)
    save(folder / "c.wav", np.stack([noise("c", 8000), noise("d", 8000)]), 8000)
    return make(folder / "data/train", tables)  # type: ignore[arg-type]


def samples(utterance: Utterance) -> NDArray[np.int16]:
    """What training reads of an utterance."""
    found, rate = read_int16(
        open_audio(utterance.path),
        start=utterance.start,
        num_samples=utterance.num_samples,
        channel=utterance.channel,
    )
    assert rate == utterance.sample_rate
    return found


def assert_same(found: list[Utterance], expected: list[Utterance]) -> None:
    """The same utterances with the same samples, wherever these lie."""
    for name in ("id", "num_samples", "sample_rate", "text", "speaker"):
        assert [getattr(u, name) for u in found] == [getattr(u, name) for u in expected], name
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(samples(one), samples(other))
