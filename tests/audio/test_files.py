"""Recordings in and out: 16 bits that stay what they are, spans, blocks, sources, channels."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from speechkit import draws
from speechkit.audio import files
from speechkit.errors import InputError, OutputError

LOSSLESS = ["wav", "flac", "aiff", "au", "caf", "w64", "rf64"]
LOSSY = ["ogg", "opus", "mp3"]


def noise(samples: int, channels: int = 1) -> np.ndarray:
    """int16 `(C, T)` of all values."""
    words = draws.words(0, 0, "test", [f"{samples}"], samples * channels)
    return (draws.randint(words, 65_536) - 32_768).astype(np.int16).reshape(channels, samples)


def tone(samples: int) -> np.ndarray:
    """int16 `(1, T)`, for codings that cannot keep noise."""
    return np.rint(12_000 * np.sin(0.05 * np.arange(samples)))[None].astype(np.int16)


@given(
    format=st.sampled_from(LOSSLESS),
    channels=st.integers(1, 4),
    samples=st.integers(1, 300),
    rate=st.sampled_from([4000, 8000, 16_000, 44_100, 96_000]),
)
def test_16_bits_saved_and_read_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, format: str, channels: int, samples: int, rate: int
) -> None:
    path = tmp_path_factory.mktemp("save") / f"x.{format}"
    written = noise(samples, channels)
    files.save(path, written, rate)
    for channel in range(channels):
        found, found_rate = files.read_int16(path, channel=channel)
        assert found_rate == rate
        np.testing.assert_array_equal(found, written[channel])
    np.testing.assert_array_equal(files.read(path).samples, written / np.float32(32_768))


@pytest.mark.parametrize("format", LOSSLESS)
def test_floats_are_quantized_alike_in_every_container(tmp_path: Path, format: str) -> None:
    given_floats = np.array([0, 0.5 / 32_768, 1.5 / 32_768, -0.5 / 32_768, 1, -1, 2, -2, 0.3], dtype=np.float32)
    files.save(tmp_path / f"x.{format}", given_floats, 16_000)
    expected = [0, 0, 2, 0, 32_767, -32_768, 32_767, -32_768, 9830]
    assert files.read_int16(tmp_path / f"x.{format}")[0].tolist() == expected


@pytest.mark.parametrize("format", LOSSY)
def test_lossy_formats_keep_rate_and_length(tmp_path: Path, format: str) -> None:
    files.save(tmp_path / f"x.{format}", tone(8000), 16_000)
    found = files.read(tmp_path / f"x.{format}")
    assert found.sample_rate == 16_000
    assert found.samples.shape == (1, 8000)
    assert found.warning == ""


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE", "PCM_24", "PCM_32", "PCM_U8", "ULAW", "ALAW", "IMA_ADPCM"])
def test_int16_is_the_rounded_float_whatever_the_coding(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "x.wav"
    wave = (noise(505)[0] / 40_000).astype(np.float64)
    soundfile.write(path, wave, 8000, subtype=subtype)
    floats = files.read(path).samples[0]
    np.testing.assert_array_equal(
        files.read_int16(path)[0], np.clip(np.rint(floats * 32_768), -32_768, 32_767).astype(np.int16)
    )
    assert abs(floats).max() > 0.5


@pytest.mark.parametrize("format", ["ogg", "opus"])
def test_loud_lossy_samples_are_clipped_and_do_not_change_their_sign(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"x.{format}"
    square = np.sign(tone(16_000)) * 0.999
    soundfile.write(path, square.T, 16_000, format="OGG", subtype="VORBIS" if format == "ogg" else "OPUS")
    floats, found = files.read(path).samples[0], files.read_int16(path)[0]
    over = abs(floats) > 1
    assert over.sum() > 100
    np.testing.assert_array_equal(np.sign(found[over]), np.sign(floats[over]))


@pytest.mark.parametrize("format", LOSSLESS + LOSSY)
def test_a_span_is_that_part_of_the_whole(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"x.{format}"
    files.save(path, tone(20_000) if format in LOSSY else noise(20_000), 16_000)
    whole = files.read(path).samples
    for start, count in [(0, 10), (1, 1), (7000, 3000), (19_990, 10), (19_990, 500), (20_000, 5), (30_000, 5), (5, 0)]:
        found = files.read(path, start=start, num_samples=count).samples
        assert found.shape == whole[:, start : start + count].shape
        np.testing.assert_allclose(found, whole[:, start : start + count], atol=2e-6 if format == "mp3" else 0)
    np.testing.assert_allclose(files.read(path, start=12_345).samples, whole[:, 12_345:], atol=2e-6)


def test_an_mp3_is_decoded_from_before_the_span(tmp_path: Path) -> None:
    files.save(tmp_path / "x.mp3", noise(60_000) // 4, 16_000)
    whole = files.read_int16(tmp_path / "x.mp3")[0]
    for start in (100, 2304, 10_000, 33_333, 57_000):
        found = files.read_int16(tmp_path / "x.mp3", start=start, num_samples=2000)[0]
        assert abs(found.astype(int) - whole[start : start + 2000]).max() <= 1


class Counted(io.BytesIO):
    """Bytes that know how many of them were read."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self.count += len(found)
        return found

    def readinto(self, buffer: Any, /) -> int:
        count = super().readinto(buffer)
        self.count += count
        return count


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_a_span_does_not_read_the_rest(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"x.{format}"
    files.save(path, noise(1_000_000), 16_000)
    source = Counted(path.read_bytes())
    found = files.read(source, start=900_000, num_samples=1000).samples
    np.testing.assert_array_equal(found, noise(1_000_000)[:, 900_000:901_000] / np.float32(32_768))
    assert source.count < 0.3 * len(source.getvalue())


@pytest.mark.parametrize("format", [*LOSSLESS, *LOSSY])
def test_blocks_join_to_the_whole(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"x.{format}"
    files.save(path, tone(20_000), 16_000)
    blocks = [block.samples for block in files.blocks(path, 6000)]
    assert [b.shape[1] for b in blocks] == [6000, 6000, 6000, 2000]
    np.testing.assert_allclose(np.concatenate(blocks, axis=1), files.read(path).samples, atol=2e-6)


class Pipe(io.RawIOBase):
    """Bytes that come once and cannot be gone back to."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)
        self.name = "<stdin>"

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        return self._content.readinto(buffer)


@pytest.mark.parametrize("format", [*LOSSLESS, *LOSSY])
def test_bytes_and_pipes_are_read_like_files(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"x.{format}"
    files.save(path, tone(5000), 16_000)
    content = path.read_bytes()
    expected = files.read(path).samples
    half_read = io.BytesIO(content)
    half_read.read(100)
    with path.open("rb") as opened:
        for source in (io.BytesIO(content), Pipe(content), half_read, opened):
            np.testing.assert_allclose(files.read(source).samples, expected, atol=2e-6)
    assert files.info(Pipe(content)).num_samples == 5000


def test_an_error_about_a_pipe_names_it() -> None:
    with pytest.raises(InputError, match=r"^stdin: is empty"):
        files.read(Pipe(b""))


def test_the_ending_of_a_name_does_not_matter_for_reading(tmp_path: Path) -> None:
    files.save(tmp_path / "x.flac", tone(500), 16_000)
    for name in ("x.au", "x.raw", "x.vox", "x"):
        (tmp_path / name).write_bytes((tmp_path / "x.flac").read_bytes())
        assert files.info(tmp_path / name).format == "FLAC"


def test_a_header_is_described(tmp_path: Path) -> None:
    files.save(tmp_path / "x.flac", noise(12_000, 2), 8000)
    found = files.info(tmp_path / "x.flac")
    assert (found.format, found.subtype, found.sample_rate, found.channels) == ("FLAC", "PCM_16", 8000, 2)
    assert (found.num_samples, found.duration_s, found.warning) == (12_000, 1.5, "")


def test_channels_are_averaged_or_chosen(tmp_path: Path) -> None:
    stereo = np.array([[100, 101, -7, 32_767], [200, 102, -8, 32_767]], dtype=np.int16)
    files.save(tmp_path / "x.wav", stereo, 16_000)
    assert files.read_int16(tmp_path / "x.wav")[0].tolist() == [150, 102, -8, 32_767]  # half to even
    assert files.read_int16(tmp_path / "x.wav", channel=1)[0].tolist() == stereo[1].tolist()
    floats = files.read(tmp_path / "x.wav").samples
    np.testing.assert_allclose(files.mono(floats), floats.mean(axis=0))
    np.testing.assert_array_equal(files.mono(floats, "left"), floats[0])
    np.testing.assert_array_equal(files.mono(floats, "right"), floats[1])
    np.testing.assert_array_equal(files.mono(floats, 1), floats[1])
    with pytest.raises(InputError, match=r"channel 2 of a file with 2") as error:
        files.read_int16(tmp_path / "x.wav", channel=2)
    assert error.value.code == "audio.channel"


def test_negative_spans_are_refused(tmp_path: Path) -> None:
    files.save(tmp_path / "x.wav", tone(500), 16_000)
    for span in ({"start": -1}, {"num_samples": -1}):
        with pytest.raises(ValueError, match="neither can be negative"):
            files.read(tmp_path / "x.wav", **span)


def test_what_is_saved_can_be_named_by_format(tmp_path: Path) -> None:
    files.save(tmp_path / "x.bin", tone(500), 16_000, format="flac")
    assert files.info(tmp_path / "x.bin").format == "FLAC"


def test_saving_refuses_what_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot write the format '.xyz'; known are .aif "):
        files.save(tmp_path / "x.xyz", tone(5), 16_000)
    with pytest.raises(ValueError, match="NaN"):
        files.save(tmp_path / "x.wav", np.array([0.0, np.nan]), 16_000)
    with pytest.raises(OutputError, match="FLAC cannot hold 9 channels at 16000 Hz") as error:
        files.save(tmp_path / "x.flac", noise(10, 9), 16_000)
    assert error.value.exit_code == 5
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    files.save(path, tone(100), 16_000)
    before = path.read_bytes()
    code = f"""
import resource, numpy
from speechkit.audio.files import save
from speechkit.errors import OutputError
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    save({str(path)!r}, numpy.zeros(100_000, "int16"), 16000)
except OutputError as error:
    print("told", error.message)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert f"told {path}: cannot write" in done.stdout
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_reading_needs_no_torch() -> None:
    code = "import sys, speechkit.audio.files; print('torch' in sys.modules, 'av' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == ["False", "False"]
