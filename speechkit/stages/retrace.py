"""What one step of a training saw, worked out again from its plan: nothing is trained and no audio is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechkit import config as configuration
from speechkit.errors import InputError, UsageError, nearest
from speechkit.recipe import Places, Recipe, Stage, load
from speechkit.recipe import record as records
from speechkit.recipe import settings as stage_settings
from speechkit.recipe.environment import CLONE
from speechkit.recipe.planning import open_digests
from speechkit.recipe.record import Record

if TYPE_CHECKING:
    from torch import Tensor

    from speechkit.data.loader import Planned


@dataclass(frozen=True, kw_only=True, slots=True)
class TracedUtterance:
    """A row of a micro-batch.

    Attributes:
        id: of the utterance.
        num_samples: of the row as the network gets it: cropped, or at another speed.
        draws: what was drawn for it, by the names of `Batch.draws`. A mask is the number of what it masks (`count`) and
            its `spans`, each from its first frame or channel to the one after its last. `rir.utterance`,
            `noise.utterance` and `mix.utterance` are the room and what was added, None for none.
    """

    id: str
    num_samples: int
    draws: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class TracedMicroBatch:
    """A micro-batch of the step.

    Attributes:
        number: in the endless plan.
        epoch: it belongs to.
        seconds: of its rows, padding apart.
        padding: share of padding in it.
        utterances: its rows, in their order.
    """

    number: int
    epoch: int
    seconds: float
    padding: float
    utterances: list[TracedUtterance]


def retrace(exp: Path, training: str, step: int, recipe: Path | None = None) -> list[TracedMicroBatch]:
    """The micro-batches of optimizer step `step` of a training, counted from 0.

    Args:
        exp: the experiment, egs/CORPUS/SYSTEM/exp/TAG.
        training: name of the stage that trains.
        step: past or to come.
        recipe: the folder with recipe.py; None: that of the clone whose name the experiment has recorded.

    Raises:
        InputError: there is no such experiment, it has not trained, or its inputs are no longer those of the training.
        UsageError: it has no such training or step, or its settings are no longer those of the training.
    """
    places = Places(system=exp.absolute().parents[1], tag=exp.absolute().name)
    if not (exp / "config.yaml").is_file():
        found = sorted(path.parent.name for path in exp.parent.glob("*/config.yaml"))
        hint = nearest(exp.name, found) or "give egs/CORPUS/SYSTEM/exp/TAG"
        raise InputError(f"{exp}: no experiment, it holds no config.yaml", hint=hint, code="experiment.missing")
    loaded = load(recipe or CLONE / "recipes" / _recipe_name(places, exp))
    config = configuration.load(loaded.config, [exp / "config.yaml"], [])
    stage = _stage(loaded, training)
    if stage.when is not None and not stage.when(config):
        why = stage_settings.untrue(stage.when, config)
        raise UsageError(f"{exp}: {training} takes no part in it: {why}", code="experiment.training")
    record = records.read(places.records / f"{stage.label}.json")
    if record is None:
        hint = f"run the recipe up to stage {stage.number} first"
        raise InputError(f"{exp}: {training} has not been trained", hint=hint, code="experiment.untrained")
    picked = stage.settings(config)
    inputs = _inputs(stage, config, places, record, picked)
    _check_step(places.work(stage, config), places, training, step)
    assert stage.batches is not None
    planned: list[Planned] = stage.batches(inputs, picked).planned(step)
    return [_traced(p) for p in planned]


def _recipe_name(places: Places, exp: Path) -> str:
    """The name of the recipe that ran here; what experiments share has none."""
    found = (records.read(file) for file in sorted(places.records.glob("[!.]*.json")))
    names = [str(r.parts["recipe"]) for r in found if r and r.parts.get("recipe")]
    if not names:
        hint = "run the recipe first: speechkit run RECIPE --in egs/CORPUS/SYSTEM"
        raise InputError(f"{exp}: nothing has been trained in it", hint=hint, code="experiment.untrained")
    return names[0]


def _stage(recipe: Recipe, training: str) -> Stage[Any, Any]:
    known = {stage.name: stage for stage in recipe.stages if stage.batches is not None}
    if training not in known:
        hint = nearest(training, known) or f"it has {', '.join(known)}"
        raise UsageError(f"recipe {recipe.name} has no training {training!r}", hint=hint, code="experiment.training")
    return known[training]


def _inputs(stage: Stage[Any, Any], config: Any, places: Places, record: Record, picked: Any) -> dict[str, Path]:
    """The inputs of the training, if they and its settings are still what it ran with."""
    names = stage_settings.names(stage.settings, config)
    before, now = record.parts.get("settings"), configuration.plain(picked, decisive=True)
    if changed := stage_settings.differences(before, now, names):
        raise UsageError(
            f"{places.exp / 'config.yaml'}: {stage.name} ran with other settings: {'; '.join(changed)}",
            hint="its steps are known only with those",
            code="experiment.changed",
        )
    digests = open_digests(places)
    inputs = places.inputs(stage, config)
    for name, given in inputs.items():
        digest = digests.digest(places.path(given.path), given.digest)
        if digest != record.parts.get("inputs", {}).get(name):
            what = f"is gone, {stage.name} ran with it" if digest is None else f"is not what {stage.name} ran with"
            raise InputError(
                f"{places.path(given.path)}: {what}",
                hint="its steps are known only with that",
                code="experiment.changed",
            )
    return {name: places.path(given.path) for name, given in inputs.items()}


def _check_step(work: str | None, places: Places, training: str, step: int) -> None:
    from speechkit.train.state import planned_steps

    steps = planned_steps(places.path(work) / "checkpoints") if work else None
    if steps is not None and step >= steps:
        hint = f"steps are counted from 0: the last one is {steps - 1}"
        raise UsageError(f"step {step}: {training} has {steps} steps", hint=hint, code="experiment.step")


def _traced(planned: Planned) -> TracedMicroBatch:
    batch = planned.header
    assert batch.lengths is not None
    assert batch.sample_rate is not None
    lengths: list[int] = batch.lengths.tolist()
    rows = [{name: _value(values[row]) for name, values in batch.draws.items()} for row in range(len(lengths))]
    for name in ("rir", "noise", "mix"):
        if f"{name}.pick" in batch.draws:
            for row, added in zip(rows, _added(planned, name), strict=True):
                row[f"{name}.utterance"] = added
    return TracedMicroBatch(
        number=batch.number,
        epoch=batch.epoch,
        seconds=sum(lengths) / batch.sample_rate,
        padding=1 - sum(lengths) / (len(lengths) * max(lengths)) if max(lengths) else 0.0,
        utterances=[
            TracedUtterance(id=id, num_samples=length, draws=row)
            for id, length, row in zip(batch.ids, lengths, rows, strict=True)
        ],
    )


def _value(drawn: Tensor) -> Any:
    """A number, a list of them, or the spans of a mask."""
    import torch

    values: Any = drawn.tolist()
    if drawn.ndim != 1 or drawn.dtype != torch.bool:
        return values
    return {"count": sum(values), "spans": list(_spans(values))}


def _spans(mask: list[bool]) -> Iterator[list[int]]:
    edges = [i for i, (a, b) in enumerate(zip([False, *mask], [*mask, False], strict=True)) if a != b]
    yield from ([first, end] for first, end in zip(edges[::2], edges[1::2], strict=True))


def _added(planned: Planned, name: str) -> Iterator[str | None]:
    """The id of what was added to each row: a recording read for it, or another row."""
    drawn: Mapping[str, Tensor] = planned.header.draws
    picks: list[int] = drawn[f"{name}.pick"].tolist()
    read_for: list[bool] = drawn[f"{name}.noise"].tolist() if f"{name}.noise" in drawn else [True] * len(picks)
    recordings = iter(planned.more[name])
    for pick, is_read in zip(picks, read_for, strict=True):
        if pick < 0:
            yield None
        else:
            yield next(recordings).utterance.id if is_read else planned.header.ids[pick]
