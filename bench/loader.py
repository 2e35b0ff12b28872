"""The device loader: against a DataLoader that does the same per utterance, and what it costs a training."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch import Tensor, nn

from bench import speech
from bench.case import Group, Settings
from bench.networks import demo_encoder, seed_weights
from bench.timing import Output, Side, Work, compare
from speechkit import draws
from speechkit.allocator import keep_memory
from speechkit.audio.fbank import FbankConfig
from speechkit.compat import load_torchaudio
from speechkit.data.batch import Batch
from speechkit.data.labels import Labels
from speechkit.data.loader import Loader
from speechkit.data.plan import PlanSettings, plan_utterances
from speechkit.data.span_mask import SpanSettings
from speechkit.data.transforms import Features, SpanMask, Speed, Tilt, Volume
from speechkit.data.utterance import Utterance, read_utterances, write_utterances
from speechkit.decode.vocabulary import Vocabulary
from speechkit.models.wavlm.heads import WavLMForCTC
from speechkit.objectives.ctc import CTC
from speechkit.train.optimizer import Optimizer
from speechkit.train.settings import TrainSettings
from speechkit.train.update import Step, Updater

CLOSE = 1e-3  # log-mel features, whose logarithms show every bit of an almost empty filter
_SPEEDS = (0.9, 1.0, 1.1)
WHAT = "FLAC files, speeds 0.9, 1 and 1.1, fbank-80"
_WORDS = Vocabulary(("<pad>", "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"), blank=0)


def groups(settings: Settings) -> Iterator[Group]:
    """Features of an epoch, then steps of a training."""
    few = settings.quick
    index = record(settings.folder / "long", *((8, 1, 2) if few else (200, 2, 16)))
    given: dict[str, Any] = {"index": index, "batch_seconds": 5.0 if few else 100.0}
    sides = [
        Side(name="speechkit, 1 worker", make=our_features, arguments=given | {"workers": 1}),
        Side(name="speechkit, no worker", make=our_features, arguments=given, tolerance=CLOSE),
    ]
    for workers in (0, 1) if few else (0, 1, 2):
        arguments = given | {"workers": workers}
        name = f"DataLoader and torchaudio, {workers} workers"
        sides.append(Side(name=name, make=their_features, arguments=arguments, tolerance=CLOSE))
    yield Group(what=WHAT, timings=compare(sides, settings.trials), audio_seconds=seconds_of(index))

    index = record(settings.folder / "short", *((8, 0.5, 1) if few else (400, 0.5, 4)))
    steps = 2 if few else 40
    given = {"index": index, "steps": steps, "turns": settings.trials + 1}
    sides = [
        Side(name="device loader", make=training, arguments=given | {"in_memory": False}),
        Side(name="batches in memory", make=training, arguments=given | {"in_memory": True}, tolerance=1e-6),
    ]
    yield Group(what=f"{steps} steps of the demo's fine-tuning", timings=compare(sides, settings.trials))


def record(folder: Path, count: int, low: float, high: float) -> Path:
    """Write recordings of between so many seconds; returns the list of utterances."""
    index = folder.with_suffix(".jsonl")
    write_utterances(index, speech.record(folder, speech.lengths(count, low, high)))
    return index


def seconds_of(index: Path) -> float:
    """All audio of a list of utterances."""
    return sum(u.duration_s for u in read_utterances(index))


def our_features(index: Path, batch_seconds: float, device: str = "cpu", workers: int = 0) -> Work:
    """An epoch of the device loader; every turn goes on with the next one, its workers stay.

    They read up to four batches ahead while others have their turn. That made no turn on a CPU shorter: 0.47 s with a
    pause before it and without.
    """
    loader = _feature_loader(index, batch_seconds, device=device, workers=workers)
    steps = loader.steps()
    epochs = itertools.count()

    def work() -> Output:
        rows: list[Tensor] = []
        for step in itertools.islice(steps, len(loader.plan.epoch(next(epochs)))):
            for batch in step.load():
                assert batch.features is not None
                assert batch.feature_lengths is not None
                rows += [row[:n] for row, n in zip(batch.features, batch.feature_lengths.tolist(), strict=True)]
        return rows

    return work


def _feature_loader(index: Path, batch_seconds: float, **settings: Any) -> Loader:
    utterances = read_utterances(index)
    plan = plan_utterances(utterances, speech.RATE, PlanSettings(batch_seconds=batch_seconds), seed=0)
    transforms = [Speed(factors=_SPEEDS), Features(config=FbankConfig())]
    return Loader(utterances, plan, transforms, sample_rate=speech.RATE, **settings)


def their_features(index: Path, batch_seconds: float, workers: int, device: str = "cpu") -> Work:
    """The same batches and speeds from a DataLoader whose workers do everything, utterance by utterance."""
    ours = _feature_loader(index, batch_seconds)
    headers = [ours.planned(number)[0].header for number in range(len(ours.plan.epoch(0)))]
    paths = {u.id: u.path for u in ours.utterances}
    speeds = {i: float(s) for header in headers for i, s in zip(header.ids, header.draws["speed"], strict=True)}
    order = list(paths)
    number = {i: n for n, i in enumerate(order)}
    loader = torch.utils.data.DataLoader(
        _Recordings([paths[i] for i in order], [speeds[i] for i in order]),
        batch_sampler=[[number[i] for i in header.ids] for header in headers],
        num_workers=workers,
        collate_fn=_padded,
        persistent_workers=workers > 0,
        multiprocessing_context="fork" if workers else None,
        pin_memory=device != "cpu",
    )

    def work() -> Output:
        rows: list[Tensor] = []
        for features, lengths in loader:
            on_device = features.to(device, non_blocking=True)
            rows += [row[:n] for row, n in zip(on_device, lengths, strict=True)]
        return rows

    return work


class _Recordings(torch.utils.data.Dataset[Tensor]):
    """Features `(F, D)` of recordings, as people write it with torchaudio."""

    def __init__(self, paths: Sequence[str], speeds: Sequence[float]) -> None:
        self.paths = paths
        self.speeds = speeds
        self.torchaudio = load_torchaudio()
        self.changes = {s: self.torchaudio.transforms.Speed(speech.RATE, s) for s in set(speeds)}

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> Tensor:
        samples, _ = soundfile.read(self.paths[position], dtype="float32")  # torchaudio's own reader is gone
        wave, _ = self.changes[self.speeds[position]](torch.from_numpy(samples)[None])
        features: Tensor = self.torchaudio.compliance.kaldi.fbank(wave, num_mel_bins=80, dither=0.0)
        return features


def _padded(rows: list[Tensor]) -> tuple[Tensor, list[int]]:
    return nn.utils.rnn.pad_sequence(rows, batch_first=True), [len(row) for row in rows]


def training(index: Path, steps: int, turns: int, *, in_memory: bool) -> Work:
    """Steps of CTC training at the demo's size; each turn goes on with the next ones.

    Args:
        index: of the recordings, which are kept in memory as in the demo.
        steps: of a turn.
        turns: there will be.
        in_memory: whether all batches are made before.
    """
    keep_memory()
    utterances = read_utterances(index)
    seed_weights()
    model = WavLMForCTC(demo_encoder(), _WORDS).train()
    settings = TrainSettings(max_steps=steps * turns)
    objective = CTC(num_frames=model.encoder.num_frames)
    update = Updater(model, objective, Optimizer(model, settings), dtype=torch.float32, seed=0)
    made: Iterator[Step] = _training_loader(utterances, model).steps()
    if in_memory:
        made = iter([_Kept(step.number, list(step.load())) for step in itertools.islice(made, steps * turns)])

    def work() -> Output:
        losses = [update(step, settings.learning_rate).loss for step in itertools.islice(made, steps)]
        return [torch.tensor(losses)]

    return work


def _training_loader(utterances: Sequence[Utterance], model: WavLMForCTC) -> Loader:
    plan = plan_utterances(utterances, speech.RATE, PlanSettings(batch_seconds=20.0), seed=0)
    speeds = (0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2)
    mask = SpanSettings(prob=0.12, length=4, min_masks=0)
    transforms = [Speed(factors=speeds), Tilt(), Volume(), SpanMask(num_frames=model.encoder.num_frames, spans=mask)]
    tokens = Labels(values=_digits(utterances))
    return Loader(
        utterances, plan, transforms, sample_rate=speech.RATE, labels={"tokens": tokens}, workers=0, cache=True
    )


def _digits(utterances: Sequence[Utterance]) -> Mapping[str, Sequence[int]]:
    """Two words a second."""
    words = draws.words(0, draws.EVALUATION, "sample", [u.id for u in utterances], 64)
    tokens = 1 + draws.randint(words, len(_WORDS) - 1)
    return {u.id: tokens[n, : round(2 * u.duration_s)].tolist() for n, u in enumerate(utterances)}


@dataclass(frozen=True, slots=True)
class _Kept:
    """A step whose batches are in memory."""

    number: int
    micro_batches: Sequence[Batch]

    def load(self) -> Iterator[Batch]:
        return iter(self.micro_batches)
