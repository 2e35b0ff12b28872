"""The end of a run: RESULTS.md and report.html of the experiment, and what goes into the repository."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechkit.config import plain
from speechkit.data.utterance import Utterance, read_utterances
from speechkit.files import write_text
from speechkit.recipe.context import Context
from speechkit.recipe.environment import environment
from speechkit.recipe.stage import Inputs, Stage
from speechkit.stages.corpus import read_dropped
from speechkit.stages.run_entry import commands, described_environment, own_records
from speechkit.stages.score import read_decoded, scored
from speechkit.stages.units import count_units

if TYPE_CHECKING:
    from speechkit.metrics.wer import Score
    from speechkit.report.clips import Clip
    from speechkit.report.decoded import Decoded
    from speechkit.report.page import DataSet
    from speechkit.report.results import Entry, Row


def report(
    number: int,
    trainings: Callable[[Any], Sequence[str]],
    units: Callable[[Any], Sequence[str]],
    lists: Callable[[Any], Mapping[str, str]],
) -> Stage[Any, Any]:
    """RESULTS.md and report.html in the experiment's folder; says the error rate, where the page is, and one text.

    Args:
        number: of the stage.
        trainings: the trainings of a configuration, each with exp/NAME/metrics.jsonl.
        units: those of a configuration, each exp/NAME/units.
        lists: name and path pattern of the lists of utterances to describe; those of test sets by their own names.
    """

    def inputs(c: Any) -> Inputs:
        paths = {f"set {s}": f"exp/decode/{s}" for s in c.test_sets}
        paths |= {f"training {t}": f"exp/{t}/metrics.jsonl" for t in trainings(c)}
        paths |= {f"units {u}": f"exp/{u}/units" for u in units(c)}
        paths |= {f"list {name}": path for name, path in lists(c).items()}
        paths |= {f"dropped {stage}": f"exp/{stage}/dropped.tsv" for stage in ("lists", "finetune")}
        return paths | {"model": "exp/model.safetensors"}

    return Stage(
        number=number,
        name="report",
        group="eval",
        inputs=inputs,
        outputs={"page": "exp/report.html", "results": "exp/RESULTS.md"},
        settings=lambda c: c,
        run=_report,
    )


def publish(number: int) -> Stage[Any, None]:
    """Add the experiment's results to RESULTS.md of the system's folder, newest first; runs only when named.

    Args:
        number: of the stage.
    """

    def run(context: Context, _: None) -> None:
        from speechkit.report.results import merged

        old = context.exp.parents[1] / "RESULTS.md"
        text = old.read_text(encoding="utf-8") if old.exists() else ""
        new = context.inputs["results"].read_text(encoding="utf-8")
        write_text(context.outputs["tracked"], merged(text, new))

    return Stage(
        number=number,
        name="publish",
        group="upload",
        inputs={"results": "exp/RESULTS.md"},
        outputs={"tracked": "{system}/RESULTS.md"},
        settings=lambda c: None,  # noqa: ARG005
        run=run,
    )


def _report(context: Context, config: Any) -> None:
    from speechkit.report.page import Page, Units, html, read_training
    from speechkit.report.results import results

    sets, lists = context.named("set"), context.named("list")
    trainings = [read_training(name, path) for name, path in context.named("training").items()]
    rows = [row for name, folder in sets.items() for row in _rows(name, folder, config)]
    entry = _entry(context, rows, {t.name: t.rows for t in trainings})
    page = Page(
        title=f"{context.exp.parents[1].name} on {context.egs.name}",
        entry=entry,
        trainings=trainings,
        decoded=_decoded({r.dataset: r.score for r in rows if r.score.unit == "word"}, sets, lists),
        units=[Units(name=name, counts=count_units(path)) for name, path in context.named("units").items()],
        sets=[_data_set(name, path) for name, path in lists.items()],
        dropped=[row for path in context.named("dropped").values() for row in read_dropped(path)],
        config=plain(config),
        defaults=plain(type(config)()),
    )
    write_text(context.outputs["page"], html(page))
    write_text(context.outputs["results"], results(entry, environment()["speechkit"]))
    _say(context, rows, next(iter(sets.values())))


def _rows(name: str, folder: Path, config: Any) -> list[Row]:
    from speechkit.report.results import Row

    published = {"word": config.published.get(name), "char": None}
    return [
        Row(dataset=name, score=score, interval=interval, published=published[unit])
        for unit, (score, interval) in scored(folder, config.seed).items()
    ]


def _decoded(scores: Mapping[str, Score], sets: Mapping[str, Path], lists: Mapping[str, Path]) -> dict[str, Decoded]:
    """Who spoke how long in every decoded set, and clips of some of the worst utterances."""
    from speechkit.report.clips import MAX_CLIPS
    from speechkit.report.decoded import Decoded, worst

    found = {}
    for name, score in scores.items():
        lines = {line["id"]: line for line in read_decoded(sets[name])}
        chosen = worst(score)[: MAX_CLIPS // len(scores)]
        utterances = [u for u in read_utterances(lists[name]) if u.id in chosen]
        found[name] = Decoded(
            speakers={id: line["speaker"] for id, line in lines.items()},
            seconds={id: line["seconds"] for id, line in lines.items()},
            clips=_clips(utterances, {id: lines[id].get("words", ()) for id in chosen}),
        )
    return found


def _clips(utterances: Sequence[Utterance], words: Mapping[str, Sequence[Any]]) -> dict[str, Clip]:
    """Clips of the utterances that can still be read."""
    from speechkit.audio.fbank import INT16_SCALE
    from speechkit.data.reader import read_waves
    from speechkit.metrics.units import Span
    from speechkit.report.clips import clip

    waves = read_waves(utterances)
    return {
        u.id: clip(samples / INT16_SCALE, u.sample_rate, [Span(start, end, text) for text, start, end in words[u.id]])
        for position, (u, samples) in enumerate(zip(utterances, waves.samples, strict=True))
        if position not in waves.bad
    }


def _entry(context: Context, rows: Sequence[Row], trainings: Mapping[str, Sequence[Mapping[str, Any]]]) -> Entry:
    from speechkit.report.results import Entry

    records = own_records(context.exp)
    training_seconds = {r.name: r.seconds for r in records}
    model = {"parameters": f"{_num_parameters(context.inputs['model']):,}"}
    for name, logged in trainings.items():
        steps = max((row["step"] for row in logged), default=0)
        hours = max((row.get("audio_hours", 0.0) for row in logged), default=0.0)
        model[name] = f"{steps:,} steps, {hours:.1f} h of audio, {training_seconds.get(name, 0.0) / 60:.1f} min"
    return Entry(
        tag=context.exp.name,
        date=max((r.started for r in records), default=""),
        rows=rows,
        environment=described_environment(records, context.device),
        model=model,
        commands=commands(records),
    )


def _num_parameters(path: Path) -> int:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return sum(math.prod(file.get_slice(n).get_shape()) for n in file.keys())  # noqa: SIM118 it is no mapping


def _data_set(name: str, path: Path) -> DataSet:
    from speechkit.report.page import DataSet

    utterances = read_utterances(path)
    return DataSet(
        name=name,
        durations_s=[u.duration_s for u in utterances],
        num_speakers=len(Counter(u.speaker for u in utterances)),
    )


def _say(context: Context, rows: Sequence[Row], folder: Path) -> None:
    """The three lines that a run ends with."""
    row = rows[0]
    context.say(f"WER {100 * row.score.counts.rate:.2f} % on {row.score.counts.length} words of {row.dataset}")
    context.say(f"report: {context.exp / 'report.html'}")
    line = next(read_decoded(folder))
    context.say(f"{line['id']}: {line['hyp']}")
