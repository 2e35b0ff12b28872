"""Recordings in m4a, mp4, webm and the like, through PyAV."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest

from speechkit.audio import files
from speechkit.errors import InputError

KINDS = {
    "x.m4a": ("aac", 16_000, None),
    "x.mp4": ("aac", 44_100, None),
    "x.webm": ("libopus", 48_000, None),
    "x.mka": ("aac", 16_000, None),
    "x.aac": ("aac", 16_000, "adts"),
}
SECONDS = 5


def sound(rate: int, channels: int) -> np.ndarray:
    """A tone that becomes louder, so that every place sounds different; float32 `(C, T)`."""
    time = np.arange(SECONDS * rate) / rate
    return np.stack([0.1 * (time + 0.5) * np.sin(2 * np.pi * (300 + 200 * c) * time) for c in range(channels)]).astype(
        np.float32
    )


def encode(path: Path, channels: int = 1) -> np.ndarray:
    av = pytest.importorskip("av")
    codec, rate, format = KINDS[path.name]
    layout = {1: "mono", 2: "stereo"}[channels]
    samples = sound(rate, channels)
    with av.open(str(path), "w", format=format) as out:
        stream = out.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        out.mux([packet for piece in _pieces(av, stream, frame) for packet in stream.encode(piece)])
        out.mux(stream.encode(None))
    return samples


def _pieces(av, stream, frame):
    context = stream.codec_context
    fitted = av.AudioResampler(context.format.name, context.layout, context.rate, frame_size=context.frame_size or None)
    return [*fitted.resample(frame), *fitted.resample(None)]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", KINDS)
def test_what_was_encoded_is_read(tmp_path: Path, name: str, channels: int) -> None:
    path = tmp_path / name
    given = encode(path, channels)
    found = files.read(path)
    described = files.info(path)
    assert found.sample_rate == described.sample_rate == KINDS[name][1]
    assert found.samples.shape == (channels, described.num_samples)
    assert found.warning == ""
    late = 1024 if name == "x.aac" else 0  # ADTS has no place to say how much the encoder put in front
    size = given.shape[1] - 3000
    error = found.samples[:, late : late + size] - given[:, :size]
    assert np.sqrt((error**2).mean()) < 0.02


@pytest.mark.parametrize("name", KINDS)
def test_spans_and_blocks_are_parts_of_the_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    atol = 2e-3 if KINDS[name][0] == "aac" else 1e-6  # AAC leaves noisy bands to the decoder's own noise
    encode(path)
    whole = files.read(path).samples
    size = whole.shape[1]
    for start, count in [(0, 100), (1, 2000), (size // 2, 5000), (size * 9 // 10, 7), (size - 10, 500), (size + 5, 9)]:
        found = files.read(path, start=start, num_samples=count).samples
        assert found.shape == whole[:, start : start + count].shape
        np.testing.assert_allclose(found, whole[:, start : start + count], atol=atol)
    blocks = [block.samples for block in files.blocks(path, 7777)]
    np.testing.assert_allclose(np.concatenate(blocks, axis=1), whole, atol=1e-6)
    np.testing.assert_array_equal(files.read_int16(path)[0], files.quantize(whole[0]))


def test_bytes_are_read_like_files(tmp_path: Path) -> None:
    encode(tmp_path / "x.m4a")
    content = io.BytesIO((tmp_path / "x.m4a").read_bytes())
    np.testing.assert_array_equal(files.read(content).samples, files.read(tmp_path / "x.m4a").samples)


def test_a_flac_stream_that_does_not_say_its_length_is_read(tmp_path: Path) -> None:
    pytest.importorskip("av")
    samples = (sound(8000, 1) * 32_768).astype(np.int16)
    files.save(tmp_path / "x.flac", samples, 8000)
    content = bytearray((tmp_path / "x.flac").read_bytes())
    content[21] &= 0xF0  # the number of samples has 36 bits
    content[22:26] = bytes(4)
    (tmp_path / "x.flac").write_bytes(content)
    assert files.info(tmp_path / "x.flac").num_samples == samples.shape[1]
    np.testing.assert_array_equal(files.read_int16(tmp_path / "x.flac")[0], samples[0])


def test_without_pyav_the_error_says_how_to_convert_and_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode(tmp_path / "x.m4a")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"x\.m4a: cannot decode: format not recognized \(mp4\)") as error:
        files.read(tmp_path / "x.m4a")
    assert error.value.exit_code == 3
    assert "ffmpeg -i" in error.value.hint
    assert "pip install 'speechkit-torch[ffmpeg]'" in error.value.hint


@pytest.mark.parametrize("keep", [0.05, 0.5])
def test_a_cut_container_is_an_error(tmp_path: Path, keep: float) -> None:
    encode(tmp_path / "x.m4a")  # its index stands at the end
    content = (tmp_path / "x.m4a").read_bytes()
    (tmp_path / "x.m4a").write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(InputError, match="cannot decode") as error:
        files.read(tmp_path / "x.m4a")
    assert error.value.code == "audio.decode"


def test_a_cut_stream_gives_what_is_there(tmp_path: Path) -> None:
    encode(tmp_path / "x.webm")
    whole = files.read(tmp_path / "x.webm").samples
    content = (tmp_path / "x.webm").read_bytes()
    (tmp_path / "x.webm").write_bytes(content[: len(content) // 2])
    found = files.read(tmp_path / "x.webm").samples
    assert 0.3 * whole.shape[1] < found.shape[1] < 0.7 * whole.shape[1]
    np.testing.assert_allclose(found, whole[:, : found.shape[1]], atol=1e-6)
