"""Recordings to text, end to end: against transformers' pipeline for automatic speech recognition, same weights.

Both load the same folder, in transformers' form. The pipeline is given samples, since it reads files through a program
of its own that may be missing. In batches it decodes padded frames too, where a network may print something, so
its texts have to be equal at batches of 1 alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import networks, speech
from bench.case import Group, Settings
from bench.timing import Output, Side, Timing, Work, compare
from speechkit.audio.files import FORMATS, info
from speechkit.decode.vocabulary import Vocabulary
from speechkit.errors import InputError
from speechkit.models import load, save
from speechkit.models.wavlm.config import WavLMConfig

_LETTERS = Vocabulary(("<pad>", "|", *"etaoinshrdlumwcfgypbvkxjqz'"), blank=0)
_STARTS = 3


def groups(settings: Settings) -> Iterator[Group]:
    """A network of the demo's size, one of base size, and the model given: the work, the start-up, and both."""
    folder, quick = settings.folder, settings.quick
    if settings.model:  # first: not every model can be written for transformers
        save(load(settings.model), folder / "given", "hf")
    many, few = ((4, 0.5, 1.5), (2, 0.5, 1.5)) if quick else ((200, 1, 12), (16, 1, 20))
    speech.record(folder / "many", speech.lengths(*many))
    speech.record(folder / "few", speech.lengths(*few))
    layer_norm = {"conv_norm": "layer", "waveform_eps": 1e-7}
    _write_recognizer(folder / "demo", networks.demo_encoder(**layer_norm))
    _write_recognizer(folder / "base", networks.encoder_config("wavlm-base", quick=quick, **layer_norm))
    yield from _three_groups("demo's size, random weights", folder / "demo", folder / "many", settings)
    yield from _three_groups("base size, random weights", folder / "base", folder / "few", settings)
    if settings.model and settings.recordings:
        yield from _three_groups(settings.model.name, folder / "given", settings.recordings, settings)


def _write_recognizer(folder: Path, config: WavLMConfig) -> None:
    from speechkit.models.wavlm.heads import WavLMForCTC

    networks.seed_weights()
    save(WavLMForCTC(config, _LETTERS), folder, "hf")


def _three_groups(name: str, model: Path, recordings: Path, settings: Settings) -> Iterator[Group]:
    """The groups of a model. In batches of several the pipeline reads on in the padding, so texts may differ."""
    paths = sorted(path for path in recordings.iterdir() if path.suffix.lower().removeprefix(".") in FORMATS)
    if not paths:
        raise InputError(f"{recordings}: no audio files", hint=f"endings are {', '.join(FORMATS)}")
    given = {"model": model, "paths": paths}
    sides = [Side(name="speechkit", make=transcribed, arguments=given)]
    for size, tolerance in ((1, 0.0), (8, None)):
        arguments = given | {"batch_size": size}
        sides.append(Side(name=f"pipeline, batches of {size}", make=piped, arguments=arguments, tolerance=tolerance))
    timings = compare(sides, settings.trials, starts=1 if settings.quick else _STARTS)
    what = f"{name}, {len(paths)} files"
    audio = sum(info(path).duration_s for path in paths)
    yield Group(what=what, timings=timings, audio_seconds=audio)
    yield Group(what="… start-up alone", timings=[_timed(t, [t.startup_seconds]) for t in timings])
    yield Group(
        what="… with start-up", timings=[_timed(t, [s + t.startup_seconds for s in t.seconds]) for t in timings]
    )


def _timed(timing: Timing, seconds: Sequence[float]) -> Timing:
    return replace(timing, seconds=tuple(seconds), difference=None)


def transcribed(model: Path, paths: list[Path]) -> Work:
    """Ours."""
    import speechkit

    network: Any = speechkit.load(model)

    def work() -> Output:
        transcripts: Any = speechkit.transcribe(paths, model=network)
        return [transcript.text for transcript in transcripts]

    return work


def piped(model: Path, paths: list[Path], batch_size: int) -> Work:
    """Theirs."""
    import soundfile

    pipeline = networks.transformers().pipeline("automatic-speech-recognition", model=str(model), device="cpu")

    def read(path: Path) -> dict[str, object]:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        return {"raw": samples.mean(axis=1), "sampling_rate": rate}

    def work() -> Output:
        return [result["text"] for result in pipeline([read(path) for path in paths], batch_size=batch_size)]

    return work
