"""lhotse's cuts in and out; lhotse itself is the reference where it is installed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speechkit.audio.files import read_int16, save
from speechkit.data.kaldi.rxfilename import open_audio
from speechkit.data.kaldi.tables import DataDir
from speechkit.data.kaldi.utterances import measure, utterances
from speechkit.data.lhotse.forms import manifest, read_cuts, supervision_fields
from speechkit.data.lhotse.manifests import data_dir, write_manifests
from speechkit.data.lhotse.shar import SharUtterances, write_shar
from speechkit.data.utterance import Utterance
from speechkit.errors import InputError
from tests.data.corpora import TABLES, assert_same, corpus, noise
from tests.data.datadirs import make


@pytest.fixture(scope="module")
def lhotse() -> Any:
    pytest.importorskip("lhotse", reason="lhotse is not installed: pip install 'speechkit-torch[dev]'")
    from speechkit.compat import load_torchaudio

    load_torchaudio()  # lhotse imports it as it is
    import lhotse

    return lhotse


@pytest.fixture
def kaldi(tmp_path: Path) -> Path:
    return corpus(tmp_path)


def export(kaldi: Path, out: Path, root: Path, **options: bool) -> list[str]:
    return write_manifests(out, DataDir.read(kaldi), measure(kaldi, root=root, **options))


def back(cuts: Path, out: Path, root: Path) -> tuple[list[Utterance], list[str]]:
    tables, notes = data_dir(read_cuts(manifest(cuts)))
    tables.write(out)
    return utterances(out, root=root), notes


def objects(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def test_a_data_directory_comes_back_from_its_manifests(tmp_path: Path, kaldi: Path) -> None:
    assert export(kaldi, tmp_path / "out", tmp_path) == []
    found, notes = back(tmp_path / "out", tmp_path / "back", tmp_path / "elsewhere")
    assert notes == []
    expected = utterances(kaldi, root=tmp_path)
    assert_same(found, expected)
    assert [(u.path, u.start, u.channel) for u in found] == [(u.path, u.start, u.channel) for u in expected]
    tables, before = DataDir.read(tmp_path / "back"), DataDir.read(kaldi)
    assert tables.segments == before.segments | {"s1-u1": "r1 0.00 1.50"}
    kept = ("text", "utt2spk", "utt2lang", "spk2gender", "text.tc.en")
    assert {name: tables.tables()[name] for name in kept} == {name: before.tables()[name] for name in kept}


def test_whole_recordings_come_back_without_segments(tmp_path: Path) -> None:
    tables = {"wav.scp": "u1 a.flac\nu2 b.wav\n", "utt2spk": "u1 s1\nu2 s2\n", "text": "u1 a\nu2 b\n"}
    kaldi = corpus(tmp_path, tables)
    export(kaldi, tmp_path / "out", tmp_path)
    found, _ = back(tmp_path / "out/cuts.jsonl.gz", tmp_path / "back", tmp_path)
    assert found == utterances(kaldi, root=tmp_path)
    assert not (tmp_path / "back/segments").exists()


def test_the_same_directory_gives_the_same_bytes(tmp_path: Path, kaldi: Path) -> None:
    for name in ("one", "two"):
        export(kaldi, tmp_path / name, tmp_path)
    for name in ("recordings", "supervisions", "cuts"):
        one, two = ((tmp_path / each / f"{name}.jsonl.gz").read_bytes() for each in ("one", "two"))
        assert one == two


def test_commands_are_commands_and_places_in_archives_are_refused(tmp_path: Path) -> None:
    tables = {"wav.scp": f"u1 cat {tmp_path}/b.wav |\n", "utt2spk": "u1 s\n", "text": "u1 a\n"}
    kaldi = corpus(tmp_path, tables)
    export(kaldi, tmp_path / "out", tmp_path, allow_pipes=True)
    (cut,) = objects(tmp_path / "out/cuts.jsonl.gz")
    (source,) = cut["recording"]["sources"]
    assert source == {"type": "command", "channels": [0], "source": f"cat {tmp_path}/b.wav"}
    (read,) = read_cuts(tmp_path / "out/cuts.jsonl.gz")
    assert read.utterance.path == f"cat {tmp_path}/b.wav |"
    (tmp_path / "b.ark").write_bytes(b"u1 " + (tmp_path / "b.wav").read_bytes())
    make(kaldi, {"wav.scp": "u1 b.ark:3\n"})
    with pytest.raises(InputError, match=r"recording 'u1' lies at .*b\.ark:3, which lhotse cannot read") as caught:
        export(kaldi, tmp_path / "again", tmp_path)
    assert "to-shar" in caught.value.hint
    assert not (tmp_path / "again").exists()


def test_tables_without_a_place_are_named(tmp_path: Path) -> None:
    feats = "".join(f"{id} feats.ark:5\n" for id in ("s1-u1", "s1-u2", "s2-u1", "s2-u2"))
    kaldi = corpus(tmp_path, {**TABLES, "feats.scp": feats, "spk2warp": "s1 1.0\ns2 1.0\n", "reco2dur": "r1 3\n"})
    assert sorted(export(kaldi, tmp_path / "out", tmp_path)) == ["feats.scp", "spk2warp"]


def test_lhotse_reads_our_manifests(lhotse: Any, tmp_path: Path, kaldi: Path) -> None:
    export(kaldi, tmp_path / "out", tmp_path)
    cuts = lhotse.CutSet.from_file(tmp_path / "out/cuts.jsonl.gz").to_eager()
    lhotse.validate(cuts, read_data=True)
    built = lhotse.CutSet.from_manifests(
        recordings=lhotse.RecordingSet.from_file(tmp_path / "out/recordings.jsonl.gz"),
        supervisions=lhotse.SupervisionSet.from_file(tmp_path / "out/supervisions.jsonl.gz"),
    ).trim_to_supervisions()
    trimmed = {cut.supervisions[0].id: cut for cut in built}
    for utterance, cut in zip(utterances(kaldi, root=tmp_path), cuts, strict=True):
        (supervision,) = cut.supervisions
        assert (cut.id, supervision.text, supervision.speaker) == (utterance.id, utterance.text, utterance.speaker)
        assert (cut.num_samples, cut.sampling_rate) == (utterance.num_samples, utterance.sample_rate)
        expected, _ = read_int16(
            utterance.path, start=utterance.start, num_samples=utterance.num_samples, channel=utterance.channel
        )
        np.testing.assert_array_equal(np.rint(cut.load_audio()[0] * 32768), expected)
        np.testing.assert_array_equal(np.rint(trimmed[utterance.id].load_audio()[0] * 32768), expected)
    assert [cut.supervisions[0].gender for cut in cuts] == ["f", "f", "m", "m"]
    assert cuts["s1-u1"].supervisions[0].language == "de"
    assert cuts["s1-u1"].supervisions[0].custom == {"text.tc.en": "Greetings from Cologne"}


def test_lhotse_writes_our_manifests_as_we_do(lhotse: Any, tmp_path: Path, kaldi: Path) -> None:
    export(kaldi, tmp_path / "out", tmp_path)
    for name, kind in (
        ("recordings", lhotse.RecordingSet),
        ("supervisions", lhotse.SupervisionSet),
        ("cuts", lhotse.CutSet),
    ):
        path = tmp_path / f"out/{name}.jsonl.gz"
        kind.from_file(path).to_file(tmp_path / f"{name}.jsonl.gz")
        assert objects(tmp_path / f"{name}.jsonl.gz") == objects(path)


def test_lhotse_reads_our_shar(lhotse: Any, tmp_path: Path, kaldi: Path) -> None:
    found = utterances(kaldi, root=tmp_path)
    fields, _ = supervision_fields(DataDir.read(kaldi))
    write_shar(tmp_path / "shar", found, fields, shard_size=3)
    cuts = list(lhotse.CutSet.from_shar(in_dir=tmp_path / "shar"))
    for cut, utterance in zip(cuts, found, strict=True):
        lhotse.validate(cut, read_data=True)
        assert (cut.id, cut.supervisions[0].text) == (utterance.id, utterance.text)
        expected, _ = read_int16(
            utterance.path, start=utterance.start, num_samples=utterance.num_samples, channel=utterance.channel
        )
        np.testing.assert_array_equal(np.rint(cut.load_audio()[0] * 32768), expected)


def recording(folder: Path, name: str, channels: int = 1) -> dict[str, Any]:
    path = folder / f"{name}.wav"
    save(path, np.stack([noise(f"{name}{c}", 16000) for c in range(channels)]), 16000)
    numbers = list(range(channels))
    source = {"type": "file", "channels": numbers, "source": str(path)}
    return {
        "id": name,
        "sources": [source],
        "sampling_rate": 16000,
        "num_samples": 16000,
        "duration": 1.0,
        "channel_ids": numbers,
    }


def cut(id: str, recording: dict[str, Any], **fields: Any) -> dict[str, Any]:
    plain = {"id": id, "start": 0.25, "duration": 0.5, "channel": 0, "supervisions": [], "type": "MonoCut"}
    return plain | {"recording": recording} | fields


def says(text: str | None = None, **fields: Any) -> dict[str, Any]:
    known = {"id": "s", "recording_id": "r", "start": 0.0, "duration": 0.5, "channel": 0, **fields}
    return known if text is None else known | {"text": text}


def write(path: Path, *cuts: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(c) + "\n" for c in cuts))
    return path


def test_what_lhotse_writes_is_read(lhotse: Any, tmp_path: Path) -> None:
    save(tmp_path / "a.wav", noise("a", 44100), 44100)
    save(tmp_path / "b.wav", np.stack([noise("b", 16000), noise("c", 16000)]), 16000)
    a = lhotse.Recording.from_file(tmp_path / "a.wav", recording_id="a")
    b = lhotse.Recording.from_file(tmp_path / "b.wav", recording_id="b")
    said = lhotse.SupervisionSegment(
        id="x", recording_id="a", start=0, duration=0.3, text="hello  there", speaker="s1", language="en", gender="F"
    )
    cuts = lhotse.CutSet.from_cuts(
        [
            lhotse.MonoCut(id="u1", start=1 / 3, duration=0.3, channel=0, recording=a, supervisions=[said]),
            lhotse.MonoCut(id="u2", start=0.25, duration=0.5, channel=1, recording=b, custom={"snr": 3.0}),
            lhotse.MonoCut(id="u3", start=0.0, duration=1.0, channel=0, recording=b),
            lhotse.MultiCut(id="u4", start=0.0, duration=1.0, channel=[0, 1], recording=b),
        ]
    )
    for name in ("cuts.jsonl.gz", "cuts.jsonl"):
        cuts.to_file(tmp_path / name)
        found, notes = back(tmp_path / name, tmp_path / "back", tmp_path)
        for utterance, expected in zip(found, cuts, strict=True):
            samples, _ = read_int16(
                utterance.path, start=utterance.start, num_samples=utterance.num_samples, channel=utterance.channel
            )
            audio = np.rint(expected.load_audio() * 32768)
            np.testing.assert_array_equal(samples, np.rint(audio.mean(0)))
        assert [(u.text, u.speaker) for u in found] == [("hello there", "s1"), ("", "u2"), ("", "u3"), ("", "u4")]
        assert notes == [
            "3 cuts without text, such as 'u2': the transcript is empty",
            "1 cut of several channels, such as 'u4': these will be averaged",
            "left out, for want of a place: "
            "custom 'snr' of cuts, gender (not all have one), language (not all have one)",
        ]
        tables = DataDir.read(tmp_path / "back")
        assert tables.wav_scp.keys() == {"a", "b-0", "b-1", "b-0_1"}
        assert tables.reco2file_and_channel == {"a": "a A", "b-0": "b A", "b-1": "b B"}


@pytest.mark.parametrize("format", ["flac", "wav", "original"])
def test_what_lhotse_stores_is_read(lhotse: Any, tmp_path: Path, format: str) -> None:
    save(tmp_path / "a.wav", noise("a", 44100), 44100)
    save(tmp_path / "b.wav", np.stack([noise("b", 16000), noise("c", 16000)]), 16000)
    a = lhotse.Recording.from_file(tmp_path / "a.wav", recording_id="a")
    b = lhotse.Recording.from_file(tmp_path / "b.wav", recording_id="b")
    said = lhotse.SupervisionSegment(id="x", recording_id="a", start=0, duration=0.3, text="hello", speaker="s1")
    u1 = lhotse.MonoCut(id="u1", start=1 / 3, duration=0.3, channel=0, recording=a, supervisions=[said])
    cuts = lhotse.CutSet.from_cuts(
        [
            u1,
            lhotse.MonoCut(id="u2", start=0.25, duration=0.5, channel=1, recording=b, custom={"snr": 3.0}),
            lhotse.MultiCut(id="u3", start=0.0, duration=1.0, channel=[0, 1], recording=b),
            u1.append(u1).with_id("u4").save_audio(tmp_path / "u4.wav"),
            u1.perturb_speed(0.9).with_id("u5"),
        ]
    )
    out = tmp_path / "shar"
    out.mkdir()
    cuts.to_shar(out, fields={"recording": format}, shard_size=2, warn_unused_fields=False)
    assert (out / "cuts.000002.jsonl.gz").is_file()
    found = SharUtterances(out)
    assert [u.id for u in found] == ["u1", "u2", "u3", "u4", "u5"]
    for utterance, expected in zip(found, lhotse.CutSet.from_shar(in_dir=out), strict=True):
        samples, rate = read_int16(*place(utterance))
        assert (len(samples), rate) == (utterance.num_samples, utterance.sample_rate)
        np.testing.assert_array_equal(samples, np.rint(np.rint(expected.load_audio() * 32768).mean(0)))
    tables, notes = data_dir(found.cuts())
    assert tables.text == {"u1": "hello", "u2": "", "u3": "", "u4": "hello hello", "u5": "hello"}
    assert "1 cut of several supervisions, such as 'u4': texts joined" in notes
    tables.write(tmp_path / "back")
    assert [u.num_samples for u in utterances(tmp_path / "back", root=tmp_path)] == [u.num_samples for u in found]


def test_what_is_refused_is_read_once_lhotse_stored_it_as_the_hint_says(lhotse: Any, tmp_path: Path) -> None:
    made = [recording(tmp_path, name, channels) for name, channels in (("a", 1), ("b", 3))]
    a, b = (lhotse.Recording.from_dict(each) for each in made)
    u = lhotse.MonoCut(id="u", start=0.25, duration=0.5, channel=0, recording=a)
    two = lhotse.MultiCut(id="two", start=0.0, duration=1.0, channel=[0, 2], recording=b)
    cuts = lhotse.CutSet.from_cuts([u.append(u).with_id("mixed"), u.perturb_speed(1.1).with_id("fast"), two])
    cuts.to_file(tmp_path / "before.jsonl")
    with pytest.raises(InputError, match="'mixed' is a MixedCut") as caught:
        list(read_cuts(tmp_path / "before.jsonl"))
    assert "cuts.save_audios('FOLDER', format='flac').to_file('cuts.jsonl.gz')" in caught.value.hint
    cuts.save_audios(tmp_path / "audio", format="flac").to_file(tmp_path / "cuts.jsonl.gz")
    found, _ = back(tmp_path / "cuts.jsonl.gz", tmp_path / "back", tmp_path)
    assert [(u.id, u.num_samples) for u in found] == [("fast", 7273), ("mixed", 16000), ("two", 16000)]


def place(utterance: Utterance) -> tuple[Any]:
    assert utterance.start == 0
    return (open_audio(utterance.path),)


def test_a_part_of_stored_audio_stays_a_part(tmp_path: Path) -> None:
    """Cuts may be made shorter after their audio was stored."""
    whole = Utterance(
        id="u", path=recording(tmp_path, "a")["sources"][0]["source"], num_samples=16000, sample_rate=16000
    )
    write_shar(tmp_path / "shar", [whole], {})
    lines = tmp_path / "shar/cuts.000000.jsonl"
    shorter = json.loads(lines.read_text()) | {"start": 0.25, "duration": 0.5}
    write(lines, shorter)
    for path in (tmp_path / "shar/cuts.index").iterdir():
        path.unlink()
    (tmp_path / "shar/cuts.index").rmdir()
    tables, _ = data_dir(SharUtterances(tmp_path / "shar").cuts())
    assert tables.segments == {"u": "u 0.25 0.75"}
    tables.write(tmp_path / "back")
    (found,) = utterances(tmp_path / "back", root=tmp_path)
    assert (found.start, found.num_samples) == (4000, 8000)


def test_a_channel_of_its_own_file_needs_no_letter(tmp_path: Path) -> None:
    left, right = recording(tmp_path, "l"), recording(tmp_path, "r")
    sources = [left["sources"][0], right["sources"][0] | {"channels": [5]}]
    array = left | {"id": "array", "sources": sources, "channel_ids": [0, 5]}
    path = write(tmp_path / "cuts.jsonl", cut("u1", array, channel=5), cut("u2", array, type="Cut"))
    found, notes = back(path, tmp_path / "back", tmp_path)
    assert [(Path(u.path).name, u.channel) for u in found] == [("r.wav", None), ("l.wav", None)]
    assert notes == []
    assert DataDir.read(tmp_path / "back").segments == {"u1": "array-5 0.25 0.75", "u2": "array-0 0.25 0.75"}


def test_values_that_differ_within_a_cut_are_left_out(tmp_path: Path) -> None:
    said = [
        says("two", start=0.3, speaker="b", language="en", custom={"utt2uniq": "x", "note": 1}),
        says("one", speaker="a", language="de", gender="x"),
    ]
    path = write(tmp_path / "cuts.jsonl", cut("u", recording(tmp_path, "r"), supervisions=said))
    tables, notes = data_dir(read_cuts(path))
    assert (tables.text, tables.utt2spk) == ({"u": "one two"}, {"u": "u"})
    assert tables.others == {"utt2uniq": {"u": "x"}}
    assert notes == [
        "1 cut of several supervisions, such as 'u': texts joined",
        "left out, for want of a place: custom 'note' of supervisions, gender, language, several speakers of a cut",
    ]


BAD: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "mixed": (lambda r: {"id": "m", "type": "MixedCut", "tracks": [{"cut": r}]}, "'m' is a MixedCut, not a piece"),
    "padding": (lambda r: {"id": "p", "type": "PaddingCut", "duration": 1, "r": r}, "'p' is a PaddingCut"),
    "a recording": (lambda r: r, "a recording, not a cut"),
    "a supervision": (lambda r: says("x", recording_id=r["id"]), "a supervision, not a cut"),
    "no recording": (lambda r: cut("u", r) | {"recording": None}, "cut 'u' has no recording"),
    "no start": (lambda r: cut("u", r, start=None), "cut 'u' has no start in seconds"),
    "beyond": (lambda r: cut("u", r, duration=2.0), "takes samples 4000 to 36000 of a recording of 16000"),
    "changed": (lambda r: cut("u", r | {"transforms": [{"name": "Speed"}]}), "changes its recording: Speed"),
    "elsewhere": (
        lambda r: cut("u", r | {"sources": [{"type": "url", "channels": [0], "source": "http://x"}]}),
        "audio of the type 'url', which is no file",
    ),
    "no channel": (lambda r: cut("u", r, channel=3), "takes channels of several files"),
    "some channels": (
        lambda r: cut("u", r | {"sources": [r["sources"][0] | {"channels": [0, 1, 2]}]}, channel=[0, 1]),
        "takes channels 0, 1 of a file with 3: one or all",
    ),
    "a third channel": (
        lambda r: cut("u", r | {"sources": [r["sources"][0] | {"channels": [0, 1, 2]}]}, channel=2),
        "takes channel 2 of a file; Kaldi has names for 0 and 1 only",
    ),
    "an id with spaces": (lambda r: cut("u 1", r), "'u 1' cannot be the id of an utterance"),
    "a recording with spaces": (lambda r: cut("u", r | {"id": "r 1"}), "'r 1' cannot be the id of a recording"),
    "a speaker with spaces": (lambda r: cut("u", r, supervisions=[says(speaker="A B")]), "'A B' cannot be the id"),
    "supervisions": (lambda r: cut("u", r, supervisions=["x"]), "the supervisions of cut 'u' are none"),
    "no sources": (lambda r: cut("u", r | {"sources": None}), "has a recording that is none of lhotse's"),
    "twice": (lambda r: cut("first", r), "two cuts have the id 'first'"),
    "a list": (lambda r: [r], "not a cut of lhotse: no JSON object"),  # type: ignore[dict-item, return-value]
}


@pytest.mark.parametrize("kind", BAD)
def test_cuts_that_cannot_be_taken_are_named(tmp_path: Path, kind: str) -> None:
    make_bad, message = BAD[kind]
    good = recording(tmp_path, "r")
    path = write(tmp_path / "cuts.jsonl", cut("first", good), make_bad(good))
    with pytest.raises(InputError) as caught:
        data_dir(read_cuts(path))
    assert message in caught.value.message
    assert "\n" not in caught.value.message
    if "two cuts" not in message and "Kaldi" not in message:
        assert caught.value.message.startswith(f"{path}:2: ")


@pytest.mark.parametrize("content", [gzip.compress(b"x" * 100)[:-9], b"\x1f\x8bnonsense", None])
def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "cuts.jsonl.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"cuts\.jsonl\.gz: cannot read: "):
        list(read_cuts(path))


def test_a_folder_without_cuts_and_a_manifest_without_lines_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a Shar folder nor one with cuts"):
        manifest(tmp_path)
    with pytest.raises(InputError, match="no cut with audio"):
        data_dir(read_cuts(write(tmp_path / "cuts.jsonl")))
