"""The training loop. It knows no system: a model, an objective, a loader and settings go in, weights come out."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from speechkit.allocator import keep_memory, release_memory
from speechkit.checkpoints.weights import write_safetensors
from speechkit.errors import SpeechkitError, UsageError
from speechkit.files import remove, whole
from speechkit.objectives.objective import Objective
from speechkit.train.encoders import prepare_encoders
from speechkit.train.monitor import Metrics, Window, line, memory_mib, validation_line
from speechkit.train.optimizer import Optimizer, RunningAverage, freeze, freeze_for
from speechkit.train.precision import choose_dtype
from speechkit.train.settings import TrainSettings
from speechkit.train.state import Snapshot, TrainState, comparable, load_checkpoint, save_checkpoint
from speechkit.train.update import Step, Update, Updater, seconds_of
from speechkit.train.world import join, leave

log = logging.getLogger(__name__)

_TIMED, _UNTIMED = 20, 5  # steps made to find out how long one takes, and those of them that only warm up
_RELEASE_STEPS = 50  # after so many, memory that has been kept goes back
_MAX_SKIPPED, _SKIP_WINDOW = 20, 1000

ModelT = TypeVar("ModelT", bound=nn.Module)


class StepLoader(Protocol):
    """Where batches come from."""

    @property
    def wait_seconds(self) -> float:
        """How long training has waited for batches so far."""

    @property
    def padding(self) -> float:
        """The share of padding in the batches so far."""

    @property
    def micro_batches(self) -> int:
        """How many make a step."""

    def steps(self, start: int = 0, rank: int = 0, processes: int = 1) -> Iterator[Step]:
        """The steps of the endless plan from `start` on, with what process `rank` of so many has to load of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """What came of a training.

    Attributes:
        steps: made.
        max_steps: of the whole training.
        dtype: that it ran in.
        seconds: spent in steps.
        audio_seconds: seen.
        num_skipped: steps without a finite loss or gradient.
        interrupted: it was told to stop before its end; the same call continues it.
        best: files of kept weights, the best first; empty without validation.
        last: files of kept weights, the newest first.
        best_value: of the validation, of the first of `best`.
    """

    steps: int
    max_steps: int
    dtype: str
    seconds: float
    audio_seconds: float
    num_skipped: int
    interrupted: bool
    best: tuple[Path, ...]
    last: tuple[Path, ...]
    best_value: float | None


