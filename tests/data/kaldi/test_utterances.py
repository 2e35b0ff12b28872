"""From data directories to utterances."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechkit.audio.files import read_int16
from speechkit.data.kaldi.rxfilename import open_audio, run_pipe
from speechkit.data.kaldi.spans import SegmentDroppedError, segment_span
from speechkit.data.kaldi.utterances import measure, utterances
from speechkit.data.utterance import Utterance
from speechkit.errors import InputError
from tests.data.datadirs import PLAIN, SEGMENTED, make, tone


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, seconds in (("a", 3.0), ("b", 2.0), ("c", 0.5)):
        tone(tmp_path / f"{name}.wav", seconds)
    return tmp_path


def test_utterances_are_whole_recordings_without_segments(folder: Path) -> None:
    found = utterances(make(folder / "d", PLAIN), root=folder)
    assert [u.id for u in found] == ["s01-u1", "s01-u2", "s02-u1"]
    assert found[1] == Utterance(
        id="s01-u2",
        path=str(folder / "b.wav"),
        num_samples=16000,
        sample_rate=8000,
        text="good day",
        speaker="s01",
    )


def test_segments_are_spans_of_samples(folder: Path) -> None:
    segments = "s01-u1 r1 0.00006 1.50\ns01-u2 r1 1.50 -1\ns02-u1 r2 0.25 2.4\n"
    found = utterances(make(folder / "d", {**SEGMENTED, "segments": segments}), root=folder)
    assert [(u.start, u.num_samples) for u in found] == [(0, 12000), (12000, 12000), (2000, 14000)]
    assert [Path(u.path).name for u in found] == ["a.wav", "a.wav", "b.wav"]


def test_dropped_segments_are_named_and_the_others_stay(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    segments = "s01-u1 r1 0.00 0.05\ns01-u2 r1 1.50 3.6\ns02-u1 r2 0.25 2.00\n"
    path = make(folder / "d", {**SEGMENTED, "segments": segments})
    with caplog.at_level(logging.WARNING):
        assert [u.id for u in utterances(path, root=folder)] == ["s02-u1"]
    assert "segments:1: W134 's01-u1'" in caplog.text
    assert "segments:2: E132 's01-u2' ends at 3.6 s but the recording lasts 3.000 s" in caplog.text


@given(st.integers(1, 400), st.integers(0, 500), st.integers(1, 500))
def test_a_segment_lies_in_its_recording_or_is_dropped(num_samples: int, start: int, length: int) -> None:
    rate = 100
    try:
        first, count = segment_span(start / rate, (start + length) / rate, num_samples, rate)
    except SegmentDroppedError:
        assert length < 10 or start + 10 > num_samples or start + length > num_samples + 50
    else:
        assert first == start
        assert count == min(length, num_samples - start)
        assert count >= 10
        assert first + count <= num_samples


def test_channels_come_from_the_table_or_the_fifth_field(folder: Path) -> None:
    tone(folder / "a.wav", 3.0, channels=2)
    files = {**SEGMENTED, "reco2file_and_channel": "r1 call B\nr2 call A\n"}
    assert [u.channel for u in utterances(make(folder / "d", files), root=folder)] == [1, 1, None]
    files["segments"] = "s01-u1 r1 0 1.5 0\ns01-u2 r1 1.5 3 1\ns02-u1 r2 0 1\n"
    assert [u.channel for u in utterances(make(folder / "d", files), root=folder)] == [0, 1, None]
    files["segments"] = "s01-u1 r1 0 1.5 2\ns01-u2 r1 1.5 3 1\ns02-u1 r2 0 1\n"
    with pytest.raises(InputError, match="segments:1: E131 channel '2' of a recording with 2 channels"):
        utterances(make(folder / "d", files), root=folder)


def test_all_problems_are_collected_and_the_first_is_named(folder: Path) -> None:
    (folder / "b.wav").write_bytes(b"no audio")
    (folder / "c.wav").unlink()
    path = make(folder / "d", PLAIN)
    measured = measure(path, root=folder)
    assert [(p.file, p.line, p.code) for p in measured.problems] == [("wav.scp", 2, "E163"), ("wav.scp", 3, "E162")]
    assert [u.id for u in measured.utterances] == ["s01-u1"]
    with pytest.raises(InputError, match=r"wav.scp:2: E163 cannot read: .* \(and 1 more\)"):
        utterances(path, root=folder)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"wav.scp": "s01-u1 a.wav\ns02-u1 c.wav\n"}, "wav.scp:0: E122 utterance 's01-u2' is in utt2spk:2 but not"),
        ({"text": "s01-u1 a\ns01-u2 b\n"}, "text:0: E122 utterance 's02-u1' is in wav.scp:3 but not here"),
        ({"segments": "s01-u1 r7 0 1\ns01-u2 r7 1 2\ns02-u1 s02-u1 0 1\n"}, "segments:1: E123 segment of unknown"),
        ({"segments": "s01-u1 s01-u1 x 1\ns01-u2 s01-u2 1 2\ns02-u1 s02-u1 0 1\n"}, "E131 start 'x' is not a number"),
        ({"segments": "s01-u1 s01-u1 -1 1\ns01-u2 s01-u2 1 2\ns02-u1 s02-u1 0 1\n"}, "segments:1: E133 start -1"),
        ({"segments": "s01-u1 s01-u1 1\ns01-u2 s01-u2 1 2\ns02-u1 s02-u1 0 1\n"}, "segments:1: E107 expected 4"),
        ({"wav.scp": "s01-u1 ~/a.wav\ns01-u2 b.wav\ns02-u1 c.wav\n"}, "wav.scp:1: E161 '~' is not expanded"),
        ({"wav.scp": "s01-u1 -\ns01-u2 b.wav\ns02-u1 c.wav\n"}, "wav.scp:1: E161 '-' is not a recording"),
        ({"wav.scp": "s01-u1 cat a.wav |\ns01-u2 b.wav\ns02-u1 c.wav\n"}, "wav.scp:1: E413 .* is a command"),
    ],
)
def test_what_cannot_be_used_is_named_by_file_and_line(folder: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        utterances(make(folder / "d", {**PLAIN, **files}), root=folder)


def test_commands_run_in_the_root_when_allowed(folder: Path) -> None:
    wav = "s01-u1 cat a.wav |\ns01-u2 b.wav\ns02-u1 c.wav\n"
    found = utterances(make(folder / "d", {**PLAIN, "wav.scp": wav}), root=folder, allow_pipes=True)
    assert (found[0].path, found[0].num_samples) == ("cat a.wav |", 24000)
    samples, _ = read_int16(open_audio(found[0].path, root=folder, allow_pipes=True))
    np.testing.assert_array_equal(samples, read_int16(folder / "a.wav")[0])


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("echo one >&2; echo two >&2; exit 3", "failed with status 3: two"),
        ("cat", "put nothing out"),  # its standard input is closed
        ("no-such-command", "failed with status 127: .*not found"),
    ],
)
def test_a_command_that_fails_is_an_error(tmp_path: Path, command: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        run_pipe(command, cwd=tmp_path)
    assert caught.value.code == "E413"


def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(InputError, match=r"took longer than 0.2 s"):
        run_pipe("(sleep 30; echo late) | cat", cwd=tmp_path, timeout_s=0.2)
    assert time.monotonic() - started < 10


def test_an_audio_object_in_an_archive_is_read(folder: Path) -> None:
    flac = folder / "b.flac"
    tone(flac, 2.0)
    plain, tagged = (folder / "a.wav").read_bytes(), flac.read_bytes()
    archive = b"x " + plain + b"y AUDIO" + b"\x03" + len(tagged).to_bytes(3, "little") + tagged
    (folder / "a.ark").write_bytes(archive + b"z ")
    wav = f"s01-u1 a.ark:2\ns01-u2 a.ark:{4 + len(plain)}\ns02-u1 c.wav\n"
    found = utterances(make(folder / "d", {**PLAIN, "wav.scp": wav}), root=folder)
    assert [u.num_samples for u in found] == [24000, 16000, 4000]
    np.testing.assert_array_equal(read_int16(open_audio(found[1].path))[0], read_int16(flac)[0])


def test_an_audio_file_in_a_tar_is_read(folder: Path) -> None:
    plain, other = (folder / "a.wav").read_bytes(), (folder / "b.wav").read_bytes()
    (folder / "a.tar").write_bytes(bytes(512) + plain + other)
    wav = f"s01-u1 a.tar:512+{len(plain)}\ns01-u2 a.tar:{512 + len(plain)}+{len(other)}\ns02-u1 c.wav\n"
    path = make(folder / "d", {**PLAIN, "wav.scp": wav})
    found = utterances(path, root=folder)
    assert found[0].path == f"{folder}/a.tar:512+{len(plain)}"
    for utterance, name in zip(found, ("a", "b", "c"), strict=True):
        np.testing.assert_array_equal(read_int16(open_audio(utterance.path))[0], read_int16(folder / f"{name}.wav")[0])
    (folder / "a.tar").write_bytes(bytes(512) + plain + other[:-1])
    with pytest.raises(
        InputError, match=rf"wav.scp:2: E171 .*a.tar: cut short: {len(other) - 1} of {len(other)} bytes"
    ):
        utterances(path, root=folder)


def test_a_place_without_audio_in_an_archive_is_an_error(folder: Path) -> None:
    (folder / "a.ark").write_bytes(b"x " + (folder / "a.wav").read_bytes())
    wav = "s01-u1 a.ark:3\ns01-u2 b.wav\ns02-u1 c.wav\n"
    with pytest.raises(InputError, match=r"wav.scp:1: E171 .*a.ark:3"):
        utterances(make(folder / "d", {**PLAIN, "wav.scp": wav}), root=folder)
