"""The demo's corpus: spoken digits, recorded where they can be had, made by espeak-ng where not.

In this order: the FSDD recordings in --data-dir; the same, downloaded; strings of digits that espeak-ng says on the
spot, with a room and noise around them. data/corpus.txt says which. README.md beside this file says what the sets are.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
import logging
import re
import shutil
import tarfile
import tempfile
import threading
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import soundfile
from numpy.typing import NDArray

from speechkit import draws
from speechkit.audio.files import read_int16
from speechkit.audio.resample import resample_array
from speechkit.data.noise import gaussian, sloped
from speechkit.data.strings import Clip, Spoken, StringSettings, join, write_clips, write_strings
from speechkit.errors import InputError, MissingDependency
from speechkit.files import whole, write_text

log = logging.getLogger(__name__)

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

ADDRESS = (
    "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/26eb9aaf76e81b692f806f9140c2d2777410d7a1.tar.gz"
)
LICENSE = "CC BY-SA 4.0"  # of FSDD; what espeak-ng says is free
# SHA-256 of the int16 samples of all recordings, in the order of their names
SAMPLES_SHA256 = "6f643a7422de89763625dfc9aa79427e69f7a690223a5bc5752a2f56db5af465"


FACTS = {"train": 2580, "dev": 120, "test": 300}  # recordings of the complete FSDD; made sets are what was asked for


def prepare(
    corpus_dir: Path | None,
    data_dir: Path,
    *,
    nj: int = 1,  # noqa: ARG001 (nothing here takes long)
    address: str = ADDRESS,
    checksum: str = SAMPLES_SHA256,
    download_seconds: float = 10.0,
    string_hours: float = 1.5,
    made_utterances: int = 1440,
    seed: int = 0,
) -> None:
    """Write data_dir/train, dev and test.

    Args:
        corpus_dir: a folder that holds FSDD's recordings/.
        data_dir: where the sets go; audio that is downloaded or made goes to dump/ beside it.
        nj: not used.
        address: of FSDD's archive (.tar.gz).
        checksum: SHA-256 of the samples in it.
        download_seconds: time allowed for fetching it; 0: it is not tried.
        string_hours: with FSDD, strings of 1 to 12 digits to make for `train`.
        made_utterances: without FSDD, how many to make for `train`.
        seed: of the draws.

    Raises:
        InputError: `corpus_dir` was given and has no recordings.
        MissingDependency: there is neither FSDD nor espeak-ng.
    """
    dump = data_dir.parent / "dump"
    corpus = f"FSDD recordings in {corpus_dir}"
    if corpus_dir is None:
        corpus_dir, corpus = dump / "fsdd", "FSDD recordings, downloaded"
        try:
            download(corpus_dir, address, checksum, download_seconds)
        except (OSError, InputError) as error:
            corpus_dir, corpus = None, f"digits said by espeak-ng (FSDD was not downloaded: {error})"
    log.info("corpus: %s", corpus)
    if corpus_dir:
        # speakers take turns at any loudness, as they do in a recording of an hour
        strings = StringSettings(hours=string_hours, several=0.5, most=12, loudness_db=18.0, seed=int(seed))
        prepare_recordings(corpus_dir, data_dir, strings)
    else:
        prepare_made(data_dir, int(made_utterances), int(seed))  # settings may come as floats
    write_text(data_dir / "corpus.txt", corpus + "\n")


# Recorded digits --------------------------------------------------------------------------------------------------


def prepare_recordings(corpus_dir: Path, data_dir: Path, strings: StringSettings) -> None:
    """FSDD's own split, takes 0 to 4 for `test`; takes 5 and 6 are `dev`, the others and strings of them `train`."""
    folder = corpus_dir.resolve() / "recordings"
    takes: dict[Clip, int] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        match = re.fullmatch(r"(\d)_([A-Za-z]+)_(\d+)\.(wav|flac)", path.name)
        if match:
            digit, speaker, take = int(match[1]), match[2], int(match[3])
            takes[Clip(f"{speaker}-{digit}-{take:02d}", speaker, WORDS[digit], path)] = take
    sets = {
        "train": [clip for clip, take in takes.items() if take >= 7],
        "dev": [clip for clip, take in takes.items() if take in (5, 6)],
        "test": [clip for clip, take in takes.items() if take < 5],
    }
    for name, clips in sets.items():
        message = f"E201 {name}: {len(clips)} utterances, expected {FACTS[name]}"
        if not clips or 0.9 * FACTS[name] <= len(clips) < FACTS[name]:
            hint = f"{folder} should hold recordings DIGIT_SPEAKER_TAKE.wav; without --data-dir the demo finds its own"
            raise InputError(message, hint=hint, code="E201")
        if len(clips) < FACTS[name]:
            log.warning("%s", message)
    for name in ("dev", "test"):
        write_clips(data_dir / name, sets[name])
    write_strings(data_dir / "train", data_dir.parent / "dump" / "strings", sets["train"], strings)


