"""Files that are damaged, empty, or no audio: what is said of each, and that nothing else is heard."""

from __future__ import annotations

import io
import os
import re
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechkit import draws
from speechkit.audio import files
from speechkit.audio.damaged import mpg123_silenced
from speechkit.errors import InputError

RATE = 16_000
SAMPLES = 32_000


def speechlike() -> np.ndarray:
    words = draws.words(0, 0, "test", ["bad"], 2 * SAMPLES)
    wave = 0.5 * np.sin(0.05 * np.arange(SAMPLES)) + 0.03 * draws.normal(words)[0]
    return files.quantize(wave)


def encoded(format: str, folder: Path) -> bytearray:
    path = folder / f"whole.{format}"
    files.save(path, speechlike(), RATE)
    content = bytearray(path.read_bytes())
    path.unlink()
    return content


def cut(format: str, keep: float) -> Callable[[Path], bytes]:
    def make(folder: Path) -> bytes:
        content = encoded(format, folder)
        return bytes(content[: int(len(content) * keep)])

    return make


def wav(*, riff: int | None = None, data: int | None = None, behind: bytes = b"") -> Callable[[Path], bytes]:
    """A WAV file with other sizes in its header, and something behind."""

    def make(folder: Path) -> bytes:
        content = encoded("wav", folder)
        if riff is not None:
            content[4:8] = struct.pack("<I", riff)
        if data is not None:
            content[40:44] = struct.pack("<I", data)
        return bytes(content) + behind

    return make


def floats(*values: float, subtype: str = "FLOAT", rate: int = RATE, channels: int = 1) -> Callable[[Path], bytes]:
    def make(folder: Path) -> bytes:
        buffer = io.BytesIO()
        samples = np.zeros((2000, channels))
        samples[1000 : 1000 + len(values), 0] = values
        soundfile.write(buffer, samples, rate, format="WAV", subtype=subtype)
        return buffer.getvalue()

    return make


