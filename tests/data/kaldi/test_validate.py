"""Every rule that the golden does not show, and how rules keep out of each other's way."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from speechkit.data.kaldi.ark import write_ark
from speechkit.data.kaldi.problem import Problem
from speechkit.data.kaldi.validate import ValidateOptions, validate
from speechkit.errors import InputError
from tests.data.datadirs import PLAIN, SEGMENTED, make, tone

DEFAULT = ValidateOptions()


def found(path: Path, **options: Any) -> list[tuple[str, int, str]]:
    return [(p.file, p.line, p.code) for p in validate(path, replace(DEFAULT, **options))]


def messages(path: Path, **options: Any) -> list[str]:
    return [p.message for p in validate(path, replace(DEFAULT, **options))]


FORM = {
    "no spk2utt": ({"spk2utt": None}, [("spk2utt", 0, "E101")]),
    "no wav.scp": ({"wav.scp": None}, [("wav.scp", 0, "E101")]),
    "byte that is not UTF-8": ({"text": b"s01-u1 a \xe4\ns01-u2 b c\ns02-u1 d\n"}, [("text", 1, "E103")]),
    "carriage return and no newline": (
        {"text": "s01-u1 a\ns01-u2 b\ns02-u1 c d\r"},
        [("text", 3, "E104"), ("text", 3, "E104")],
    ),
    "byte order mark": ({"utt2spk": "\ufeff" + PLAIN["utt2spk"]}, [("utt2spk", 1, "E110")]),
    "two spaces": ({"text": "s01-u1  a b\ns01-u2 c  d\ns02-u1 e\n"}, [("text", 1, "E106"), ("text", 2, "E106")]),
    "space at the ends": ({"text": " s01-u1 a\ns01-u2 b \ns02-u1 c\n"}, [("text", 1, "E106"), ("text", 2, "E106")]),
    "tab after the key of a path": ({"wav.scp": "s01-u1\ta\ns01-u2 b\ns02-u1 c\n"}, [("wav.scp", 1, "E106")]),
    "spaces inside a command": ({"wav.scp": "s01-u1 sox  a\t.wav |\ns01-u2 b\ns02-u1 c\u00a0d\n"}, []),
    "blank line": ({"text": "s01-u1 a\n\ns01-u2 b\ns02-u1 c\n"}, [("text", 2, "E107")]),
    "key alone": ({"utt2dur": "s01-u1 1.0\ns01-u2\ns02-u1 1.0\n"}, [("utt2dur", 2, "E107")]),
    "speaker without utterances": (
        {"spk2utt": "s01 s01-u1 s01-u2\ns02\n"},
        [("spk2utt", 2, "E107"), ("spk2utt", 2, "E121")],
    ),
    "empty optional table": ({"utt2lang": ""}, [("utt2lang", 0, "E102")]),
    "files that are no tables": ({"stm": "a b", "text.bak": "x", "feats_type": "raw"}, []),
    "duplicate takes no part in order": (
        {"text": "s01-u1 a\ns01-u2 b\ns01-u1 a\ns02-u1 c\n"},
        [("text", 3, "E109")],
    ),
}

SETS = {
    "translation lacks an utterance": ({"text.tc.de": "s01-u1 a\ns02-u1 b\n"}, [("text.tc.de", 0, "E122")]),
    "utt2uniq is not compared": ({"utt2uniq": "sp0.9-x x\n"}, []),
    "utt2category is": ({"utt2category": "s01-u1 a\ns01-u2 a\ns02-u1 a\ns09 a\n"}, [("utt2category", 4, "E122")]),
    "wav.scp lacks an utterance": ({"wav.scp": "s01-u1 a\ns02-u1 b\n"}, [("wav.scp", 0, "E122")]),
    "speaker tables": (
        {"spk2gender": "s01 m\n", "spk2warp": "s01 1.0\ns02 1.1\ns03 1.2\n"},
        [("spk2gender", 0, "E124"), ("spk2warp", 3, "E124")],
    ),
    "speaker absent from spk2utt": (
        {"spk2utt": "s01 s01-u1 s01-u2\n"},
        [("spk2utt", 0, "E121"), ("spk2utt", 1, "W181")],
    ),
    "spk2utt lists an unknown utterance, and one twice": (
        {"spk2utt": "s01 s01-u1 s01-u2 s01-u2\ns02 s02-u1 s02-u9\n"},
        [("spk2utt", 1, "E121"), ("spk2utt", 2, "E121")],
    ),
    "same audio": ({"wav.scp": "s01-u1 a.wav\ns01-u2 b.wav\ns02-u1 a.wav\n"}, [("wav.scp", 3, "W167")]),
    "same audio, other channel": (
        {
            "wav.scp": "s01-u1 a.wav\ns01-u2 b.wav\ns02-u1 a.wav\n",
            "reco2file_and_channel": "s01-u1 a A\ns01-u2 b A\ns02-u1 a B\n",
        },
        [],
    ),
    "home path in a list of features": (
        {"feats.scp": "s01-u1 ~/f.ark:3\n" + "".join(f"{u} none.ark:3\n" for u in ("s01-u2", "s02-u1"))},
        [("feats.scp", 1, "E161"), ("feats.scp", 2, "E171"), ("feats.scp", 3, "E171")],
    ),
    "standard input": ({"wav.scp": "s01-u1 -\ns01-u2 b.wav\ns02-u1 c.wav\n"}, [("wav.scp", 1, "E161")]),
}

VALUES = {
    "durations": (
        {"utt2dur": "s01-u1 -1\ns01-u2 x\ns02-u1 nan\n"},
        [("utt2dur", 1, "E151"), ("utt2dur", 2, "E151"), ("utt2dur", 3, "E151")],
    ),
    "counts": (
        {"utt2num_samples": "s01-u1 0\ns01-u2 10\ns02-u1 1_0\n"},
        [("utt2num_samples", n, "E151") for n in (1, 3)],
    ),
    "warps": ({"utt2warp": "s01-u1 0.5\ns01-u2 1.49\ns02-u1 x\n"}, [("utt2warp", 1, "E153"), ("utt2warp", 3, "E153")]),
    "channels": (
        {"reco2file_and_channel": "s01-u1 a A\ns01-u2 b 1\ns02-u1 c 2\n"},
        [("reco2file_and_channel", 2, "W153"), ("reco2file_and_channel", 3, "E153")],
    ),
    "not composed": ({"text": "s01-u1 u\u0308ber alles\ns01-u2 b\ns02-u1 c\n"}, [("text", 1, "W143")]),
    "reserved symbols in a translation": (
        {"text.lc.de": "s01-u1 #0 a\ns01-u2 b\ns02-u1 </s>\n"},
        [("text.lc.de", n, "E141") for n in (1, 3)],
    ),
    "rate of speech": (
        {
            "text": f"s01-u1 a b c d e f g h i\ns01-u2 a\ns02-u1 {41 * 'x'}\n",
            "utt2dur": "s01-u1 1.0\ns01-u2 6\ns02-u1 1.0\n",
        },
        [("text", 1, "W144"), ("text", 2, "W144"), ("text", 3, "W144")],
    ),
}

TIMES = {
    "five fields": ({"segments": "s01-u1 r1 0 1.5 0\ns01-u2 r1 0 3 1\ns02-u1 r2 0 2\n"}, []),
    "no numbers": (
        {"segments": "s01-u1 r1 0 x\ns01-u2 r1 inf 3\ns02-u1 r2 -0.5 -0.2\n"},
        [("segments", 1, "E131"), ("segments", 2, "E131"), ("segments", 3, "E133")],
    ),
    "start beyond the recording": (
        {"segments": "s01-u1 r1 0 1\ns01-u2 r1 3 3.4\ns02-u1 r2 0 2\n"},
        [("segments", 2, "E132")],
    ),
    "overlap": (
        {
            "segments": "s01-u1 r1 0 2.31\ns01-u2 r1 2 3\ns02-u1 r1 0 3\n",
            "wav.scp": "r1 a.wav\n",
            "reco2dur": "r1 3.0\n",
        },
        [("segments", 2, "W135")],
    ),
    "overlap with the end of the recording": (
        {"segments": "s01-u1 r1 1 2\ns01-u2 r1 0.5 -1\ns02-u1 r2 0 1\n"},
        [("segments", 1, "W135")],
    ),
    "0.1 s is not too short": (
        {"segments": "s01-u1 r1 0.2 0.3\ns01-u2 r1 1 2\ns02-u1 r2 0 1\n", "text": "s01-u1\ns01-u2 a b\ns02-u1 b\n"},
        [("text", 1, "E142")],
    ),
    "table of recordings": (
        {"reco2file_and_channel": "r1 a A\nr9 b A\n"},
        [("reco2file_and_channel", 0, "E123"), ("reco2file_and_channel", 2, "E123")],
    ),
    "0.05 s more is no disagreement": ({"utt2dur": "s01-u1 1.55\ns01-u2 1.5\ns02-u1 1.69\n"}, [("utt2dur", 3, "E152")]),
}


@pytest.mark.parametrize(
    ("files", "expected"), [*FORM.values(), *SETS.values(), *VALUES.values()], ids=[*FORM, *SETS, *VALUES]
)
def test_a_rule_names_its_lines_and_no_other_rule_speaks(tmp_path: Path, files: Any, expected: Any) -> None:
    whole = {name: content for name, content in {**PLAIN, **files}.items() if content is not None}
    assert found(make(tmp_path, whole)) == sorted(expected)


@pytest.mark.parametrize(("files", "expected"), TIMES.values(), ids=TIMES)
def test_a_rule_on_times_names_its_lines(tmp_path: Path, files: Any, expected: Any) -> None:
    assert found(make(tmp_path, {**SEGMENTED, "reco2dur": "r1 3.0\nr2 2.0\n", **files})) == sorted(expected)


def test_a_slash_in_a_key_is_named_in_every_table(tmp_path: Path) -> None:
    files = {name: content.replace("s02-u1", "s02/u1") for name, content in PLAIN.items()}
    assert found(make(tmp_path, files)) == [(name, 3, "E110") for name in ("text", "utt2spk", "wav.scp")]


def test_features_alone_need_no_recordings(tmp_path: Path) -> None:
    write_ark(
        tmp_path / "f.ark",
        ((u, np.zeros((9, 4), np.float32)) for u in ("s01-u1", "s01-u2", "s02-u1")),
        scp=tmp_path / "d/feats.scp",
    )
    files = {name: content for name, content in PLAIN.items() if name != "wav.scp"}
    assert found(make(tmp_path / "d", files)) == []
    assert found(make(tmp_path / "e", PLAIN), feats=True) == [("feats.scp", 0, "E101")]


def test_features_of_another_dimension_or_at_no_object_are_named(tmp_path: Path) -> None:
    arrays = [(u, np.zeros((9, 3 if u == "s01-u2" else 4), np.float32)) for u in ("s01-u1", "s01-u2", "s02-u1")]
    write_ark(tmp_path / "f.ark", arrays, scp=tmp_path / "feats.scp")
    assert validate(make(tmp_path, PLAIN), DEFAULT) == [
        Problem(file="feats.scp", line=2, code="E171", message="dimension 3, others 4")
    ]
    (tmp_path / "feats.scp").write_text(
        f"s01-u1 {tmp_path}/f.ark:7\ns01-u2 {tmp_path}/f.ark:8\ns02-u1 {tmp_path}/no.ark:3\n"
    )
    assert found(tmp_path) == [("feats.scp", 2, "E171"), ("feats.scp", 3, "E171")]


def test_a_transcript_of_more_than_one_percent_of_all_utterances_is_named(tmp_path: Path) -> None:
    ids = [f"s{n // 500}-{n:04}" for n in range(1000)]
    same = {ids[n]: "THANK YOU" for n in (3, *range(500, 510))}
    files = {
        "utt2spk": "".join(f"{id} {id[:2]}\n" for id in ids),
        "spk2utt": f"s0 {' '.join(ids[:500])}\ns1 {' '.join(ids[500:])}\n",
        "text": "".join(f"{id} {same.get(id, id)}\n" for id in ids),
        "wav.scp": "".join(f"{id} {id}.wav\n" for id in ids),
    }
    assert found(make(tmp_path, files)) == [("text", 4, "W145")]
    assert messages(tmp_path) == ["'THANK YOU' is the transcript of 11 utterances"]
    (tmp_path / "text").write_text(files["text"].replace(f"{ids[3]} THANK YOU", f"{ids[3]} no"))
    assert found(tmp_path) == []


def test_long_utterances_are_named_where_their_length_comes_from(tmp_path: Path) -> None:
    make(tmp_path, {**PLAIN, "utt2dur": "s01-u1 1.0\ns01-u2 2.0\ns02-u1 1.0\n"})
    assert found(tmp_path, max_seconds=1.5) == [("utt2dur", 2, "W134")]
    make(tmp_path / "s", SEGMENTED)
    assert found(tmp_path / "s", max_seconds=1.6) == [("segments", 3, "W134")]


def test_an_empty_transcript_is_a_warning_when_allowed(tmp_path: Path) -> None:
    make(tmp_path, {**PLAIN, "text": "s01-u1\ns01-u2 b\ns02-u1 c\n"})
    assert found(tmp_path, allow_empty_text=True) == [("text", 1, "W142")]


def recordings(folder: Path) -> Path:
    """A directory with three good recordings beside it."""
    for name, frequency in (("a", 200.0), ("b", 250.0), ("c", 300.0)):
        tone(folder / f"{name}.wav", 1.0, frequency=frequency)
    return make(folder / "d", {**PLAIN, "utt2dur": "s01-u1 1.0\ns01-u2 1.0\ns02-u1 1.0\n"})


@pytest.mark.parametrize("depth", ["none", "stat", "header", "full"])
def test_good_recordings_are_good_at_every_depth(tmp_path: Path, depth: str) -> None:
    assert found(recordings(tmp_path), check_audio=depth, root=tmp_path) == []


def test_a_missing_recording_is_named_from_stat_on(tmp_path: Path) -> None:
    path = recordings(tmp_path)
    (tmp_path / "b.wav").unlink()
    assert found(path, root=tmp_path) == []
    for depth in ("stat", "header", "full"):
        assert found(path, check_audio=depth, root=tmp_path) == [("wav.scp", 2, "E162")]
    assert messages(path, check_audio="stat", root=tmp_path) == [
        f"no such audio file 'b.wav' (relative to '{tmp_path}')"
    ]


@pytest.mark.parametrize("content", [b"", b"hello, this is no recording at all"])
def test_an_unreadable_header_is_named_from_header_on(tmp_path: Path, content: bytes) -> None:
    path = recordings(tmp_path)
    (tmp_path / "b.wav").write_bytes(content)
    assert found(path, check_audio="stat", root=tmp_path) == []
    assert found(path, check_audio="header", root=tmp_path) == [("wav.scp", 2, "E163")]


def test_broken_flac_and_nan_are_found_by_decoding(tmp_path: Path) -> None:
    path = recordings(tmp_path)
    good = io.BytesIO()
    soundfile.write(good, np.random.default_rng(0).uniform(-0.5, 0.5, 8000), 8000, format="FLAC")
    (tmp_path / "b.wav").write_bytes(good.getvalue()[: len(good.getvalue()) // 2])
    soundfile.write(tmp_path / "c.wav", np.full(8000, np.nan, np.float32), 8000, subtype="FLOAT")
    assert found(path, check_audio="header", root=tmp_path) == []
    assert found(path, check_audio="full", root=tmp_path) == [("wav.scp", 2, "E164"), ("wav.scp", 3, "E164")]


def test_a_recording_shorter_than_its_header_says_is_a_warning(tmp_path: Path) -> None:
    path = recordings(tmp_path)
    (path / "utt2dur").unlink()
    (tmp_path / "b.wav").write_bytes((tmp_path / "b.wav").read_bytes()[:8044])
    assert found(path, check_audio="header", root=tmp_path) == [("wav.scp", 2, "W164")]


def test_silence_and_clipping_are_warnings(tmp_path: Path) -> None:
    path = recordings(tmp_path)
    soundfile.write(tmp_path / "b.wav", np.zeros(8000, np.int16), 8000)
    soundfile.write(tmp_path / "c.wav", np.repeat(np.array([32767, 5], np.int16), [144, 7856]), 8000)
    assert messages(path, check_audio="full", root=tmp_path) == [
        "all samples are zero",
        "1.8 % of samples at full scale",
    ]


def test_other_rates_and_channels_than_most_are_warnings(tmp_path: Path) -> None:
    path = recordings(tmp_path)
    tone(tmp_path / "a.wav", 1.0, rate=16000)
    tone(tmp_path / "c.wav", 1.0, channels=2)
    assert messages(path, check_audio="header", root=tmp_path) == [
        "16000 Hz here; 2 of 3 files are 8000 Hz",
        "channels: 2 here; 2 of 3 files have 1",
    ]


def test_measured_lengths_stand_against_stated_ones(tmp_path: Path) -> None:
    path = recordings(tmp_path)
    make(path, {"utt2dur": "s01-u1 1.0\ns01-u2 1.1\ns02-u1 1.0\n"})
    assert messages(path, check_audio="header", root=tmp_path) == ["1.10 s here, 1.00 s by audio"]
    segments = "s01-u1 s01-u1 0 1.4\ns01-u2 s01-u2 0 1.6\ns02-u1 s02-u1 0 1\n"
    (path / "utt2dur").unlink()
    make(path, {"segments": segments, "reco2dur": "s01-u1 1.2\ns01-u2 1.0\ns02-u1 1.0\n"})
    assert found(path, check_audio="header", root=tmp_path) == [("reco2dur", 1, "E152"), ("segments", 2, "E132")]


def test_commands_need_leave(tmp_path: Path) -> None:
    path = recordings(tmp_path)
    make(path, {"wav.scp": "s01-u1 a.wav\ns01-u2 cat b.wav |\ns02-u1 c.wav\n"})
    assert found(path, check_audio="stat", root=tmp_path) == []
    assert found(path, check_audio="header", root=tmp_path) == [("wav.scp", 2, "E413")]
    assert found(path, check_audio="full", root=tmp_path, allow_pipes=True) == []


def test_leaks_are_found_by_id_and_by_content(tmp_path: Path) -> None:
    path = recordings(tmp_path)
    samples, rate = soundfile.read(tmp_path / "b.wav", dtype="int16")
    soundfile.write(tmp_path / "other.flac", samples, rate)
    test = make(
        tmp_path / "test",
        {
            "utt2spk": "s02-u1 s02\nx-1 x\n",
            "wav.scp": f"s02-u1 {tmp_path}/none.wav\nx-1 {tmp_path}/other.flac\n",
        },
    )
    assert found(path, against=test) == [("utt2spk", 3, "W191")]
    assert messages(path, against=test) == [f"also in {test}:1"]
    assert found(path, against=test, check_audio="full", root=tmp_path) == [
        ("utt2spk", 3, "W191"),
        ("wav.scp", 2, "W191"),
    ]


def test_a_folder_that_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path / "file"):
        (tmp_path / "file").touch()
        with pytest.raises(InputError):
            validate(path, DEFAULT)
