"""From a corpus as its owner lays it out to lists of utterances that training can use."""

from __future__ import annotations

import importlib.util
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechkit.data.kaldi.utterances import utterances
from speechkit.data.kaldi.validate import ValidateOptions, validate
from speechkit.data.utterance import Utterance, read_utterances, write_utterances
from speechkit.errors import InputError, UsageError
from speechkit.files import write_text
from speechkit.recipe.context import Context
from speechkit.recipe.stage import Input, Stage

Sets = Callable[[Any], Sequence[str]]  # which sets a configuration names


@dataclass(frozen=True, kw_only=True, slots=True)
class LengthLimits:
    """How long an utterance to train on may be.

    Attributes:
        min_seconds: a shorter one is left out.
        max_seconds: a longer one is left out; None: none is too long.
    """

    min_seconds: float = 0.1
    max_seconds: float | None = None


def prepare_data() -> Stage[Any, dict[str, int | float]]:
    """Stage 1: egs/CORPUS/prepare.py writes data/SET for every set it knows; the setting `prepare` goes to it.

    Other sets in data/ stay as they are.
    """
    return Stage(
        number=1,
        name="prepare_data",
        group="data",
        inputs={"prepare": "prepare.py", "corpus": Input(path="{corpus_dir}", digest="listing")},
        outputs={"data": "data"},
        settings=lambda c: c.prepare,
        run=_prepare,
    )