def train(
    model: ModelT,
    objective: Objective[ModelT],
    loader: StepLoader,
    settings: TrainSettings,
    *,
    seed: int,
    out: Path,
    validate: Callable[[ModelT], Mapping[str, float | str]] | None = None,
    progress: Callable[[int, int, str], None] = lambda step, max_steps, text: None,  # noqa: ARG005
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainResult:
    """Train a model, or continue where the checkpoints in `out` end.

    Of several processes (see `World`) each calls it with the same arguments and loads its share of every step. Process
    0 alone validates, writes and reports; all of them end with the same weights.

    Written to `out`: `checkpoints/` to continue from, `weights/step-NNNNNNNN.safetensors` (the best and the newest, the
    averaged ones where there is an average), `metrics.jsonl` and the same for TensorBoard where that is installed.

    Args:
        model: on its device, with its initial weights.
        objective: what is minimized.
        loader: of the training batches.
        settings: of the loop.
        seed: of dropout.
        out: the folder of the training; the same one continues it.
        validate: called in evaluation mode, without gradients, in float32; its numbers rank the weights and go, with
            its texts, into metrics.jsonl.
        progress: called at every row with the steps made, those of the whole training and a line for people.
        should_stop: asked after every step; when it says so a checkpoint is written and the loop returns.

    Raises:
        UsageError: settings that make no sense or differ from those that the training began with.
        ModelError: the device has too little memory.
        OutputError: `out` cannot be written to.
        SpeechkitError: too many steps had no finite loss or gradient.
    """
    keep_memory()
    try:
        return _Loop(model, objective, loader, settings, seed, out).run(validate, progress, should_stop)
    finally:
        leave()


class _Loop:
    def __init__(
        self,
        model: nn.Module,
        objective: Objective[Any],
        loader: StepLoader,
        settings: TrainSettings,
        seed: int,
        out: Path,
    ) -> None:
        self.model, self.objective, self.loader = model, objective, loader
        self.settings, self.seed, self.out = settings, seed, out
        self.device = next(model.parameters()).device
        self.world = join(self.device)
        self.world.check(loader.micro_batches)
        prepare_encoders(model, settings)
        freeze(model, settings)
        self.optimizer = Optimizer(model, settings)
        self.average = RunningAverage(model, settings.ema) if settings.ema else None
        found = self._continue()
        self.world.agree(found.step if found else 0, out / "checkpoints")
        self.state = found or self._begin()
        self.window = Window(**self.state.window)
        self.metrics = Metrics(out / "metrics.jsonl", self.state.step) if self._writes else None
        self.update = self._updater(self.optimizer, self.state.dtype)

    @property
    def _writes(self) -> bool:
        return self.world.rank == 0

    def _steps(self, start: int) -> Iterator[Step]:
        return self.loader.steps(start, self.world.rank, self.world.size)

    def _continue(self) -> TrainState | None:
        folder, settings = self.out / "checkpoints", comparable(self.settings, self.seed)
        saved = load_checkpoint(folder, settings, tidy=self._writes)
        if saved is None:
            return None
        state, tensors = saved
        self.model.load_state_dict(tensors["model"])
        self.optimizer.load(tensors["optimizer"])
        if self.average:
            self.average.load(tensors["average"])
        state.snapshots = [s for s in state.snapshots if self._path(s).exists()]
        log.info("continuing after step %d of %d", state.step, state.max_steps)
        return state

    def _begin(self) -> TrainState:
        dtype = self.world.of_first(str(choose_dtype(self.settings.dtype, self.device)).removeprefix("torch."))
        max_steps = self.settings.max_steps
        if self.settings.max_minutes is not None:
            seconds = self.world.of_first(self._seconds_per_step(dtype))
            affordable = max(1, int(self.settings.max_minutes * 60 / seconds))
            log.info("a step takes %.3f s: %.3g minutes are %d steps", seconds, self.settings.max_minutes, affordable)
            max_steps = affordable if max_steps is None else min(max_steps, affordable)
        assert max_steps is not None
        total = sum(p.numel() for p in self.model.parameters())
        trained = sum(p.numel() for p in self.optimizer.parameters.values())
        log.info("training %d of %d parameters for %d steps in %s", trained, total, max_steps, dtype)
        return TrainState(max_steps=max_steps, dtype=dtype, settings=comparable(self.settings, self.seed))

    def _seconds_per_step(self, dtype: str) -> float:
        """Time the first steps at learning rate 0 with an optimizer of their own, so that they leave no trace."""
        self.model.train()
        freeze_for(self.model, self.settings, self.settings.freeze_steps)
        update = self._updater(Optimizer(self.model, self.settings), dtype)
        times = []
        for step in islice(self._steps(0), _TIMED):
            update(step, learning_rate=0.0)
            times.append(time.perf_counter())
        return (times[-1] - times[_UNTIMED - 1]) / (_TIMED - _UNTIMED)

    def _updater(self, optimizer: Optimizer, dtype: str) -> Updater:
        return Updater(
            self.model,
            self.objective,
            optimizer,
            dtype=getattr(torch, dtype),
            seed=self.seed,
            world=self.world,
        )

    def run(
        self,
        validate: Callable[[Any], Mapping[str, float | str]] | None,
        progress: Callable[[int, int, str], None],
        should_stop: Callable[[], bool],
    ) -> TrainResult:
        state, settings = self.state, self.settings
        self.model.train()
        saved = time.monotonic()
        started, waited = time.perf_counter(), self.loader.wait_seconds
        for step in islice(self._steps(state.step), state.max_steps - state.step):
            update = self._step(step)
            now, wait_now = time.perf_counter(), self.loader.wait_seconds
            self._account(step, update, seconds=now - started, wait_seconds=wait_now - waited)
            stop, last = self.world.any(should_stop(), self.device), state.step == state.max_steps
            if state.step % settings.log_every == 0 or last:
                self._report(update, progress)
            if state.step % settings.validate_every == 0 or last:
                self._keep_weights(validate, progress)
                saved = time.monotonic()
            elif stop or time.monotonic() - saved > settings.save_minutes * 60:
                self._save()
                saved = time.monotonic()
            if state.step % _RELEASE_STEPS == 0:
                release_memory()
            if stop:
                break
            started, waited = time.perf_counter(), wait_now
        if self.metrics:
            self.metrics.close()
        return self._result()

    def _step(self, step: Step) -> Update:
        assert step.number == self.state.step, "the loader went on at another step"
        freeze_for(self.model, self.settings, step.number)
        update = self.update(step, self._rate(step.number))
        if not update.finite:
            self._skip(step, update)
        elif self.average:
            self.average.update(self.model, step.number)
        self.state.step += 1
        return update

    def _rate(self, step: int) -> float:
        return self.settings.schedule.rate(step, peak=self.settings.learning_rate, max_steps=self.state.max_steps)

    def _skip(self, step: Step, update: Update) -> None:
        """Note a step that had no effect; too many are the end."""
        ids = ", ".join(i for batch in step.micro_batches for i in batch.ids)
        log.warning(
            "step %d skipped: loss %g, gradient norm %g: %s", step.number, update.loss, update.gradient_norm, ids
        )
        self.state.skipped.append(step.number)
        recent = sum(number > step.number - _SKIP_WINDOW for number in self.state.skipped)
        if recent > _MAX_SKIPPED:
            raise SpeechkitError(
                f"step {step.number}: {recent} of the last {_SKIP_WINDOW} steps had no finite loss or gradient",
                hint="lower train.learning_rate or set train.dtype=float32; the log names the utterances",
                code="train.diverged",
            )

    def _account(self, step: Step, update: Update, *, seconds: float, wait_seconds: float) -> None:
        audio_seconds = sum(seconds_of(batch) for batch in step.micro_batches)
        self.state.seconds += seconds
        self.state.audio_seconds += audio_seconds
        self.window.add(update, seconds=seconds, audio_seconds=audio_seconds, wait_seconds=wait_seconds)

    def _report(self, update: Update, progress: Callable[[int, int, str], None]) -> None:
        """Write a row about the steps since the last one, and begin a new window."""
        state = self.state
        values: dict[str, float | str] = {
            **self.window.values(),
            "learning_rate": self._rate(state.step - 1),
            "epoch": update.batch.epoch,
            "audio_hours": state.audio_seconds / 3600,
            "padding_share": self.loader.padding,
            "memory_mib": memory_mib(self.device),
            "skipped": len(state.skipped),
        }
        with self._evaluating():
            if self._writes and (example := self.objective.example(self.model, update.batch)):
                values["example"] = example
        self.window = Window()
        if self.metrics:
            self.metrics.write("train", state.step, values)
        seconds_left = (state.max_steps - state.step) * state.seconds / state.step
        self._tell(line(values, seconds_left), progress)

    def _tell(self, text: str, progress: Callable[[int, int, str], None]) -> None:
        if not self._writes:
            return
        log.info("step %d/%d · %s", self.state.step, self.state.max_steps, text)
        progress(self.state.step, self.state.max_steps, text)

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        """The model without dropout and gradients, in float32 whatever it is trained in."""
        self.model.eval()
        with torch.no_grad():
            yield
        self.model.train()

    def _keep_weights(
        self,
        validate: Callable[[Any], Mapping[str, float | str]] | None,
        progress: Callable[[int, int, str], None],
    ) -> None:
        """Validate, keep the weights and a checkpoint that knows of them, then remove the weights that were beaten."""
        state, settings = self.state, self.settings
        values: Mapping[str, float | str] = {}
        with self.average.applied(self.model) if self.average else contextlib.nullcontext():
            if validate and self._writes:
                with self._evaluating():
                    values = validate(self.model)
            values = self.world.of_first(values)
            snapshot = Snapshot(step=state.step, value=self._value(values) if validate else None)
            if self._writes:
                with whole(self._path(snapshot)) as temporary:
                    write_safetensors(temporary, self.model.state_dict())
        if validate and self.metrics:
            self.metrics.write("valid", state.step, values)
            self._tell(validation_line(values), progress)
        state.snapshots.append(snapshot)
        kept = {*self._best()[: settings.keep_best], *state.snapshots[-settings.keep_last :]}
        state.snapshots = [s for s in state.snapshots if s in kept]
        self._save()
        if not self._writes:
            return
        for path in set((self.out / "weights").iterdir()) - {self._path(s) for s in kept}:
            remove(path)

    def _value(self, values: Mapping[str, float | str]) -> float | None:
        """What ranks the weights; None when it is not a number."""
        best = self.settings.best
        if not isinstance(values.get(best), float | int):
            raise UsageError(f"train.best: the validation gives no {best!r}", hint=f"it gives {', '.join(values)}")
        value = float(values[best])
        return None if math.isnan(value) else value

    def _best(self) -> list[Snapshot]:
        ranked = [(s.value, s.step, s) for s in self.state.snapshots if s.value is not None]
        return [snapshot for _, _, snapshot in sorted(ranked, key=lambda r: r[:2])]

    def _path(self, snapshot: Snapshot) -> Path:
        return self.out / "weights" / f"step-{snapshot.step:08d}.safetensors"

    def _save(self) -> None:
        if not self._writes:
            return
        self.state.window = asdict(self.window)
        tensors = {"model": self.model.state_dict(), "optimizer": self.optimizer.tensors()}
        if self.average:
            tensors["average"] = self.average.weights
        save_checkpoint(self.out / "checkpoints", self.state, tensors)

    def _result(self) -> TrainResult:
        state, best = self.state, self._best()[: self.settings.keep_best]
        return TrainResult(
            steps=state.step,
            max_steps=state.max_steps,
            dtype=state.dtype,
            seconds=state.seconds,
            audio_seconds=state.audio_seconds,
            num_skipped=len(state.skipped),
            interrupted=state.step < state.max_steps,
            best=tuple(self._path(s) for s in best),
            last=tuple(self._path(s) for s in reversed(state.snapshots[-self.settings.keep_last :])),
            best_value=best[0].value if best else None,
        )
