"""What would run, and why: the state of every stage, from the disk and the configuration alone. Nothing is written."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from speechkit.config import plain
from speechkit.errors import UsageError
from speechkit.files import lock_owner
from speechkit.recipe import record as records
from speechkit.recipe import settings
from speechkit.recipe.digests import Digests
from speechkit.recipe.environment import DISTRIBUTION, version
from speechkit.recipe.places import Places, in_exp
from speechkit.recipe.record import Record
from speechkit.recipe.stage import Input, Recipe, Stage

State = Literal["done", "stale", "partial", "failed", "running", "missing", "skipped"]

LOCK = ".lock"


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which stages are to run.

    Args:
        first: the lowest number; without it 1, so that preludes run only when named.
        last: the highest number.
        numbers: exactly these, in place of the two.
        named: numbers that were written out; stages of the group `upload` run only when theirs was.
        force: these run although nothing has changed.
    """

    first: int | None = None
    last: int | None = None
    numbers: frozenset[int] | None = None
    named: frozenset[int] = frozenset()
    force: frozenset[int] = frozenset()

    def includes(self, stage: Stage[Any, Any]) -> bool:
        """Whether a stage is to run."""
        if stage.group == "upload" and stage.number not in self.named:
            return False
        if self.numbers is not None:
            return stage.number in self.numbers
        first = 1 if self.first is None else self.first
        return first <= stage.number and (self.last is None or stage.number <= self.last)

    def names(self, stage: Stage[Any, Any]) -> bool:
        """Whether a stage was chosen by its number, not with all that lie between two."""
        return stage.number in self.named | (self.numbers or frozenset())

    def check(self, recipe: Recipe) -> None:
        """Refuse numbers that the recipe does not have."""
        unknown = (self.force | (self.numbers or frozenset())) - {stage.number for stage in recipe.stages}
        if unknown:
            raise no_stage(recipe, f"stage {min(unknown)}")
        if not any(self.includes(stage) for stage in recipe.stages):
            raise no_stage(recipe, "stage in that range")


def no_stage(recipe: Recipe, which: str) -> UsageError:
    """The error of naming a stage that a recipe does not have."""
    hint = "its stages: " + ", ".join(str(stage.number) for stage in recipe.stages)
    return UsageError(f"recipe {recipe.name} has no {which}", hint=hint, code="recipe.stage")


