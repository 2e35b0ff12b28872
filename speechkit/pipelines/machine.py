"""What this machine has: versions, devices, formats of recordings, extras, folders."""

from __future__ import annotations

import importlib
import io
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

from speechkit.errors import SpeechkitError, first_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_RATE = 16000
_LOSSLESS = ("wav", "flac", "aiff", "aif", "au", "caf", "w64", "rf64")
_CONTAINERS = {"m4a": ("mp4", "aac", 16000), "webm": ("webm", "libopus", 48000)}  # format and codec of PyAV, rate


@dataclass(frozen=True, kw_only=True, slots=True)
class Devices:
    """Where networks can run.

    Attributes:
        cpu: name of the processor.
        cores: that the system shows.
        threads: that torch uses.
        gpus: names and memory of CUDA devices, `mps` for Apple's.
    """

    cpu: str
    cores: int
    threads: int
    gpus: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """What a round trip of a tone through a format gave.

    Attributes:
        name: the ending of its files.
        reads: what was written came back.
        writes: `save` writes it; of the others PyAV made the file that was read.
        why: what went wrong.
    """

    name: str
    reads: bool
    writes: bool
    why: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Extra:
    """An optional part of the installation.

    Attributes:
        name: in the brackets of the pip command.
        missing: distributions that it would add.
        install: the command that adds them; empty when they are all here.
    """

    name: str
    missing: tuple[str, ...]
    install: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Folder:
    """A folder that speechkit writes to.

    Attributes:
        what: is in it.
        path: where.
        exists: already.
        free_bytes: of its disk.
    """

    what: str
    path: str
    exists: bool
    free_bytes: int


def broken_libraries() -> dict[str, str]:
    """Why a library that all else stands on cannot be imported, by its name; empty where all can."""
    broken = {}
    for name in ("numpy", "torch", "soundfile"):
        try:
            importlib.import_module(name)
        except Exception as error:  # a library that does not load may raise anything
            broken[name] = first_line(error)
    return broken


def versions() -> dict[str, str]:
    """Versions of Python, the system and the libraries; of torchaudio also whether its compiled part loads."""
    import soundfile

    from speechkit.compat import has_extension

    names = ("torch", "torchaudio", "numpy", "soundfile")
    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    found |= {name: _version(name) or "missing" for name in names}
    try:
        found["torchaudio"] += "" if has_extension() else " (compiled part does not load; its Python part is used)"
    except (SpeechkitError, ImportError) as error:
        found["torchaudio"] += f" (cannot be imported: {first_line(error)})"
    return found | {"libsndfile": str(soundfile.__libsndfile_version__)}


def devices() -> Devices:
    """The processor, and the accelerators that torch sees."""
    import torch

    properties = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    gpus = [f"cuda:{i} {p.name}, {p.total_memory / 2**30:.0f} GiB" for i, p in enumerate(properties)]
    gpus += ["mps"] if torch.backends.mps.is_available() else []
    return Devices(cpu=processor_name(), cores=os.cpu_count() or 1, threads=torch.get_num_threads(), gpus=tuple(gpus))


def processor_name() -> str:
    """The processor's name where the system tells, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def formats() -> list[Format]:
    """Send a tone of a quarter of a second through every format that is written, and those that PyAV reads."""
    from speechkit.audio.files import FORMATS, encode

    def by_us(name: str, tone: NDArray[np.int16]) -> bytes:
        return bytes(encode(name, tone, _RATE, name))

    makers = dict.fromkeys(FORMATS, by_us) | dict.fromkeys(_CONTAINERS, _by_pyav)
    return [_format(name, make, writes=name in FORMATS) for name, make in makers.items()]


def _format(name: str, make: Callable[[str, NDArray[np.int16]], bytes], *, writes: bool) -> Format:
    import numpy as np

    from speechkit.audio.files import read_int16

    tone = np.rint(8000 * np.sin(2 * np.pi * 440 * np.arange(_RATE // 4) / _RATE)).astype(np.int16)
    try:
        data = make(name, tone)
    except Exception as error:  # whatever a library says
        return Format(name=name, reads=False, writes=False, why=first_line(error))
    try:
        samples, rate = read_int16(io.BytesIO(data))
    except Exception as error:
        return Format(name=name, reads=False, writes=writes, why=first_line(error))
    if name in _LOSSLESS:
        same = bool(rate == _RATE and np.array_equal(samples, tone))
    else:  # a codec may add a few milliseconds at the ends
        energy = [float(np.square(x.astype(np.float64)).sum()) / r for x, r in ((samples, rate), (tone, _RATE))]
        same = 0.7 < energy[0] / energy[1] < 1.4
    return Format(name=name, reads=same, writes=writes, why="" if same else "what comes back is something else")


def _by_pyav(name: str, tone: NDArray[np.int16]) -> bytes:
    """The tone in a container that only PyAV makes."""
    try:
        import av
    except ImportError:
        raise SpeechkitError("PyAV is not installed: pip install 'speechkit-torch[ffmpeg]'") from None
    container_name, codec, rate = _CONTAINERS[name]
    file = io.BytesIO()
    with av.open(file, "w", format=container_name) as container:
        stream: Any = container.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
        frame.sample_rate = _RATE
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate, frame_size=stream.frame_size)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return file.getvalue()


def extras(distribution: str) -> list[Extra]:
    """The extras that a distribution declares, with what each would add; none where it is not installed."""
    try:
        declared = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return []
    wanted: dict[str, list[str]] = {}
    for line in declared:
        requirement = Requirement(line)
        named = re.search(r"""\bextra\s*==\s*['"]([\w-]+)""", str(requirement.marker or ""))
        if named and requirement.marker and requirement.marker.evaluate({"extra": named[1]}):
            wanted.setdefault(named[1], []).append(requirement.name)
    missing = {name: tuple(d for d in names if not _version(d)) for name, names in wanted.items()}
    install = {name: f"pip install '{distribution}[{name}]'" if names else "" for name, names in missing.items()}
    return [Extra(name=name, missing=missing[name], install=install[name]) for name in sorted(wanted)]


def other_speechkit() -> str:
    """The version of the package index's `speechkit`, an unrelated product with our import name; empty: not here."""
    return _version("speechkit")


def folders() -> list[Folder]:
    """Where models are cached, where reports of crashes and temporary files go, and the room that is left."""
    from huggingface_hub import constants

    places = {
        "models": Path(constants.HF_HUB_CACHE),
        "crash reports": Path.home() / ".cache/speechkit",
        "temporary files": Path(tempfile.gettempdir()),
    }
    return [_folder(what, path) for what, path in places.items()]


def _folder(what: str, path: Path) -> Folder:
    there = next(p for p in (path, *path.absolute().parents) if p.exists())
    return Folder(what=what, path=str(path), exists=path.exists(), free_bytes=shutil.disk_usage(there).free)


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
