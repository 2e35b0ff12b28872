"""A self test of a few seconds: does what transcribing and training are made of work on this machine?"""

from __future__ import annotations

import itertools
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from speechkit.audio.fbank import FbankConfig, fbank
from speechkit.audio.files import read_int16, save
from speechkit.data.labels import Labels
from speechkit.data.loader import Loader
from speechkit.data.plan import PlanSettings, plan_utterances
from speechkit.data.reader import Request, read_ahead
from speechkit.data.utterance import Utterance
from speechkit.decode.ctc import greedy
from speechkit.decode.vocabulary import Vocabulary
from speechkit.errors import SpeechkitError, first_line
from speechkit.models import save as save_model
from speechkit.models.wavlm.config import WavLMConfig
from speechkit.models.wavlm.heads import WavLMForCTC
from speechkit.nn.encoder_config import EncoderConfig
from speechkit.objectives.ctc import CTC
from speechkit.pipelines.device import choose_device
from speechkit.pipelines.transcribe import transcribe
from speechkit.train.optimizer import Optimizer
from speechkit.train.settings import TrainSettings
from speechkit.train.update import Updater

SECONDS = 10.0

_RATE = 16000
_STEPS = 8
_TOLERANCE = 2e-3  # of log mel energies; devices sum in other orders
_VOCABULARY = Vocabulary(("-", "|", "a", "b", "c", "d"), blank=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """How a check ended.

    Attributes:
        name: what was tried.
        verdict: `skipped` says nothing about the machine.
        why: of `skipped` and `FAILED`, one line.
        hint: of `FAILED`.
        seconds: that it took.
    """

    name: str
    verdict: Literal["ok", "skipped", "FAILED"]
    why: str = ""
    hint: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Workbench:
    """What checks work with.

    Attributes:
        folder: for their files.
        device: where they compute.
        seconds: that are left.
    """

    folder: Path
    device: torch.device
    seconds: float


class _Skipped(Exception):
    """There is nothing to check here."""


def self_test(device: str = "auto", *, seconds: float = SECONDS) -> Iterator[Verdict]:
    """Make the checks one after the other; those for which no time is left are skipped.

    Args:
        device: name of the one to test, as `choose_device` takes it.
        seconds: for all of them.
    """
    end = time.monotonic() + seconds
    try:
        chosen = choose_device(device)
        yield Verdict(name=f"device {chosen}", verdict="ok")
    except SpeechkitError as error:
        chosen = torch.device("cpu")
        yield Verdict(name=f"device {device}", verdict="FAILED", why=error.message, hint=error.hint)
    with tempfile.TemporaryDirectory(prefix="speechkit-") as folder:
        bench = Workbench(folder=Path(folder), device=chosen, seconds=seconds)
        for name, (check, hint) in _CHECKS.items():
            left = end - time.monotonic()
            if left <= 0:
                yield Verdict(name=name, verdict="skipped", why=f"the {seconds:g} s of the self test are over")
            else:
                yield _verdict(name, check, hint, replace(bench, seconds=left))


def _verdict(name: str, check: Callable[[Workbench], None], hint: str, bench: Workbench) -> Verdict:
    start = time.monotonic()
    try:
        check(bench)
    except _Skipped as reason:
        return Verdict(name=name, verdict="skipped", why=str(reason), seconds=time.monotonic() - start)
    except Exception as error:  # the verdict is for whatever may be wrong here
        known = isinstance(error, SpeechkitError) and error.hint
        seconds = time.monotonic() - start
        return Verdict(name=name, verdict="FAILED", why=first_line(error), hint=known or hint, seconds=seconds)
    return Verdict(name=name, verdict="ok", seconds=time.monotonic() - start)


def _read_audio(bench: Workbench) -> None:
    """16 bits come back as they were."""
    tone = _tone(440)
    for ending in ("wav", "flac"):
        path = bench.folder / f"read.{ending}"
        save(path, tone, _RATE)
        samples, rate = read_int16(path, start=100)
        if rate != _RATE or not np.array_equal(samples, tone[100:]):
            raise SpeechkitError(f"{ending}: what is read is not what was written")


def _features(bench: Workbench) -> None:
    """Filter banks of the device are those of the CPU."""
    waves = torch.from_numpy(np.stack([_tone(440), _tone(1000)])).float() / 32768
    lengths = torch.tensor([len(waves[0]), len(waves[0]) // 2])
    expected, _ = fbank(waves, lengths, FbankConfig())
    if bench.device.type == "cpu":
        raise _Skipped("the device is the CPU, which is the reference")
    found, _ = fbank(waves.to(bench.device), lengths.to(bench.device), FbankConfig())
    error = float((found.cpu() - expected).abs().max())
    if not error <= _TOLERANCE:
        raise SpeechkitError(f"filter banks on {bench.device} differ from those of the CPU by {error:.2g}")


def _training(bench: Workbench) -> None:
    """A few steps on two tones lower the loss."""
    utterances = [_utterance(bench.folder, name, frequency) for name, frequency in (("a", 440), ("b", 1000))]
    model = _tiny_network().to(bench.device).train()
    loader = Loader(
        utterances,
        plan_utterances(utterances, _RATE, PlanSettings(batch_seconds=10.0), seed=0),
        sample_rate=_RATE,
        device=bench.device,
        labels={"tokens": Labels(values={u.id: _VOCABULARY.ids(u.id) for u in utterances})},
    )
    optimizer = Optimizer(model, TrainSettings(max_steps=_STEPS))
    update = Updater(model, CTC(num_frames=model.encoder.num_frames), optimizer, dtype=torch.float32, seed=0)
    losses = [update(step, learning_rate=2e-3).loss for step in itertools.islice(loader.steps(), _STEPS)]
    if not losses[-1] < losses[0] < math.inf:
        raise SpeechkitError(f"the loss went from {losses[0]:.3g} to {losses[-1]:.3g} in {_STEPS} steps")


def _transcribe(bench: Workbench) -> None:
    """A saved network writes what it writes when it is called by hand on the CPU."""
    model = _tiny_network().eval()
    with torch.no_grad():
        model.head.weight.mul_(8)  # so that it writes something
    save_model(model, bench.folder / "toy")
    utterance = _utterance(bench.folder, "c", 700)
    waves = torch.from_numpy(read_int16(utterance.path)[0])[None].float() / 32768
    with torch.inference_mode():
        output = model(waves, torch.tensor([waves.shape[1]]))
    expected = _VOCABULARY.text(greedy(output.logits, output.lengths, blank=_VOCABULARY.blank)[0])
    found = transcribe(utterance.path, bench.folder / "toy", device=str(bench.device), dtype="float32")
    text = found.text if not isinstance(found, list) else ""
    if not expected or text != expected:
        raise SpeechkitError(f"a toy network wrote {text!r}, expected {expected!r}")


def _worker(bench: Workbench) -> None:
    """A process of its own reads a recording."""
    utterance = _utterance(bench.folder, "d", 440)
    requests = iter([Request(number=0, utterances=(utterance,))])
    reading = read_ahead(requests, workers=1, prefetch=1, timeout_s=max(bench.seconds, 1.0))
    waves = next(reading)
    reading.close()
    if waves.bad or not np.array_equal(waves.samples[0], _tone(440)):
        raise SpeechkitError("a reading process gave other samples than the file holds")


_CHECKS: dict[str, tuple[Callable[[Workbench], None], str]] = {
    "read audio": (_read_audio, "pip install --force-reinstall soundfile brings its own libsndfile"),
    "features": (_features, "SPEECHKIT_DEVICE=cpu does without the device"),
    "training": (_training, "if SPEECHKIT_DEVICE=cpu helps, the device or its driver is at fault"),
    "transcribe": (_transcribe, "if SPEECHKIT_DEVICE=cpu helps, the device or its driver is at fault"),
    "worker": (_worker, "a busy machine may just be slow; workers=0, the default, reads without other processes"),
}


def _tone(frequency: float) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    """Half a second, int16 `(T,)`, whose loudness rises and falls."""
    time = np.arange(_RATE // 2) / _RATE
    wave = np.sin(2 * np.pi * frequency * time) * np.sin(2 * np.pi * 3 * time)
    return np.rint(8000 * wave).astype(np.int16)


def _utterance(folder: Path, id: str, frequency: float) -> Utterance:
    path, tone = folder / f"{id}.wav", _tone(frequency)
    save(path, tone, _RATE)
    return Utterance(id=id, path=str(path), num_samples=len(tone), sample_rate=_RATE)


def _tiny_network() -> WavLMForCTC:
    """A network of 30,000 random weights without dropout."""
    torch.manual_seed(0)
    encoder = EncoderConfig(
        dim=32,
        num_layers=2,
        ffn_dim=32,
        num_heads=2,
        position_kernel=8,
        position_groups=4,
        num_buckets=16,
        max_distance=40,
        dropout=0.0,
        attention_dropout=0.0,
        layer_drop=0.0,
        init_std=0.4,
    )
    convs = ((16, 10, 5), *[(16, 3, 2)] * 4, (16, 2, 2), (16, 2, 2))
    return WavLMForCTC(WavLMConfig(conv_layers=convs, input_dropout=0.0, encoder=encoder), _VOCABULARY)