def download(folder: Path, address: str, checksum: str, seconds: float) -> None:
    """Fetch FSDD's recordings into folder/recordings, unless they are there already.

    Raises:
        OSError: no network, too slow, or no such address.
        InputError: what came is not what was expected.
    """
    if (folder / "recordings").is_dir():
        return
    if seconds <= 0:
        raise InputError("no time was allowed for it")
    archive = fetch(address, seconds)
    with whole(folder) as temporary:
        recordings = temporary / "recordings"
        recordings.mkdir(parents=True)
        try:
            unpack(archive, recordings)
        except (EOFError, zlib.error, tarfile.TarError) as error:
            raise InputError(f"{address}: not a whole archive: {error}") from error
        digest = hashlib.sha256()
        for path in sorted(recordings.iterdir(), key=lambda path: path.stem):
            digest.update(read_int16(path)[0].astype("<i2").tobytes())
        if digest.hexdigest() != checksum:
            raise InputError(f"{address}: checksum {digest.hexdigest()[:12]}…, expected {checksum[:12]}…")


def fetch(address: str, seconds: float) -> bytes:
    """What lies at an address, if it comes in time: a thread, because looking up a name knows no time limit."""
    outcome: list[bytes | Exception] = []

    def work() -> None:
        try:
            with urllib.request.urlopen(address, timeout=seconds) as response:
                outcome.append(response.read())
        except Exception as error:  # handed on below
            outcome.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    answer = outcome[0] if outcome else TimeoutError(f"no answer within {seconds:g} s")
    if isinstance(answer, Exception):
        raise OSError(str(answer)) from answer
    return answer


