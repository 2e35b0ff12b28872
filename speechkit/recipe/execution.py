"""Runs the stages of a plan: locks, temporary outputs, logs, records, and an end at the next safe point."""

from __future__ import annotations

import logging
import time
import traceback
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from speechkit import config as configuration
from speechkit import files
from speechkit.errors import Busy, InputError, OutputError, SpeechkitError, UsageError, first_line
from speechkit.jobs import Executor, Interrupted, Shard
from speechkit.recipe import record as records
from speechkit.recipe.attempt import Attempt, duration
from speechkit.recipe.context import Console, Context
from speechkit.recipe.environment import environment
from speechkit.recipe.logs import stage_log, tail
from speechkit.recipe.places import Places, in_exp
from speechkit.recipe.planning import LOCK, Planned, Selection, empty, open_digests, plan
from speechkit.recipe.processes import Follower, beside, follow, rank, started_together, the_training
from speechkit.recipe.shares import compute_share, in_pieces
from speechkit.recipe.signals import StopSignals
from speechkit.recipe.stage import Recipe, Stage

_DAY_SECONDS = 86400.0


class StageFailed(SpeechkitError):
    """A stage raised an error; the exit code is that of the error."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """How a run ended.

    Args:
        ran: numbers of the stages that ran to their end.
        signal: the signal that ended it early.
        next_stage: the stage to go on with, None when all are done.
    """

    ran: tuple[int, ...]
    signal: int | None
    next_stage: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Resources:
    """What a run may use.

    Args:
        nj: jobs of a stage.
        device: of stages that want one.
        command: the command line, for the records.
        processes: of a training stage.
        follower: the command of those processes other than this one, by the number of the stage.
        executor: where the jobs of a stage run.
        shard: the share of a stage in pieces that is computed here; None: all of it.
    """

    nj: int = 1
    device: str = "auto"
    command: str = ""
    processes: int = 1
    follower: Follower = lambda number: ()  # noqa: ARG005
    executor: Executor = "local"
    shard: Shard | None = None


def execute(
    recipe: Recipe,
    config: Any,
    places: Places,
    selection: Selection,
    console: Console,
    resources: Resources = Resources(),
) -> Report:
    """Run the selected stages that are not done, in the order of their numbers.

    Args:
        recipe: the stages.
        config: an instance of the recipe's configuration.
        places: the folders.
        selection: which stages are to run.
        console: is told how it goes.
        resources: what may be used.

    Raises:
        Busy: another run holds the experiment, or an output that experiments share.
        UsageError: the settings of a training that was begun have changed and it is not forced to start afresh.
        InputError: an input is missing that no selected stage makes.
        StageFailed: a stage raised an error.
    """
    selection.check(recipe)
    if resources.shard is not None:
        if selection.force:
            hint = "--force-stage without --shard begins it afresh, and --nj and --executor share it too"
            raise UsageError("--force-stage and --shard do not go together", hint=hint, code="recipe.shard")
        unfinished = _share(recipe, config, places, selection, console, resources, resources.shard)
        if unfinished is not None:
            return unfinished
    elif started_together():
        stage = the_training([s for s in recipe.stages if selection.includes(s)])
        if rank():
            if not _find(plan(recipe, config, places, selection), stage.number).runs:
                return Report(ran=(), signal=None, next_stage=None)  # process 0 leaves it out too
            received = follow(stage, config, places, resources.device, resources.command)
            return Report(ran=(stage.number,), signal=received, next_stage=None)
    if not places.exp.exists():  # a run that cannot begin leaves no folder
        _refuse_missing(plan(recipe, config, places, selection))
        try:
            places.exp.mkdir(parents=True)
        except OSError as error:
            raise files.unwritable(places.exp, error) from error
    with ExitStack() as stack:
        try:
            stack.enter_context(files.lock(places.exp / LOCK, places.shown("exp")))
        except Busy as busy:
            if resources.shard is None or busy.hint:  # of another machine nobody knows whether it is alive
                raise
            console.line(f"another process puts the pieces together: {busy.message}")
            return Report(ran=(), signal=None, next_stage=None)
        signals = stack.enter_context(StopSignals(console.line))
        return _Run(recipe, config, places, selection, console, resources, signals).run()


def _share(
    recipe: Recipe,
    config: Any,
    places: Places,
    selection: Selection,
    console: Console,
    resources: Resources,
    shard: Shard,
) -> Report | None:
    """Compute a shard of a stage; None when no piece of it is left, so that the stage can be run."""
    planned = plan(recipe, config, places, selection)
    this = in_pieces(recipe, planned)
    if not this.runs:
        return None
    if this.needs_force:
        raise _begun_otherwise([this], places)
    _refuse_missing(planned)
    left, received = compute_share(
        this,
        config,
        places,
        console,
        shard,
        resources.command,
        nj=resources.nj,
        executor=resources.executor,
        device=resources.device if this.stage.gpu else "cpu",
    )
    if left and not in_pieces(recipe, plan(recipe, config, places, selection)).runs:
        return None  # another process has put them together in the meantime
    return Report(ran=(), signal=received, next_stage=None) if left else None


class _Run:
    """One call of `execute`."""

    def __init__(
        self,
        recipe: Recipe,
        config: Any,
        places: Places,
        selection: Selection,
        console: Console,
        resources: Resources,
        signals: StopSignals,
    ) -> None:
        self.recipe, self.config, self.places, self.selection = recipe, config, places, selection
        self.console, self.resources, self.signals = console, resources, signals
        self.digests = open_digests(places)

    def run(self) -> Report:
        """Go through the selected stages."""
        planned = self._plan()
        self._refuse_changed_training(planned)
        _refuse_missing(planned)
        self._write_config()
        self._warn(planned)
        ran: list[int] = []
        unfinished: int | None = None
        for number in self._chosen(planned):
            this = _find(planned, number)
            if self.signals.stopping():
                unfinished = number
                break
            if not this.runs:
                self._skip(this)
                continue
            finished = self._locked(this)
            self.selection = replace(self.selection, force=self.selection.force - {number})
            planned = self._plan()
            if not finished:
                unfinished = number
                break
            ran.append(number)
        next_stage = self._next(planned) if unfinished is None else unfinished
        return Report(ran=tuple(ran), signal=self.signals.received, next_stage=next_stage)

    def _chosen(self, planned: list[Planned]) -> list[int]:
        """The stages to go through; one that the configuration skips is mentioned only to those who named it."""
        chosen = [p for p in planned if p.selected and (p.state != "skipped" or self.selection.names(p.stage))]
        return [p.stage.number for p in chosen]

    def _plan(self) -> list[Planned]:
        planned = plan(self.recipe, self.config, self.places, self.selection, self.digests, locked=True)
        self.digests.save()
        return planned

    def _next(self, planned: list[Planned]) -> int | None:
        last = max(p.stage.number for p in planned if p.selected)
        later = [p for p in planned if p.stage.number > last and p.stage.group != "upload"]
        return next((p.stage.number for p in later if p.state not in ("done", "skipped")), None)

    def _refuse_changed_training(self, planned: list[Planned]) -> None:
        changed = [p for p in planned if p.stage.group == "train" and p.changed_settings and p.needs_force]
        for line in dict.fromkeys(line for this in changed for line in this.changed_settings):
            self.console.line(f"  {line}")
        if changed:
            raise _begun_otherwise(changed, self.places)

    def _write_config(self) -> None:
        file = self.places.exp / "config.yaml"
        text = configuration.dump(self.config)
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            files.write_text(file, text)

    def _warn(self, planned: list[Planned]) -> None:
        last = max(p.stage.number for p in planned if p.selected)
        for this in planned:
            if not this.selected and this.state == "stale" and 1 <= this.stage.number < last:
                self.console.line(f"warning: {this.stage} is stale ({this.why}) and is not run")

    def _skip(self, this: Planned) -> None:
        if this.state == "skipped":
            self.console.line(f"{this.stage}: {this.why}")
            return
        record = this.record
        assert record is not None
        if records.read(self.places.records / f"{this.stage.label}.json") != record:  # made by another experiment
            replace(record, stage=this.stage.number).write(self.places.records)
        self.console.line(f"{this.stage}: done {record.started[:16]}, skipped")
        if this.code_changed:
            text = f"code of stage {this.stage.number} changed since its last run"
            self.console.line(f"note: {text} (bump its version or use --force-stage {this.stage.number})")

    def _locked(self, this: Planned) -> bool:
        """Run a stage under the locks of the outputs that it shares with other experiments."""
        shared = [o for o in this.outputs.values() if not in_exp(o)]
        with ExitStack() as locks:
            for output in shared:
                path = self.places.path(output).resolve()
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise files.unwritable(path.parent, error) from error
                locks.enter_context(files.lock(path.with_name(f".{path.name}.lock"), output))
            planned = self._plan()
            this = _find(planned, this.stage.number)
            if not this.runs:  # another experiment has just made them
                self._skip(this)
                return True
            if this.needs_force:
                raise _begun_otherwise([this], self.places)
            _refuse_missing(planned, this)
            return self._stage(this)

    def _stage(self, this: Planned) -> bool:
        """Run a stage; tell whether it came to its end."""
        stage = this.stage
        work = self._work(this)
        self._remove_leftovers(this)
        if this.forced:
            files.remove(self.places.pieces(stage))
        attempt = Attempt(this, self.places, command=self.resources.command, device=self._device(stage))
        attempt.write("running")
        self.console.line(f"{stage}: {'goes on' if this.state == 'partial' else 'begins'} ({this.why or this.state})")
        self.signals.gentle = work is not None
        unfinished: Literal["partial", "failed"] = "partial" if work or stage.pieces else "failed"
        log_file = self.places.exp / "log" / f"{stage.label}.log"
        try:
            with stage_log(log_file, self.resources.command, environment()) as log:
                self._call(this, attempt, work, log, log_file)
        except Interrupted as stop:
            note = attempt.note or str(stop) or "stopped"
            attempt.write(unfinished, note)
            self.console.line(f"{stage}: {note}")
            return False
        except Exception as error:
            with suppress(OutputError):  # the disk may be full
                attempt.write("failed", first_line(error))
            raise self._failure(this, error, log_file) from error
        except BaseException:
            attempt.write(unfinished, attempt.note or "interrupted")
            raise
        finally:
            self.signals.gentle = False
        self.digests.forget()
        digests = {n: self.digests.digest(self.places.path(o)) or "" for n, o in this.outputs.items()}
        attempt.write("done", outputs=digests)
        if stage.pieces:
            files.remove(self.places.pieces(stage))
        self.console.line(f"{stage}: done in {duration(attempt.seconds)}")
        return True

    def _call(self, this: Planned, attempt: Attempt, work: Path | None, log: logging.Logger, log_file: Path) -> None:
        with ExitStack() as stack:
            outputs = {n: stack.enter_context(files.whole(self.places.path(o))) for n, o in this.outputs.items()}
            context = Context(
                inputs={n: self.places.path(i.path) for n, i in this.inputs.items() if i.path},
                outputs=outputs,
                work=work,
                exp=self.places.exp,
                egs=self.places.egs,
                corpus_dir=self.places.corpus_dir,
                device=self._device(this.stage),
                nj=self.resources.nj,
                log=log,
                log_file=log_file,
                console=self.console,
                note=attempt.remember,
                should_stop=self.signals.stopping if work is not None else lambda: False,
                key=this.key,
                pieces=self.places.pieces(this.stage),
                executor=self.resources.executor,
            )
            context.remove_scratch()  # of a run that was killed
            try:
                processes = 1 if work is None else self.resources.processes
                with beside(self.resources.follower(this.stage.number), processes):
                    this.stage.run(context, this.settings)
                for name, path in outputs.items():
                    if not path.exists():
                        if self.signals.stopping():
                            raise Interrupted("stopped")
                        raise SpeechkitError(f"it made no {this.outputs[name]} (output {name})", code="recipe.output")
            except Interrupted:
                raise
            except Exception as error:
                level = logging.DEBUG if isinstance(error, SpeechkitError) else logging.INFO  # -vv shows the former
                log.log(level, "%s", traceback.format_exc().rstrip())
                raise
            finally:
                context.remove_scratch()

    def _device(self, stage: Stage[Any, Any]) -> str:
        return self.resources.device if stage.gpu else "cpu"

    def _work(self, this: Planned) -> Path | None:
        """The work folder: the one begun under the same key, else a new one; an old one is moved aside."""
        if this.work is None:
            return None
        folder = self.places.path(this.work)
        continues = this.record is not None and this.record.status != "done" and this.record.key == this.key
        if not empty(folder) and (this.forced or not continues):
            aside = folder.with_name(f"{folder.name}.old-{time.strftime('%Y%m%d-%H%M%S')}")
            folder.rename(aside)
            self.console.line(f"{this.stage}: begins afresh; {folder.name} is kept as {aside.name}")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _remove_leftovers(self, this: Planned) -> None:
        outputs = [self.places.path(output) for output in this.outputs.values()]
        for written in [*outputs, self.places.records / f"{this.stage.label}.json"]:
            for path in files.leftovers(written, older_than_seconds=_DAY_SECONDS):
                files.remove(path)

    def _failure(self, this: Planned, error: Exception, log_file: Path) -> StageFailed:
        shown = self.places.shown(f"exp/log/{log_file.name}")
        lines = tail(log_file)
        self.console.line(f"{this.stage}: failed" + (f"; the last lines of {shown}:" if lines else ""))
        for line in lines:
            self.console.line(f"  {line}")
        hint = getattr(error, "hint", "") or f"the log is {log_file}; then go on with --stage {this.stage.number}"
        failure = StageFailed(f"{this.stage}: {first_line(error)}", hint=hint, code=getattr(error, "code", ""))
        failure.exit_code = getattr(error, "exit_code", 1)
        return failure


def _refuse_missing(planned: list[Planned], only: Planned | None = None) -> None:
    """Refuse to begin when a stage, or this one alone, lacks an input that none of the stages that will run makes."""
    will_run = {p.stage.number for p in planned if p.runs and only is None}
    for this in [only] if only else [p for p in planned if p.runs]:
        for lack in this.missing:
            maker = lack.maker
            if maker is not None and maker.number in will_run:
                continue
            if maker is None:
                raise InputError(f"{this.stage} needs {lack.path}, which no stage makes", code="recipe.input")
            if lack.skipped:
                message = f"{this.stage} needs {lack.path}, but {maker} is skipped: {lack.skipped}"
                raise InputError(message, code="recipe.input")
            first = min(_needed(_find(planned, maker.number), planned))
            hint = f"run --stage {first} --stop-stage {this.stage.number}"
            raise InputError(f"{this.stage} needs {lack.path}, which {maker} makes", hint=hint, code="recipe.input")


def _needed(this: Planned, planned: list[Planned]) -> set[int]:
    """The stages that must run before and with this one."""
    numbers = {this.stage.number}
    for lack in this.missing:
        if lack.maker is not None:
            numbers |= _needed(_find(planned, lack.maker.number), planned)
    return numbers


def _begun_otherwise(stages: list[Planned], places: Places) -> UsageError:
    first = stages[0]
    changes = "; ".join(first.changed_settings or first.changes)
    numbers = ",".join(str(this.stage.number) for this in stages)
    return UsageError(
        f"{places.shown('exp')}: {first.stage} ran with something else: {changes}",
        hint=f"--tag NEW begins another experiment, --force-stage {numbers} trains this one afresh",
        code="recipe.changed",
    )


def _find(planned: list[Planned], number: int) -> Planned:
    return next(p for p in planned if p.stage.number == number)
