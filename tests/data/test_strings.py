from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechkit.data.kaldi.utterances import utterances
from speechkit.data.strings import Clip, Spoken, StringSettings, join, level, string, write_strings


def test_joined_utterances_come_back_sample_by_sample(tmp_path: Path) -> None:
    waves = [np.arange(1, n, dtype=np.int16) * 7 for n in (2301, 3223, 4001)]
    spoken = [Spoken(f"{s}-{i}", s, f"word {i}", waves[i]) for i, s in enumerate(("ann", "ann", "bob"))]
    join(spoken, tmp_path / "dump" / "x", tmp_path, 22050).write(tmp_path / "data" / "x")
    found = utterances(tmp_path / "data" / "x", root=tmp_path)
    assert [(u.id, u.speaker, u.text) for u in found] == [(s.id, s.speaker, s.text) for s in spoken]
    assert len({u.path for u in found}) == 2
    for u, wave in zip(found, waves, strict=True):
        samples, rate = soundfile.read(tmp_path / u.path, dtype="int16", start=u.start, frames=u.num_samples)
        assert rate == 22050
        np.testing.assert_array_equal(samples, wave)


def test_leveling_equals_loudness_but_never_clips_and_leaves_silence_alone() -> None:
    tone = np.sin(np.arange(8000) * 0.3)
    for amplitude in (30, 3000, 30000):
        leveled = level(np.rint(amplitude * tone).astype(np.int16)).astype(float)
        assert abs(np.sqrt(np.mean(leveled**2)) - 1640) < 60
    click = np.zeros(8000, dtype=np.int16)
    click[10] = 300
    assert level(click).max() == 32767
    assert not level(np.zeros(5, dtype=np.int16)).any()


def test_a_string_has_as_many_clips_and_as_long_gaps_as_allowed() -> None:
    clips = [np.full(10, i + 1, dtype=np.int16) for i in range(3)]
    settings = StringSettings(fewest=1, most=3, gap_seconds=0.01, loudness_db=0, seed=0)
    counts, gaps = set(), set()
    for n in range(200):
        samples, chosen = string(clips, settings, 1000, f"u{n}")
        counts.add(len(chosen))
        runs = np.split(samples, np.flatnonzero(np.diff(samples)) + 1)
        gaps |= {len(run) for run in runs if run[0] == 0}
        assert len(samples) <= 10 * len(chosen) + 10 * (len(chosen) + 1)
        assert sorted(set(samples.tolist()) - {0}) == sorted({i + 1 for i in chosen})
    assert counts == {1, 2, 3}
    assert gaps == set(range(1, 11))  # a gap of 0 leaves no run


def test_each_clip_of_a_string_has_a_loudness_of_its_own_within_bounds() -> None:
    settings = StringSettings(fewest=3, most=3, gap_seconds=0.0, loudness_db=6.0)
    clips = [np.full(10, 1000, dtype=np.int16)]
    levels = {int(x) for number in range(50) for x in string(clips, settings, 1000, f"s{number}")[0]}
    assert 501 <= min(levels) < 600
    assert 1700 < max(levels) <= 1996


def test_a_share_of_the_strings_has_several_speakers(tmp_path: Path) -> None:
    clips = []
    for speaker in ("ann", "bob"):
        for word in ("one", "two"):
            path = tmp_path / f"{speaker}-{word}.wav"
            soundfile.write(path, np.full(800, 1000, dtype=np.int16), 8000)
            clips.append(Clip(f"{speaker}-{word}", speaker, f"{speaker}{word}", path))
    settings = StringSettings(hours=0.02, several=0.25, fewest=2)
    write_strings(tmp_path / "data/x", tmp_path / "dump/x", clips, settings)
    strings = [u for u in utterances(tmp_path / "data/x", root=tmp_path) if "-string-" in u.id]
    seconds = {s: sum(u.duration_s for u in strings if u.speaker == s) for s in ("ann", "bob", "several")}
    assert seconds == pytest.approx({"ann": 27, "bob": 27, "several": 18}, abs=2)
    said = {u.speaker: {word[:3] for word in (u.text or "").split()} for u in strings if u.speaker != "several"}
    assert said == {"ann": {"ann"}, "bob": {"bob"}}
    mixed = [{word[:3] for word in (u.text or "").split()} for u in strings if u.speaker == "several"]
    assert {"ann", "bob"} in mixed