def _prepare(context: Context, settings: dict[str, int | float]) -> None:
    path = context.inputs["prepare"]
    spec = importlib.util.spec_from_file_location(f"speechkit_prepare_{path.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        module.prepare(context.corpus_dir, context.outputs["data"], nj=context.nj, **settings)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        raise UsageError(f"prepare: {path} knows no such setting: {error}", code="config.unknown") from error
    _keep_others(context.egs / "data", context.outputs["data"])


def _keep_others(old: Path, new: Path) -> None:
    """Sets that somebody put beside those of prepare.py stay."""
    for folder in old.iterdir() if old.is_dir() else ():
        if folder.is_dir() and not (new / folder.name).exists():
            shutil.copytree(folder, new / folder.name, symlinks=True)


def validate_data(sets: Sets, with_text: Sets) -> Stage[Any, tuple[str, ...]]:
    """Stage 2: the rules for data directories; warnings go to exp/validation.txt, errors stop the run.

    Args:
        sets: what to look at.
        with_text: which of them must have transcripts.
    """

    def run(context: Context, needs_text: tuple[str, ...]) -> None:
        errors: list[str] = []
        warnings: list[str] = []
        codes: Counter[str] = Counter()
        for name, folder in context.inputs.items():
            options = ValidateOptions(text=name in needs_text, check_audio="header", root=context.egs)
            for problem in validate(folder, options):
                found = errors if problem.code.startswith("E") else warnings
                found.append(f"{folder / problem.file}:{problem.line}: {problem.code} {problem.message}")
                codes[problem.code] += 1
        for line in warnings:
            context.log.info("%s", line)
        for line in errors:
            context.log.warning("%s", line)
        if errors:
            hint = "repair with: speechkit data fix DIR"
            raise InputError(f"{len(errors)} errors in the data, the first: {errors[0]}", hint=hint, code="data.rules")
        if warnings:
            kinds = ", ".join(f"{code} {count} times" for code, count in codes.items())
            context.log.warning("%d warnings (%s), all in %s", len(warnings), kinds, context.exp / "validation.txt")
        write_text(context.outputs["report"], "".join(line + "\n" for line in warnings))

    return Stage(
        number=2,
        name="validate_data",
        group="data",
        inputs=lambda c: {s: f"data/{s}" for s in sets(c)},
        outputs={"report": "exp/validation.txt"},
        settings=lambda c: tuple(with_text(c)),
        run=run,
    )


def index_audio(sets: Sets) -> Stage[Any, None]:
    """Stage 3: list the utterances of every set with their lengths, from the headers of the recordings."""

    def run(context: Context, _: None) -> None:
        with context.progress(len(context.outputs), "set") as progress:
            for name, output in context.outputs.items():
                found = utterances(context.inputs[name], root=context.egs)
                hours = sum(u.duration_s for u in found) / 3600
                context.log.info("%s: %d utterances, %.2f hours", name, len(found), hours)
                write_utterances(output, found)
                progress.advance(text=name)

    return Stage(
        number=3,
        name="index_audio",
        group="data",
        inputs=lambda c: (
            {s: f"data/{s}" for s in sets(c)}
            | {f"{s} audio": Input(path=f"data/{s}/wav.scp", digest="recordings") for s in sets(c)}
        ),
        outputs=lambda c: {s: f"dump/index/{s}.jsonl" for s in sets(c)},
        settings=lambda c: None,  # noqa: ARG005
        run=run,
    )


def filter_lengths(limits: Callable[[Any], dict[str, LengthLimits]]) -> Stage[Any, dict[str, LengthLimits]]:
    """Stage 4: leave out what is too short or too long to train on; test sets are never filtered.

    Args:
        limits: of each list to make, `SET` or, where a set is needed more than once, `PURPOSE/SET`.
    """

    def run(context: Context, limits: dict[str, LengthLimits]) -> None:
        dropped: list[tuple[str, str, str]] = []
        for name, limit in limits.items():
            kept = []
            for u in read_utterances(context.inputs[name]):
                reason = _out_of_limits(u, limit)
                if reason:
                    dropped.append((u.id, reason, name))
                else:
                    kept.append(u)
            if not kept:
                message = f"{name}: every utterance is outside {limit.min_seconds} to {limit.max_seconds} s"
                raise InputError(message, hint="change min_seconds or max_seconds", code="data.filter")
            context.log.info("%s: %d utterances kept", name, len(kept))
            write_utterances(context.outputs[name], kept)
        write_dropped(context, dropped)

    return Stage(
        number=4,
        name="filter_lengths",
        group="data",
        inputs=lambda c: {s: f"dump/index/{s.rpartition('/')[2]}.jsonl" for s in limits(c)},
        outputs=lambda c: {s: f"exp/lists/{s}.jsonl" for s in limits(c)} | {"dropped": "exp/lists/dropped.tsv"},
        settings=limits,
        run=run,
    )


def write_dropped(context: Context, dropped: Sequence[tuple[str, str, str]]) -> None:
    """Write who was left out, why and of which set, to the output `dropped`, and count the reasons in the log."""
    write_text(context.outputs["dropped"], "".join("\t".join(row) + "\n" for row in dropped))
    for name in dict.fromkeys(row[2] for row in dropped):
        ids = [row[0] for row in dropped if row[2] == name]
        context.log.warning("%s: %d utterances left out, the first is %s", name, len(ids), ids[0])


def read_dropped(path: Path) -> list[list[str]]:
    """What `write_dropped` wrote: id, reason and list of every utterance."""
    return [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def read_lists(paths: Iterable[Path]) -> list[Utterance]:
    """The utterances of several lists, one after the other.

    Raises:
        InputError: an utterance is in two of them.
    """
    where: dict[str, Path] = {}
    found = []
    for path in paths:
        for utterance in read_utterances(path):
            if utterance.id in where:
                message = f"{path}: utterance {utterance.id!r} is in {where[utterance.id]} too"
                raise InputError(message, hint="name sets that share no utterances", code="data.twice")
            where[utterance.id] = path
            found.append(utterance)
    return found


def _out_of_limits(utterance: Utterance, limits: LengthLimits) -> str:
    seconds = utterance.duration_s
    if seconds < limits.min_seconds:
        return f"{seconds:.3f} s, the least is {limits.min_seconds} s"
    if limits.max_seconds is not None and seconds > limits.max_seconds:
        return f"{seconds:.3f} s, the most is {limits.max_seconds} s"
    return ""
