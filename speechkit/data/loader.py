"""Micro-batches on the device, step by step, each made while the one before trains.

One thread plans, draws, reads (or has other processes read, which only decode) and applies the transforms; all that is
random is addressed, so batches do not depend on the number of processes or on where a run starts. B is the number of
utterances of a batch, T its samples.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from speechkit import draws
from speechkit.audio.framing import zero_padding
from speechkit.audio.resample import resample
from speechkit.data.batch import Batch
from speechkit.data.cut import Cut, cut, whole
from speechkit.data.labels import Labels, pad_labels
from speechkit.data.plan import MicroBatch, Plan
from speechkit.data.reader import BadCut, Recordings, Request, Samples, Waves, read_ahead, read_here
from speechkit.data.staging import Staging
from speechkit.data.transforms import Speed, Transform
from speechkit.data.utterance import Utterance
from speechkit.errors import InputError, UsageError

log = logging.getLogger(__name__)

_MIN_BAD = 10
_BAD_SHARE = 0.001


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """The micro-batches of one optimizer step.

    Attributes:
        number: of the step.
        micro_batches: ids, lengths, labels and draws of all of them, on the host and without waves.
    """

    number: int
    micro_batches: list[Batch]
    _loading: Iterator[Batch] = field(repr=False)

    def load(self) -> Iterator[Batch]:
        """The complete micro-batches on the device, one after the other, once."""
        return self._loading


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """A micro-batch before it is read.

    Attributes:
        header: all of it but the waves.
        cuts: what its rows are.
        more: what its transforms want read, by name.
    """

    header: Batch
    cuts: list[Cut]
    more: Mapping[str, Sequence[Cut]]

    def request(self) -> Request:
        """What to read for it."""
        cuts = [*self.cuts, *itertools.chain.from_iterable(self.more.values())]
        return Request(number=self.header.number, utterances=tuple(c.utterance for c in cuts))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Made:
    """A complete micro-batch, the headers of its group, and when its device has it."""

    headers: list[Batch]
    batch: Batch
    ready: torch.cuda.Event | None


class Loader:
    """Batches of utterances, in the order of a plan.

    With a plan for crops every micro-batch is cut to its shortest utterance, at most the plan's `max_crop_samples`, at
    starts drawn as `crop`; labels with a rate are cut along. Otherwise rows are padded. Labels come as labels
    `(B, L)` under their names.

    A recording that cannot be read is silence with weight 0 in the batch; the counts of the step's headers, made
    before reading, still include it.

    Args:
        utterances: what the plan was made for, in its order.
        plan: which of them make up which micro-batch.
        transforms: what to do with them, in this order.
        sample_rate: of the batches, in Hz; recordings at other rates are resampled.
        device: where batches are made.
        micro_batches: how many make a step.
        labels: by name, `tokens` or `units` for instance.
        workers: processes that read; 0 reads in the loader's own thread.
        prefetch: micro-batches that each process reads ahead.
        max_bad: more utterances than these that cannot be read stop the run; by default 0.1 %, but at least 10.
        bad_cuts: a JSON-lines file to add those to.
        cache: keep every recording in memory once it was read, as int16; for small corpora, with `workers` 0.

    Raises:
        ValueError: the arguments do not fit each other.
        InputError: an utterance has no label.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        plan: Plan,
        transforms: Sequence[Transform] = (),
        *,
        sample_rate: int,
        device: str | torch.device = "cpu",
        micro_batches: int = 1,
        labels: Mapping[str, Labels] | None = None,
        workers: int = 0,
        prefetch: int = 4,
        max_bad: int | None = None,
        bad_cuts: Path | None = None,
        cache: bool = False,
    ) -> None:
        if plan.ids != [u.id for u in utterances] or plan.sample_rate != sample_rate:
            raise ValueError("the plan was made for other utterances or another sampling rate")
        if cache and workers:
            raise ValueError(f"a cache is of no use to {workers} workers that read for it")
        self.utterances = utterances
        self.plan = plan
        self.transforms = transforms
        self.sample_rate = sample_rate
        self.micro_batches = micro_batches
        self.labels = labels or {}
        self.workers = workers
        self.prefetch = prefetch
        self.max_bad = bad_allowed(len(utterances)) if max_bad is None else max_bad
        self.bad_cuts = bad_cuts
        self.bad: dict[str, BadCut] = {}
        self.wait_seconds = 0.0
        self._real_samples, self._padded_samples = 0, 0
        self._cropped = plan.max_crop_samples is not None
        self._cache: Recordings | None = {} if cache else None
        self._staging = Staging(device)
        self._check_labels()

    def _check_labels(self) -> None:
        for name, labels in self.labels.items():
            labels.check(name, self.utterances)
            if self._cropped and not labels.rate:
                raise ValueError(f"{name} belong to whole utterances, but the plan is for crops")
            if labels.rate and any(isinstance(t, Speed) for t in self.transforms):
                raise UsageError(f"{name} were made at speed 1.0", hint="switch speed perturbation off")

    @property
    def padding(self) -> float:
        """Padded over all samples of the batches so far."""
        return 1 - self._real_samples / max(self._padded_samples, 1)

    def steps(self, start: int = 0, rank: int = 0, processes: int = 1) -> Iterator[Step]:
        """The steps from number `start` on, without end.

        Of several processes that train together each loads every so many micro-batches of a step.

        Raises:
            InputError: more than `max_bad` utterances cannot be read.
            SpeechkitError: the reading processes die or hang.
        """
        size = self.micro_batches
        numbers = itertools.count(start * size)
        own = range(rank, size, processes)
        with contextlib.closing(self._ahead(map(self.plan.micro_batch, numbers), size, own)) as made:
            for number in itertools.count(start):
                first = next(made)
                rest = (m.batch for m in itertools.islice(made, len(own) - 1))
                loading = itertools.chain([first.batch], rest)
                yield Step(number=number, micro_batches=first.headers, _loading=loading)
                for _ in loading:  # what the caller did not load
                    pass

    def planned(self, step: int) -> list[Planned]:
        """The micro-batches of any one step before they are read: no audio is touched."""
        first = step * self.micro_batches
        return [self._plan(self.plan.micro_batch(n)) for n in range(first, first + self.micro_batches)]

    def once(self) -> Iterator[Batch]:
        """Every utterance once, with the order and the draws of evaluation."""
        epoch = self.plan.epoch(draws.EVALUATION)
        micro_batches = (
            MicroBatch(number=n, epoch=draws.EVALUATION, indices=tuple(indices.tolist()))
            for n, indices in enumerate(epoch)
        )
        with contextlib.closing(self._ahead(micro_batches, 1, range(1))) as made:
            for m in made:
                yield m.batch

    def _ahead(self, micro_batches: Iterable[MicroBatch], size: int, own: range) -> Generator[_Made]:
        """Make one micro-batch ahead in a thread."""
        making = self._make(micro_batches, size, own)
        with ThreadPoolExecutor(1, thread_name_prefix="loader") as thread:
            _use_one_core(thread)
            future = thread.submit(next, making, None)
            try:
                while made := self._wait(future):
                    future = thread.submit(next, making, None)
                    batch = self._staging.take(made.batch, made.ready)
                    yield replace(made, batch=batch)
            finally:
                thread.submit(making.close)

    def _wait(self, future: Future[_Made | None]) -> _Made | None:
        start = time.perf_counter()
        made = future.result()
        self.wait_seconds += time.perf_counter() - start
        return made

    def _make(self, micro_batches: Iterable[MicroBatch], size: int, own: range) -> Generator[_Made]:
        """Plan micro-batches, `size` at a time, then read and complete those of each group that are `own`."""
        planned, to_read = itertools.tee(map(self._plan, micro_batches))
        requests = (p.request() for number, p in enumerate(to_read) if number % size in own)
        if self.workers:
            reading = read_ahead(requests, workers=self.workers, prefetch=self.prefetch)
        else:
            reading = read_here(requests, self._cache)
        with contextlib.closing(reading):
            while group := list(itertools.islice(planned, size)):
                headers = [p.header for p in group]
                for p in group[own.start :: own.step]:
                    waves = next(reading)
                    self._report(p, waves)
                    with self._staging.side():
                        batch = self._complete(p, waves)
                        ready = self._staging.ready()
                    yield _Made(headers=headers, batch=batch, ready=ready)

    def _plan(self, micro_batch: MicroBatch) -> Planned:
        utterances = [self.utterances[i] for i in micro_batch.indices]
        ids = [u.id for u in utterances]
        cuts, starts = self._cuts(utterances, micro_batch.epoch)
        lengths = [c.num_samples for c in cuts]
        labels: dict[str, Tensor | list[str]] = {}
        label_lengths = {}
        for name, values in self.labels.items():
            rows = values.rows(ids, starts, lengths, self.sample_rate, cropped=self._cropped)
            labels[name], label_lengths[name] = pad_labels(rows)
        header = Batch(
            ids=ids,
            number=micro_batch.number,
            epoch=micro_batch.epoch,
            lengths=torch.tensor(lengths, dtype=torch.int64),
            sample_rate=self.sample_rate,
            labels=labels,
            label_lengths=label_lengths,
            weights=torch.ones(len(ids)),
            draws={"crop": torch.tensor(starts, dtype=torch.int64)} if self._cropped else {},
        )
        more: dict[str, Sequence[Cut]] = {}
        for transform in self.transforms:
            header = transform.draw(header, self.plan.seed)
            more |= transform.recordings(header)
        return Planned(header=header, cuts=cuts, more=more)

    def _cuts(self, utterances: Sequence[Utterance], epoch: int) -> tuple[list[Cut], list[int]]:
        """What to read of the utterances of a micro-batch, and where that starts in samples of the batch."""
        cuts = [whole(u, self.sample_rate) for u in utterances]
        if self.plan.max_crop_samples is None:
            return cuts, [0] * len(cuts)
        size = min(self.plan.max_crop_samples, *(c.num_samples for c in cuts))
        free = np.array([c.num_samples - size for c in cuts])
        words = draws.words(self.plan.seed, epoch, "crop", [u.id for u in utterances], 1)[:, 0]
        starts = draws.randint(words, free + 1).tolist()
        return [cut(u, start, size, self.sample_rate) for u, start in zip(utterances, starts, strict=True)], starts

    def _complete(self, planned: Planned, waves: Waves) -> Batch:
        """Bring a micro-batch to the device and apply the transforms there."""
        header, device = planned.header, self._staging.device
        samples = iter(waves.samples)
        rows, lengths = self._assemble(planned.cuts, samples)
        drawn = dict(header.draws)
        for name, cuts in planned.more.items():
            if cuts:
                drawn[f"{name}.waves"], drawn[f"{name}.lengths"] = self._assemble(cuts, samples)
        weights = header.weights.clone()
        weights[[position for position in waves.bad if position < len(weights)]] = 0
        batch = replace(header, waves=rows, lengths=lengths, weights=weights.to(device), draws=drawn)
        for transform in self.transforms:
            batch = transform(batch)
        done_with = {f"{name}.{what}" for name in planned.more for what in ("waves", "lengths")}
        return replace(
            batch,
            labels={k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.labels.items()},
            label_lengths={k: v.to(device) for k, v in batch.label_lengths.items()},
            draws={k: v.to(device) for k, v in batch.draws.items() if k not in done_with},
        )

    def _assemble(self, cuts: Sequence[Cut], samples: Iterator[Samples]) -> tuple[Tensor, Tensor]:
        """Pad what was read to float `(B, T)` at the rate of the batch, with its lengths `(B,)`."""
        device = self._staging.device
        own = list(itertools.islice(samples, len(cuts)))
        sizes = [c.num_samples for c in cuts]
        lengths = torch.tensor(sizes, dtype=torch.int64, device=device)
        rates = [c.utterance.sample_rate for c in cuts]
        if set(rates) <= {self.sample_rate}:
            return self._staging.upload(own), lengths
        waves = torch.zeros(len(cuts), max(sizes), device=device)
        for rate in sorted(set(rates)):
            rows = [i for i, r in enumerate(rates) if r == rate]
            old_lengths = torch.tensor([len(own[i]) for i in rows], device=device)
            uploaded = self._staging.upload([own[i] for i in rows])
            resampled, _ = resample(uploaded, old_lengths, rate, self.sample_rate)
            width = min(waves.shape[1], resampled.shape[1])
            waves[torch.tensor(rows, device=device), :width] = resampled[:, :width]
        return zero_padding(waves, lengths), lengths  # resampled rows may be a sample or two longer than their cuts

    def _report(self, planned: Planned, waves: Waves) -> None:
        """Note what could not be read, and measure the padding."""
        sizes = [c.num_samples for c in planned.cuts]
        self._real_samples += sum(sizes)
        self._padded_samples += len(sizes) * max(sizes)
        new = [bad for bad in waves.bad.values() if bad.id not in self.bad]
        for bad in new:
            log.warning("%s cannot be read and counts nothing: %s", bad.id, bad.error)
            self.bad[bad.id] = bad
        if new and self.bad_cuts:
            self.bad_cuts.parent.mkdir(parents=True, exist_ok=True)
            with self.bad_cuts.open("a", encoding="utf-8") as file:
                file.writelines(
                    json.dumps(asdict(bad) | {"micro_batch": planned.header.number}, ensure_ascii=False) + "\n"
                    for bad in new
                )
        if len(self.bad) > self.max_bad:
            where = f", all in {self.bad_cuts}" if self.bad_cuts else ""
            raise InputError(
                f"{len(self.bad)} of {len(self.utterances)} utterances cannot be read, at most {self.max_bad} may be: "
                + ", ".join(itertools.islice(self.bad, 3))
                + (", …" if len(self.bad) > 3 else "")
                + where,
                hint="speechkit data validate --check-audio full DIR names every damaged recording",
                code="data.bad",
            )


def bad_allowed(count: int) -> int:
    """How many of so many utterances may be unreadable."""
    return max(_MIN_BAD, int(_BAD_SHARE * count))


def _use_one_core(thread: ThreadPoolExecutor) -> None:
    """Leave the other cores to training, and make sums in the same order on every machine."""
    threads = torch.get_num_threads()
    thread.submit(torch.get_num_threads).result()  # the first call in a thread takes the number set for all
    thread.submit(torch.set_num_threads, 1).result()  # sets that of the thread, and the one for threads yet to come
    torch.set_num_threads(threads)
