from __future__ import annotations

import hashlib
import http.server
import io
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from speechkit.data.kaldi.tables import DataDir
from speechkit.data.kaldi.utterances import utterances
from speechkit.data.noise import gaussian
from speechkit.errors import InputError

Egs = Callable[[str], ModuleType]
Tone = Callable[..., None]


@pytest.fixture
def corpus(tmp_path: Path, tone: Tone) -> Path:
    for digit in range(2):
        for take in (0, 5, 7, 9):
            path = tmp_path / "corpus" / "recordings" / f"{digit}_george_{take}.wav"
            tone(path, 0.2, 8000, amplitude=0.01 * (take + digit + 1))
    return tmp_path / "corpus"


@pytest.fixture
def archive(corpus: Path) -> tuple[bytes, str]:
    """The corpus as GitHub packs it, and the checksum of its samples."""
    buffer, digest = io.BytesIO(), hashlib.sha256()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(corpus, "free-spoken-digit-dataset-26eb9aa")
        tar.addfile(tarfile.TarInfo("free/../../recordings/0_escape_0.wav"))
    for path in sorted((corpus / "recordings").iterdir(), key=lambda path: path.stem):
        digest.update(soundfile.read(path, dtype="int16")[0].tobytes())
    return buffer.getvalue(), digest.hexdigest()


@pytest.fixture
def serve() -> Iterator[Callable[[bytes, float], str]]:
    """Serve bytes on this machine, after so many seconds."""
    servers = []

    def start(content: bytes, seconds: float = 0.0) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                released.wait(seconds)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                pass

        released = threading.Event()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append((server, released))
        return f"http://127.0.0.1:{server.server_port}/fsdd.tar.gz"

    yield start
    for server, released in servers:
        released.set()
        server.shutdown()
        server.server_close()


def test_given_recordings_come_first_and_split_by_take(egs: Egs, corpus: Path, tmp_path: Path) -> None:
    egs("mini").prepare(corpus, tmp_path / "data", download_seconds=0, string_hours=0.001)
    assert (tmp_path / "data/corpus.txt").read_text() == f"FSDD recordings in {corpus}\n"
    assert DataDir.read(tmp_path / "data/test").text == {"george-0-00": "zero", "george-1-00": "one"}
    assert DataDir.read(tmp_path / "data/dev").ids == ["george-0-05", "george-1-05"]
    train = utterances(tmp_path / "data/train", root=tmp_path)
    assert [u.id for u in train][:4] == ["george-0-07", "george-0-09", "george-1-07", "george-1-09"]
    assert sum(u.duration_s for u in train[4:]) > 3.6


def test_a_given_folder_without_recordings_is_an_error_not_a_reason_to_make_speech(egs: Egs, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="E201 train: 0 utterances, expected 2580"):
        egs("mini").prepare(tmp_path, tmp_path / "data")


def test_recordings_are_downloaded_and_kept(
    egs: Egs, archive: tuple[bytes, str], serve: Callable[..., str], tmp_path: Path
) -> None:
    mini, (content, checksum) = egs("mini"), archive
    address = serve(content)
    mini.prepare(None, tmp_path / "egs/data", address=address, checksum=checksum, string_hours=0.001)
    assert (tmp_path / "egs/data/corpus.txt").read_text() == "FSDD recordings, downloaded\n"
    assert DataDir.read(tmp_path / "egs/data/test").ids == ["george-0-00", "george-1-00"]
    assert len(list((tmp_path / "egs/dump/fsdd/recordings").iterdir())) == 8
    mini.prepare(None, tmp_path / "egs/data", download_seconds=0, string_hours=0.001)
    assert (tmp_path / "egs/data/corpus.txt").read_text() == "FSDD recordings, downloaded\n"