@dataclass(frozen=True, kw_only=True, slots=True)
class Missing:
    """A declared input that is not there, and the stage that makes it."""

    path: str
    maker: Stage[Any, Any] | None
    skipped: str = ""  # why the maker never runs here

    def __str__(self) -> str:
        maker = f" (stage {self.maker.number})" if self.maker else ""
        return f"needs {self.path}{maker}{f', skipped: {self.skipped}' if self.skipped else ''}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """A stage and what is known of it.

    Args:
        state: `done`: nothing changed; `stale`: something did; `partial`: begun and to be continued; `failed`;
            `running`; `missing`: never run, or inputs are not there; `skipped`: not with this configuration.
        changes: what makes it stale, one line each.
        selected: it belongs to those that are to run.
        key: of what it depends on now, empty while inputs are missing.
        names: of the settings, for people.
        inputs: by declared name, with the paths formatted; `outputs` and `work` likewise.
        code_changed: its module is another than in the recorded run, which alone makes nothing stale.
        changed_settings: how its settings differ from those of the recorded run.
        begun_otherwise: its work folder was begun by a run that differs, and is not finished.
    """

    stage: Stage[Any, Any]
    state: State
    why: str = ""
    changes: tuple[str, ...] = ()
    selected: bool = True
    forced: bool = False
    key: str = ""
    parts: Mapping[str, Any] = field(default_factory=dict)
    settings: Any = None
    names: settings.Names = ""
    inputs: Mapping[str, Input] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    work: str | None = None
    missing: tuple[Missing, ...] = ()
    record: Record | None = None
    code: str = ""
    code_changed: bool = False
    changed_settings: tuple[str, ...] = ()
    begun_otherwise: bool = False

    @property
    def runs(self) -> bool:
        """Whether it is selected and has something to do."""
        return self.selected and self.state not in ("done", "skipped")

    @property
    def needs_force(self) -> bool:
        """Whether running it would lose a training, or part of one, to other settings."""
        done = self.record is not None and self.record.status == "done"
        retrained = self.stage.group == "train" and done and bool(self.changed_settings)
        return not self.forced and (self.begun_otherwise or retrained)


def plan(
    recipe: Recipe,
    config: Any,
    places: Places,
    selection: Selection = Selection(),
    digests: Digests | None = None,
    *,
    locked: bool = False,
) -> list[Planned]:
    """Find the state of every stage of a recipe.

    Args:
        recipe: the stages.
        config: an instance of the recipe's configuration.
        places: the folders.
        selection: which stages are to run; a stage is stale too when one that makes its input will run.
        digests: to share a cache between plans.
        locked: the caller holds the experiment's lock, so that nobody else runs it.
    """
    if digests is None:
        digests = open_digests(places)
    digests.forget()
    planned: list[Planned] = []
    for stage in recipe.stages:
        this = _Assessment(recipe, stage, config, places, selection, digests, planned, locked).planned()
        _check_overlap(this, planned)
        planned.append(this)
    return planned


def open_digests(places: Places) -> Digests:
    """The digests of all experiments of a system, with their cache."""
    return Digests(places.system / "exp" / ".digests.jsonl", places.egs)


class _Assessment:
    """Finds the state of one stage."""

    def __init__(
        self,
        recipe: Recipe,
        stage: Stage[Any, Any],
        config: Any,
        places: Places,
        selection: Selection,
        digests: Digests,
        earlier: Sequence[Planned],
        locked: bool,
    ) -> None:
        self.recipe, self.stage, self.config, self.places = recipe, stage, config, places
        self.digests, self.earlier, self.locked = digests, earlier, locked
        self.inputs = places.inputs(stage, config)
        self.outputs = places.outputs(stage, config)
        self.work = places.work(stage, config)
        self.selected = selection.includes(stage)
        self.forced = stage.number in selection.force
        self.settings = stage.settings(config)
        self.record = records.read(places.records / f"{stage.label}.json")
        self._shared = not any(in_exp(o) for o in self.outputs.values())

    def planned(self) -> Planned:
        """The stage with its state."""
        if self.stage.when is not None and not self.stage.when(self.config):
            why = settings.untrue(self.stage.when, self.config)
            return self._make("skipped", f"skipped: {why}")
        missing = tuple(self._missing())
        parts = self._parts()
        key = "" if missing else settings.key(parts)
        this = self._make("missing", "not run yet", parts=parts, key=key, missing=missing)
        if self.record is None or self.record.key != key:
            adopted = self._adopted(key)
            if adopted is not None:
                return self._marked(replace(this, state="done", why="made by another experiment", record=adopted))
        if self.record is None:
            return replace(this, why=str(missing[0])) if missing else self._marked(this)
        this = self._compared(this, self.record)
        return self._marked(this)

    def _compared(self, this: Planned, record: Record) -> Planned:
        """Look at what the record says."""
        changed = settings.differences(record.parts.get("settings"), this.parts["settings"], this.names)
        code_changed = bool(record.code) and record.code != this.code
        changes = [str(m) for m in this.missing] if this.missing else self._changes(record, this, changed)
        unfinished = record.status != "done"
        trained = unfinished and self.work is not None and not empty(self.places.path(self.work))
        in_pieces = unfinished and record.key == this.key and not empty(self.places.pieces(self.stage))
        this = replace(
            this,
            changes=tuple(changes),
            code_changed=code_changed,
            changed_settings=tuple(changed),
            begun_otherwise=trained and record.key != this.key and not this.missing,
        )
        state, why = self._state(this, record, trained or in_pieces)
        return replace(this, state=state, why=why)

    def _state(self, this: Planned, record: Record, begun: bool) -> tuple[State, str]:
        owner = None if self.locked else lock_owner(self.places.exp / LOCK)
        if record.status == "running" and owner is not None:
            return "running", f"{owner['user'] or 'someone'}@{owner['host']} pid {owner['pid']} since {record.started}"
        if this.begun_otherwise or (this.changes and record.status == "done"):
            return "stale", _more(this.changes)
        if record.status == "done":
            return "done", "code changed since" if this.code_changed else ""
        if begun and record.status != "failed":
            return "partial", record.note
        log = self.places.shown(f"exp/log/{self.stage.label}.log")
        note = "ended without a word, perhaps killed" if record.status == "running" else record.note
        return "failed", f"{note}; log is in {log}"

    def _marked(self, this: Planned) -> Planned:
        """Make it stale when it is forced or when a stage before it that makes an input will run."""
        if this.forced and this.state not in ("missing", "running"):
            return replace(this, state="stale", why="forced", changes=("forced", *this.changes))
        if this.state == "done" and this.selected:
            for name, made in self.inputs.items():
                maker = self._maker(made.path)
                if maker is not None and maker.runs:
                    why = f"input {name} is made by {maker.stage}, which is {maker.state}"
                    return replace(this, state="stale", why=why, changes=(why,))
        return this

    def _changes(self, record: Record, this: Planned, changed_settings: list[str]) -> list[str]:
        old, new = record.parts, this.parts
        changes = [f"setting {line}" for line in changed_settings]
        for name in dict.fromkeys([*old.get("inputs", {}), *new["inputs"]]):
            if old.get("inputs", {}).get(name) != new["inputs"].get(name):
                path = self.places.shown(self.inputs[name].path) if name in self.inputs else ""
                changes.append(f"input {path or name} changed")
        for part in ("recipe", "stage", "version", "environment"):
            changes += settings.differences(old.get(part), new[part], part)
        if not changes:  # other outputs are seldom the cause
            changes += settings.differences(old.get("outputs"), new["outputs"], "outputs")
        if not changes and record.status == "done":
            changes += self._output_changes(record.outputs)
        if not changes and record.key != this.key:
            changes.append("something that it depends on changed")
        return changes

    def _output_changes(self, recorded: Mapping[str, str]) -> Iterator[str]:
        for name, output in self.outputs.items():
            digest = self.digests.digest(self.places.path(output))
            if digest is None:
                yield f"output {self.places.shown(output)} is gone"
            elif name in recorded and digest != recorded[name]:
                yield f"output {self.places.shown(output)} changed since"

    def _parts(self) -> dict[str, Any]:
        inputs = {
            name: self.digests.digest(self.places.path(i.path), i.digest) if i.path else ""
            for name, i in self.inputs.items()
        }
        return {
            "recipe": "" if self._shared else self.recipe.name,  # systems that prepare data alike share it
            "stage": self.stage.name,
            "version": self.stage.version,
            "settings": plain(self.settings, decisive=True),
            "inputs": inputs,
            "outputs": self.outputs,
            "environment": {"speechkit": ".".join(version(DISTRIBUTION).split(".")[:2])},
        }

    def _missing(self) -> Iterator[Missing]:
        for i in self.inputs.values():
            if i.path and not self.places.path(i.path).exists():
                maker = self._maker(i.path)
                skipped = maker.why.removeprefix("skipped: ") if maker and maker.state == "skipped" else ""
                stage = maker.stage if maker else None
                yield Missing(path=self.places.shown(i.path), maker=stage, skipped=skipped)

    def _maker(self, path: str) -> Planned | None:
        makers = [p for p in self.earlier if path and any(_overlap(path, o) for o in p.outputs.values())]
        return makers[-1] if makers else None

    def _adopted(self, key: str) -> Record | None:
        """The record of another experiment that made the same shared outputs, if they are still as it left them."""
        if not key or not self._shared:
            return None
        for file in sorted(self.places.egs.glob(f"*/exp/*/.stages/*_{self.stage.name}.json")):
            record = records.read(file)
            same = record is not None and record.status == "done" and record.key == key
            if record is not None and same and not list(self._output_changes(record.outputs)):
                return record
        return None

    def _make(self, state: State, why: str, **known: Any) -> Planned:
        fields = {
            "stage": self.stage,
            "selected": self.selected,
            "forced": self.forced,
            "settings": self.settings,
            "names": settings.names(self.stage.settings, self.config),
            "inputs": self.inputs,
            "outputs": self.outputs,
            "work": self.work,
            "record": self.record,
            "code": self.digests.digest(_module_file(self.stage.run)) or "",
        }
        return Planned(state=state, why=why, **{**fields, **known})


def empty(folder: Path) -> bool:
    """Whether a folder holds nothing to continue from."""
    return not folder.is_dir() or not any(folder.iterdir())


def _module_file(run: Callable[..., Any]) -> Path:
    while isinstance(run, functools.partial):
        run = run.func
    return Path(inspect.getfile(inspect.unwrap(run) if inspect.isroutine(run) else type(run)))


def _overlap(a: str, b: str) -> bool:
    first, second = PurePosixPath(a), PurePosixPath(b)
    return first == second or first in second.parents or second in first.parents


def _check_overlap(this: Planned, earlier: Sequence[Planned]) -> None:
    for other in earlier:
        for mine in this.outputs.values():
            for theirs in other.outputs.values():
                if _overlap(mine, theirs):
                    raise ValueError(f"{this.stage} makes {mine} and {other.stage} makes {theirs}")


def _more(changes: Sequence[str]) -> str:
    return changes[0] + (f" (and {len(changes) - 1} more)" if len(changes) > 1 else "")
