from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from speechkit.data.kaldi.tables import DataDir
from speechkit.data.kaldi.utterances import utterances
from speechkit.errors import InputError

Egs = Callable[[str], ModuleType]
Tone = Callable[..., None]


@pytest.fixture
def corpus(tmp_path: Path, tone: Tone) -> Path:
    """Digits 0 and 1, takes 0, 5, 10, 20 of two speakers, one in each of two formats."""
    for speaker, ending in (("george", "wav"), ("theo", "flac")):
        for digit in range(2):
            for take in (0, 5, 10, 20):
                name = f"{digit}_{speaker}_{take}.{ending}"
                tone(tmp_path / "fsdd" / "recordings" / name, 0.1 + 0.01 * take, 8000, amplitude=0.01 * (take + 1))
    (tmp_path / "fsdd" / "recordings" / "README.md").write_text("not a recording")
    return tmp_path / "fsdd"


def test_sets_are_told_by_the_names_alone(egs: Egs, corpus: Path, tmp_path: Path) -> None:
    egs("fsdd").prepare(corpus, tmp_path / "data", string_hours=0.001)
    sets = {path.name: DataDir.read(path) for path in (tmp_path / "data").iterdir()}
    assert sets["repository_test"].ids == ["george-0-00", "george-1-00", "theo-0-00", "theo-1-00"]
    assert sets["repository_dev"].ids == ["george-0-05", "george-1-05", "theo-0-05", "theo-1-05"]
    assert sets["repository_train"].ids[:3] == ["george-0-10", "george-0-20", "george-1-10"]
    assert set(sets["speaker_disjoint_test"].utt2spk.values()) == {"theo"}
    assert set(sets["speaker_disjoint_train"].utt2spk.values()) == {"george"}
    assert sets["speaker_disjoint_train_10pct"].ids[:3] == ["george-0-00", "george-0-10", "george-0-20"]
    assert "speaker_disjoint_dev" not in sets  # yweweler is not there
    assert sets["repository_test"].text == {i: "zero" if "-0-" in i else "one" for i in sets["repository_test"].ids}
    assert sets["repository_test"].wav_scp["theo-1-00"] == str((corpus / "recordings/1_theo_0.flac").resolve())


def test_strings_are_recordings_of_one_speaker_of_the_training_set_with_short_gaps(
    egs: Egs, corpus: Path, tmp_path: Path
) -> None:
    egs("fsdd").prepare(corpus, tmp_path / "data", string_hours=0.01)
    path = tmp_path / "data" / "repository_train_strings"
    strings = [u for u in utterances(path, root=tmp_path) if "string" in u.id]
    seconds = sum(u.duration_s for u in strings)
    assert 36 <= seconds < 36 + 2 * 2.7
    assert {u.speaker for u in strings} == {"george", "theo"}
    assert len({u.text for u in strings}) > 10
    for u in strings:
        assert u.text is not None
        words = u.text.split()
        assert 1 <= len(words) <= 4
        samples, _ = soundfile.read(tmp_path / u.path, dtype="int16", start=u.start, frames=u.num_samples)
        sounding = np.flatnonzero(samples)
        assert 0 <= sounding[0] <= 1601
        assert len(samples) - sounding[-1] <= 1602
        least, most = len(words) * 0.2, len(words) * 0.3 + (len(words) + 1) * 0.2
        assert least - 0.001 <= u.duration_s <= most + 0.001
        assert 1640 / 2.9 < np.sqrt(np.mean(samples[sounding].astype(float) ** 2)) < 1640 * 2.9


def test_strings_come_with_the_recordings_they_are_made_of(egs: Egs, corpus: Path, tmp_path: Path) -> None:
    egs("fsdd").prepare(corpus, tmp_path / "data", string_hours=0.001)
    clips = utterances(tmp_path / "data" / "repository_train", root=tmp_path)
    both = {u.id: u for u in utterances(tmp_path / "data" / "repository_train_strings", root=tmp_path)}
    assert [both[u.id] for u in clips] == clips


def test_the_same_seed_makes_the_same_strings_and_another_seed_others(egs: Egs, corpus: Path, tmp_path: Path) -> None:
    texts = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        egs("fsdd").prepare(corpus, tmp_path / name / "data", string_hours=0.001, seed=seed)
        audio = tmp_path / name / "dump/strings/repository_train_strings/theo.wav"
        texts.append((tmp_path / name / "data/repository_train_strings/text").read_text() + str(audio.read_bytes()))
    assert texts[0] == texts[1] != texts[2]


def test_a_missing_corpus_is_one_line_and_a_hint(egs: Egs, tmp_path: Path) -> None:
    for given, where in ((None, ": pass --data-dir DIR"), (tmp_path, f" in {tmp_path}")):
        with pytest.raises(InputError) as raised:
            egs("fsdd").prepare(given, tmp_path / "data")
        assert raised.value.message == f"FSDD not found{where}"
        assert "--data-dir is" in raised.value.hint
    (tmp_path / "recordings").mkdir()
    with pytest.raises(InputError, match="no recordings named"):
        egs("fsdd").prepare(tmp_path, tmp_path / "data")


def test_a_gap_is_refused_and_a_small_part_is_a_warning(egs: Egs, caplog: pytest.LogCaptureFixture) -> None:
    fsdd = egs("fsdd")
    complete = [fsdd.Recording(s, d, t) for s in fsdd.SPEAKERS for d in range(10) for t in range(50)]
    for name, facts in fsdd.FACTS.items():
        chosen = [recording for recording in complete if fsdd.SETS[name](recording)]
        assert len(chosen) == facts.utterances
        assert len({recording.speaker for recording in chosen}) == facts.speakers
        fsdd.check_facts(name, chosen)
    test = [recording for recording in complete if fsdd.SETS["repository_test"](recording)]
    test.remove(fsdd.Recording("lucas", 3, 4))
    with pytest.raises(InputError, match=r"E201 repository_test: 299 utterances, expected 300 .*lucas-3-04"):
        fsdd.check_facts("repository_test", test)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        fsdd.check_facts("repository_test", test[:50])
    assert "E201 repository_test: 50 utterances" in caplog.text


def test_recordings_of_different_rates_are_not_joined(egs: Egs, corpus: Path, tone: Tone, tmp_path: Path) -> None:
    tone(corpus / "recordings" / "3_george_9.wav", 0.2, 16000)
    with pytest.raises(InputError, match=r"16000 Hz|8000 Hz"):
        egs("fsdd").prepare(corpus, tmp_path / "data", string_hours=0.001)


def test_the_pack_splits_as_its_own_list_says(egs: Egs, data_dir: Path, tmp_path: Path) -> None:
    if not (data_dir / "fsdd").is_dir():
        pytest.skip("no FSDD")
    egs("fsdd").prepare(data_dir / "fsdd", tmp_path / "data", string_hours=0.01)
    splits = json.loads((data_dir / "fsdd/splits.json").read_text())
    ours = {path.name: DataDir.read(path) for path in (tmp_path / "data").iterdir()}

    def named(name: str) -> set[str]:
        return {Path(path).stem for path in ours[name].wav_scp.values()}

    assert named("repository_test") == set(splits["repository"]["splits"]["test"])
    assert named("repository_train") | named("repository_dev") == set(splits["repository"]["splits"]["train"])
    for name in ("train", "dev", "test"):
        assert named(f"speaker_disjoint_{name}") == set(splits["speaker_disjoint"]["splits"][name])
    assert len(named("speaker_disjoint_train_10pct")) == 200
    assert named("speaker_disjoint_train_10pct") < named("speaker_disjoint_train")