def test_what_cannot_be_downloaded_leaves_nothing_and_says_why(
    egs: Egs, archive: tuple[bytes, str], serve: Callable[..., str], tmp_path: Path
) -> None:
    mini, (content, checksum) = egs("mini"), archive
    wrong = serve(content)
    reasons = {
        "checksum": (wrong, "0" * 64),
        "not a whole archive": (serve(content[: len(content) // 2]), checksum),
        "not a whole archive: not a gzip file": (serve(b"<html>"), checksum),
        "refused": ("http://127.0.0.1:1/fsdd.tar.gz", checksum),
        "unknown url type": ("nowhere", checksum),
    }
    for reason, (address, expected) in reasons.items():
        with pytest.raises((OSError, InputError), match=reason):
            mini.download(tmp_path / "fsdd", address, expected, 5.0)
        assert list(tmp_path.glob("*fsdd*")) == []
    with pytest.raises(InputError, match="no time"):
        mini.download(tmp_path / "fsdd", wrong, checksum, 0)


def test_a_download_that_takes_too_long_is_given_up_in_time(egs: Egs, serve: Callable[..., str]) -> None:
    started = time.monotonic()
    with pytest.raises(OSError, match=r"no answer within 0\.2 s|timed out"):
        egs("mini").fetch(serve(b"late", 30.0), 0.2)
    assert time.monotonic() - started < 5


def test_without_recordings_digits_are_said_by_voices_that_no_other_set_has(egs: Egs, tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader")
    mini = egs("mini")
    mini.prepare(None, tmp_path / "data", download_seconds=0, made_utterances=45)
    assert "espeak-ng" in (tmp_path / "data/corpus.txt").read_text()
    sets = {name: utterances(tmp_path / "data" / name, root=tmp_path) for name in ("train", "dev", "test")}
    assert {name: len(found) for name, found in sets.items()} == {"train": 45, "dev": 100, "test": 300}
    voices = {name: {u.speaker for u in found} for name, found in sets.items()}
    assert voices["train"].isdisjoint(voices["dev"] | voices["test"])
    assert voices["dev"].isdisjoint(voices["test"])
    for u in sets["test"]:
        assert u.sample_rate == 16000
        assert u.text is not None
        words = u.text.split()
        assert set(words) <= set(mini.WORDS)
        assert 1 <= len(words) <= 6
        assert 0.1 * len(words) < u.duration_s < 0.9 * len(words) + 1.0
        samples, _ = soundfile.read(tmp_path / u.path, dtype="int16")
        assert 400 < np.sqrt(np.mean(samples.astype(float) ** 2)) < 4000
        assert np.abs(samples.astype(int)).max() <= 32767


def test_made_speech_is_the_same_each_time(egs: Egs, tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader")
    mini = egs("mini")
    ids = ["f4-000", "klatt4-001"]
    takes = []
    for _ in range(2):
        with mini.espeak() as say:
            takes.append(
                [
                    mini.place(say(f"{drawn.language}+{id[:-4]}", "one two three", drawn), drawn, 0, id)
                    for id, drawn in zip(ids, mini.draw(ids, 0), strict=True)
                ]
            )
    for first, second in zip(*takes, strict=True):
        np.testing.assert_array_equal(first, second)


def test_every_voice_speaks_every_accent(egs: Egs) -> None:
    pytest.importorskip("espeakng_loader")
    mini = egs("mini")
    drawn = next(mini.draw(["x"], 0))
    with mini.espeak() as say:
        for voices in mini.VOICES.values():
            for voice in voices:
                for language in mini.LANGUAGES:
                    assert len(say(f"{language}+{voice}", "six", drawn)) > 3000
        with pytest.raises(InputError, match="no voice 'en-gb'"):
            say("en-gb", "six", drawn)


def test_a_long_data_path_is_reached_by_a_link(egs: Egs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = pytest.importorskip("espeakng_loader")
    far = tmp_path / ("deep" * 40) / "espeak-ng-data"
    far.parent.mkdir()
    far.symlink_to(loader.get_data_path())
    monkeypatch.setattr(loader, "get_data_path", lambda: str(far))
    mini = egs("mini")
    with mini.espeak() as say:
        assert len(say("en-us", "six", next(mini.draw(["x"], 0)))) > 3000


def test_noise_and_room_are_as_loud_as_drawn(egs: Egs) -> None:
    mini = egs("mini")
    drawn = next(mini.draw(["x"], 0))._replace(snr=6.0, level=-26.0, margins=(0.0, 0.0), direct=10.0, noise_slope=1.0)
    room = mini.room_response(drawn, gaussian(0, "made.room", "x", 4000))
    assert room[0] == 1
    assert 10 * np.log10(1 / (room[1:] ** 2).sum()) == pytest.approx(10)
    assert (room[2001:] ** 2).sum() < 1e-2 * (room[1:2001] ** 2).sum()
    wave = 1000 * np.sin(np.arange(22050) * 0.05)
    placed = mini.place(wave, drawn, 0, "x").astype(float)
    assert mini.rms(placed) == pytest.approx(32767 * 10 ** (-26 / 20), rel=0.01)
    response = np.array([0.5, 0.25, 0.0, 1.0])
    np.testing.assert_allclose(mini.convolve(wave, response)[: len(wave) + 3], np.convolve(wave, response), atol=1e-6)