def unpack(archive: bytes, folder: Path) -> None:
    """The recordings of a .tar.gz, and nothing else of it."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        for member in tar:
            match = re.fullmatch(r"[^/]+/recordings/(\d_[A-Za-z]+_\d+\.(?:wav|flac))", member.name)
            file = tar.extractfile(member) if match else None
            if match and file:
                (folder / match[1]).write_bytes(file.read())


# Made digits ------------------------------------------------------------------------------------------------------

RATE = 16000
LANGUAGES = ("en", "en-029", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-gb-x-rp", "en-us", "en-us-nyc")
# espeak-ng's voice variants, no voice of one set speaking in another; those with breath are never twice the same
VOICES = {
    "train": (
        *("Alex", "Andy", "Denis", "Diogo", "Gene", "Henrique", "Hugo", "Lee", "Michael", "Nguyen", "adam", "anika"),
        *("aunty", "belinda", "benjamin", "david", "edward", "edward2", "f1", "grandma", "ian", "iven4", "kaukovalta"),
        *("klatt4", "linda", "m1", "m2", "m3", "m7", "m8", "marcelo", "michel", "mike2", "norbert", "pablo", "pedro"),
        *("quincy", "rob", "robert", "steph"),
    ),
    "dev": ("Mike", "f4", "m5", "shelby"),
    "test": ("Annie", "Mario", "announcer", "m4", "m6", "max", "miguel", "travis"),
}


class Drawn(NamedTuple):
    """What is drawn for an utterance."""

    digits: list[int]
    language: str
    words_per_minute: int
    pitch: int
    pitch_range: int
    pauses: bool
    margins: tuple[float, float]  # seconds of silence before and after
    reverberation: float  # seconds until the room has lost 60 dB
    direct: float  # dB of direct sound over reverberation
    noise_slope: float  # 0: white, 1: pink
    snr: float  # dB
    level: float  # dB of full scale


Say: TypeAlias = Callable[[str, str, Drawn], NDArray[np.float64]]


def prepare_made(data_dir: Path, train_utterances: int, seed: int) -> None:
    """Say, place and write the three sets: `train` in one file a voice, the others in one an utterance."""
    made = data_dir.parent / "dump" / "made"
    with espeak() as say:
        for name, count in (("train", train_utterances), ("dev", 100), ("test", 300)):
            spoken = say_set(say, VOICES[name], count, seed)
            if name == "train":
                join(spoken, made / name, data_dir.parent, RATE).write(data_dir / name)
                continue
            clips = []
            with whole(made / name) as folder:
                folder.mkdir()
                for id, voice, text, samples in spoken:
                    soundfile.write(folder / f"{id}.wav", samples, RATE)
                    clips.append(Clip(id, voice, text, Path(f"dump/made/{name}/{id}.wav")))
            write_clips(data_dir / name, clips)


def say_set(say: Say, voices: Sequence[str], count: int, seed: int) -> Iterator[Spoken]:
    """`count` utterances, about as many of each voice."""
    order = sorted((voices[n % len(voices)], n // len(voices)) for n in range(count))
    ids = [f"{voice}-{n:03d}" for voice, n in order]
    for (voice, _), id, drawn in zip(order, ids, draw(ids, seed), strict=True):
        words = [WORDS[digit] for digit in drawn.digits]
        speech = say(f"{drawn.language}+{voice}", (", " if drawn.pauses else " ").join(words), drawn)
        yield Spoken(id, voice, " ".join(words), place(speech, drawn, seed, id))


def draw(ids: Sequence[str], seed: int) -> Iterator[Drawn]:
    """What is drawn for every utterance (purpose `made`)."""
    for words in draws.words(seed, draws.EVALUATION, "made", ids, 24):
        u = draws.uniform(words)
        yield Drawn(
            digits=draws.randint(words[12 : 13 + int(6 * u[0])], 10).tolist(),
            language=LANGUAGES[int(len(LANGUAGES) * u[1])],
            words_per_minute=120 + int(90 * u[2]),
            pitch=30 + int(40 * u[3]),
            pitch_range=20 + int(60 * u[4]),
            pauses=bool(u[5] < 0.3),
            margins=(0.2 * u[6], 0.2 * u[7]),
            reverberation=0.1 + 0.3 * u[8],
            direct=3 + 17 * u[9],
            noise_slope=u[10],
            snr=12 + 28 * u[11],
            level=-32 + 12 * u[18],
        )


@contextlib.contextmanager
def espeak() -> Iterator[Say]:
    """A function that says a text in a voice: float `(T,)` at 22,050 Hz and int16 scale.

    Raises:
        MissingDependency: espeak-ng is not installed.
    """
    try:
        import espeakng_loader
    except ImportError as error:
        raise MissingDependency(
            "the demo's speech needs espeak-ng", hint="pip install 'speechkit-torch[phonemize]'", code="espeak"
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        # a copy of its own each time: a library used before would speak on in the state it was left in
        library = ctypes.CDLL(shutil.copy(espeakng_loader.get_library_path(), folder))
        data = Path(folder) / "data"  # a path of 160 characters or more makes espeak-ng look elsewhere
        data.symlink_to(espeakng_loader.get_data_path())
        # 2: the callback gets the samples; 0x8000: an error is returned, the process does not end
        if library.espeak_Initialize(2, 0, str(data).encode(), 0x8000) <= 0:
            raise InputError(f"espeak-ng cannot read its data in {data}", code="espeak")
        said: list[NDArray[np.int16]] = []

        def collect(samples: ctypes._Pointer[ctypes.c_short] | None, count: int, _events: int) -> int:
            if samples and count > 0:
                said.append(np.ctypeslib.as_array(samples, (count,)).copy())
            return 0

        pointer = ctypes.POINTER(ctypes.c_short)
        callback = ctypes.CFUNCTYPE(ctypes.c_int, pointer, ctypes.c_int, ctypes.c_void_p)(collect)
        library.espeak_SetSynthCallback(callback)

        def say(voice: str, text: str, drawn: Drawn) -> NDArray[np.float64]:
            if library.espeak_SetVoiceByName(voice.encode()) != 0:
                raise InputError(f"espeak-ng has no voice {voice!r}", code="espeak")
            for parameter, value in ((1, drawn.words_per_minute), (3, drawn.pitch), (4, drawn.pitch_range)):
                library.espeak_SetParameter(parameter, value, 0)
            said.clear()
            data = text.encode() + b"\0"
            library.espeak_Synth(data, len(data), 0, 1, 0, 1, None, None)  # from the start, by characters, UTF-8
            library.espeak_Synchronize()
            return np.concatenate(said).astype(np.float64)

        yield say
        library.espeak_Terminate()


def place(speech: NDArray[np.float64], drawn: Drawn, seed: int, id: str) -> NDArray[np.int16]:
    """Speech at 22,050 Hz in a room with noise, at 16 kHz."""
    dry = resample_array(speech, 22050, RATE)
    before, after = (round(seconds * RATE) for seconds in drawn.margins)
    room = room_response(drawn, gaussian(seed, "made.room", id, round(drawn.reverberation * RATE)))
    size = before + len(dry) + after
    padded = np.concatenate([np.zeros(before), dry, np.zeros(after)])
    wet = convolve(padded, room)[:size]
    noise = sloped(gaussian(seed, "made.noise", id, size), drawn.noise_slope)
    noisy = wet + noise * rms(wet) / rms(noise) * 10 ** (-drawn.snr / 20)
    scale = min(10 ** (drawn.level / 20) / rms(noisy), 1 / np.abs(noisy).max())
    return np.rint(32767 * scale * noisy).astype(np.int16)


def room_response(drawn: Drawn, tail: NDArray[np.float64]) -> NDArray[np.float64]:
    """An impulse and, after it, noise that dies away by 60 dB over its length."""
    decay = tail * 10 ** (-3 * np.arange(len(tail)) / len(tail))
    decay *= 10 ** (-drawn.direct / 20) / np.sqrt((decay**2).sum())
    return np.concatenate([[1.0], decay])


def convolve(wave: NDArray[np.float64], response: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convolution by FFT."""
    size = 1 << (len(wave) + len(response) - 2).bit_length()
    return np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(response, size), size)


def rms(wave: NDArray[np.float64]) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(wave**2)))