def flipped_flac(folder: Path) -> bytes:
    content = encoded("flac", folder)
    content[len(content) // 2 : len(content) // 2 + 40] = bytes(40)
    return bytes(content)


def boastful_flac(folder: Path) -> bytes:
    content = encoded("flac", folder)
    content[21] |= 0x0F  # the number of samples has 36 bits
    return bytes(content)


def empty_wav(folder: Path) -> bytes:
    return bytes(encoded("wav", folder)[:40]).replace(struct.pack("<I", 64_036), struct.pack("<I", 36)) + bytes(4)


def text(folder: Path) -> bytes:
    return b"This is no recording.\n" * 500


@dataclass(frozen=True, kw_only=True)
class Bad:
    """A file, and what reading it ends with."""

    name: str
    make: Callable[[Path], bytes]
    code: str
    says: str


BAD = [
    Bad(name="nothing.wav", make=lambda _: b"", code="audio.empty", says=r"is empty \(0 bytes\)$"),
    Bad(name="no_samples.wav", make=empty_wav, code="audio.empty", says="holds no samples$"),
    Bad(
        name="header.wav",
        make=cut("wav", 44 / 64_044),
        code="audio.empty",
        says=r"holds no samples: the header promises 2.000 s, the file holds 0.000 s$",
    ),
    Bad(name="half_a_header.wav", make=cut("wav", 0.0004), code="audio.decode", says="cannot decode: "),
    Bad(name="text.wav", make=text, code="audio.format", says="not audio: format not recognized$"),
    Bad(name="text.mp3", make=text, code="audio.format", says="not audio: format not recognized$"),
    Bad(name="text.au", make=text, code="audio.format", says="not audio: format not recognized$"),
    Bad(name="text.vox", make=text, code="audio.format", says="not audio: format not recognized$"),
    Bad(name="zeros.flac", make=lambda _: bytes(9000), code="audio.format", says="not audio: format not recognized$"),
    Bad(
        name="noise.mp3",
        make=lambda _: b"\xff\xfb\x90\x00" + bytes(range(256)) * 40,
        code="audio.decode",
        says="cannot decode: no MPEG audio found$",
    ),
    Bad(
        name="cut.flac",
        make=cut("flac", 0.6),
        code="audio.decode",
        says=r"decoding breaks off at (0\.[5-9]|1\.[01])\d\d s of 2.000 s$",
    ),
    Bad(name="start.flac", make=cut("flac", 0.02), code="audio.decode", says=r"breaks off at 0.000 s of 2.000 s$"),
    Bad(name="flipped.flac", make=flipped_flac, code="audio.decode", says=r"breaks off at (0|1)\.\d\d\d s of 2.000 s$"),
    Bad(
        name="boast.flac", make=boastful_flac, code="audio.decode", says=r"the header promises \d+\.\d+ s, the file has"
    ),
    Bad(name="start.mp3", make=cut("mp3", 0.01), code="audio.decode", says="cannot decode: no MPEG audio found$"),
    Bad(name="start.ogg", make=cut("ogg", 0.02), code="audio.decode", says="cannot decode: .*malformed$"),
    Bad(
        name="nan.wav", make=floats(0.5, np.nan), code="audio.nan", says="NaN or infinite samples, the first at 0.063 s"
    ),
    Bad(name="inf.wav", make=floats(np.inf, subtype="DOUBLE"), code="audio.nan", says="the first at 0.062 s"),
    Bad(name="slow.wav", make=floats(0.5, rate=1000), code="audio.format", says="1000 Hz; readable are 4000 to 384000"),
    Bad(name="fast.wav", make=floats(0.5, rate=400_000), code="audio.format", says="400000 Hz; readable are 4000"),
    Bad(name="crowd.wav", make=floats(0.5, channels=65), code="audio.format", says="65 channels; readable are 1 to 64"),
    Bad(
        name="broken.m4a",
        make=lambda _: b"\0\0\0\x1cftypM4A " + bytes(500),
        code="audio.decode",
        says="cannot decode: ",
    ),
    Bad(
        name="broken.webm", make=lambda _: b"\x1a\x45\xdf\xa3" + bytes(500), code="audio.decode", says="cannot decode: "
    ),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda b: b.name)
@pytest.mark.parametrize("read", [files.read, files.read_int16, lambda p: list(files.blocks(p, 4000))])
def test_a_bad_file_is_one_error_of_one_line(
    bad: Bad, read: Callable[[Path], object], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / bad.name
    path.write_bytes(bad.make(tmp_path))
    with pytest.raises(InputError, match=bad.says) as error:
        read(path)
    assert error.value.code == bad.code
    assert error.value.exit_code == 3
    assert error.value.message.startswith(f"{path}: ")
    assert "\n" not in error.value.message + error.value.hint
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("bad", BAD, ids=lambda b: b.name)
def test_bytes_of_a_bad_file_end_alike(bad: Bad, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=bad.says) as error:
        files.read(io.BytesIO(bad.make(tmp_path)))
    assert error.value.code == bad.code
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("look", [files.info, files.read, files.read_int16])
def test_a_missing_file_a_folder_and_a_file_as_folder_are_said(look: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "x.wav").mkdir()
    (tmp_path / "file").touch()
    for name, code, says in [
        ("none.wav", "audio.missing", "no such file"),
        ("x.wav", "audio.format", "is a folder, not a recording"),
        ("file/x.wav", "audio.missing", "cannot read: Not a directory"),
    ]:
        with pytest.raises(InputError, match=f"{name}: {says}$") as error:
            look(tmp_path / name)
        assert error.value.code == code


@dataclass(frozen=True, kw_only=True)
class Odd:
    """A file that is not whole, or says so wrongly, and is used: with how many samples and which warning."""

    name: str
    make: Callable[[Path], bytes]
    samples: int | None
    warns: str
    exact: bool = True


CUT_WAV = r"the header promises 2.000 s, the file holds 1.199 s"
ODD = [
    Odd(name="cut.wav", make=cut("wav", 0.6), samples=19_191, warns=CUT_WAV),
    Odd(
        name="lying.wav", make=wav(data=1 << 30), samples=SAMPLES, warns=r"promises 33554.432 s, the file holds 2.000 s"
    ),
    Odd(name="ffmpeg_pipe.wav", make=wav(riff=0xFFFFFFFF, data=0xFFFFFFFF), samples=SAMPLES, warns=""),
    Odd(name="sox_pipe.wav", make=wav(riff=0x7FFFF024, data=0x7FFFF000), samples=SAMPLES, warns=""),
    Odd(name="dead.wav", make=wav(riff=0, data=0), samples=SAMPLES, warns="promises 0.000 s, the file holds 2.000 s"),
    Odd(name="dead_too.wav", make=wav(riff=36, data=0), samples=SAMPLES, warns="promises 0.000 s, the file holds"),
    Odd(name="half_dead.wav", make=wav(data=0), samples=SAMPLES, warns="promises 0.000 s, the file holds"),
    Odd(name="list.wav", make=wav(behind=b"LIST\4\0\0\0INFO"), samples=SAMPLES, warns=""),
    Odd(name="cut.aiff", make=cut("aiff", 0.6), samples=19_189, warns=r"promises 64054 bytes, the file holds \d+$"),
    Odd(name="cut.au", make=cut("au", 0.6), samples=19_195, warns=r"promises 64024 bytes, the file holds \d+$"),
    Odd(name="cut.w64", make=cut("w64", 0.6), samples=19_179, warns=r"promises 64104 bytes, the file holds \d+$"),
    Odd(name="cut.rf64", make=cut("rf64", 0.6), samples=19_179, warns=r"promises 64104 bytes, the file holds \d+$"),
    Odd(
        name="cut.mp3",
        make=cut("mp3", 0.6),
        samples=None,
        warns=r"promises 2.000 s, the file holds 1.\d\d\d s",
        exact=False,
    ),
    Odd(
        name="cut.ogg",
        make=cut("ogg", 0.97),
        samples=None,
        warns="cut short: the last page is missing, after",
        exact=False,
    ),
    Odd(
        name="cut_late.ogg", make=cut("ogg", 0.9995), samples=None, warns="the last page is missing, after", exact=False
    ),
    Odd(name="cut.opus", make=cut("opus", 0.97), samples=None, warns="the last page is missing, after", exact=False),
    Odd(name="short.wav", make=floats(0.5), samples=2000, warns="", exact=False),
]


@pytest.mark.parametrize("odd", ODD, ids=lambda o: o.name)
def test_what_is_there_is_used_with_a_warning(odd: Odd, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / odd.name
    path.write_bytes(odd.make(tmp_path))
    for source in (path, io.BytesIO(path.read_bytes())):
        found = files.read(source)
        samples = found.samples.shape[1]
        assert samples == (odd.samples or samples)
        assert samples > 100
        if odd.exact:
            np.testing.assert_array_equal(files.quantize(found.samples[0]), speechlike()[:samples])
        if odd.warns:
            assert re.search(odd.warns, found.warning)
            assert "\n" not in found.warning
        else:
            assert found.warning == ""
        assert sum(block.samples.shape[1] for block in files.blocks(source, 1000)) == samples
        if not odd.name.endswith(".mp3"):  # whose header alone does not tell
            assert files.info(source).num_samples == samples
            assert files.info(source).warning == found.warning
    assert capfd.readouterr() == ("", "")


def test_blocks_of_a_cut_flac_come_until_it_breaks_off(tmp_path: Path) -> None:
    (tmp_path / "x.flac").write_bytes(cut("flac", 0.6)(tmp_path))
    found = []
    with pytest.raises(InputError, match="breaks off at"):
        found.extend(block.samples for block in files.blocks(tmp_path / "x.flac", 2000))
    joined = files.quantize(np.concatenate(found, axis=1)[0])
    assert len(joined) >= 8000
    np.testing.assert_array_equal(joined, speechlike()[: len(joined)])


def test_the_good_part_of_a_cut_flac_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "x.flac").write_bytes(cut("flac", 0.6)(tmp_path))
    found, _ = files.read_int16(tmp_path / "x.flac", start=1000, num_samples=5000)
    np.testing.assert_array_equal(found, speechlike()[1000:6000])
    with pytest.raises(InputError, match="breaks off at"):
        files.read_int16(tmp_path / "x.flac", start=30_000, num_samples=100)


def test_nan_outside_the_span_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(floats(np.nan)(tmp_path))
    assert files.read(tmp_path / "x.wav", num_samples=1000).samples.shape == (1, 1000)


def test_more_than_twelve_hours_are_not_decoded_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    hours, rate = 13, 4000
    with path.open("wb") as file:
        soundfile.write(file, np.zeros(10, np.int16), rate, format="WAV", subtype="PCM_16")
    size = 2 * hours * 3600 * rate
    content = bytearray(path.read_bytes())
    content[4:8], content[40:44] = struct.pack("<I", 36 + size), struct.pack("<I", size)
    path.write_bytes(content)
    os.truncate(path, 44 + size)  # sparse: takes no room
    assert files.info(path).duration_s == hours * 3600
    assert files.read(path, start=12 * 3600 * rate, num_samples=5).samples.shape == (1, 5)
    for read in (files.read, files.read_int16, lambda p: next(iter(files.blocks(p, 1000)))):
        with pytest.raises(InputError, match=r"13.0 h asked for at once; at most 12 h are decoded"):
            read(path)


def test_one_hundredth_of_a_second_is_a_recording(tmp_path: Path) -> None:
    files.save(tmp_path / "x.wav", np.ones(160, np.int16), RATE)
    assert files.read(tmp_path / "x.wav").samples.shape == (1, 160)


def test_only_what_libmpg123_says_is_kept_from_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with mpg123_silenced():
        os.write(2, b"[src/libmpg123/parse.c:skip_junk():1276] error: no\nNote: Trying to resync...\n\n")
        os.write(2, b"speechkit: error: from another thread\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "speechkit: error: from another thread\nafter\n"


def test_threads_that_decode_mp3_leave_stderr_as_it_was(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.mp3"
    path.write_bytes(cut("mp3", 0.6)(tmp_path))
    threads = [threading.Thread(target=lambda: [files.read(path) for _ in range(5)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"
