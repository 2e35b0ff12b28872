"""How well hidden units agree with phones, on every set that says when its phones are spoken."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechkit.errors import InputError
from speechkit.files import write_json, write_text
from speechkit.metrics.units import (
    Span,
    UnitQuality,
    frame_labels,
    joint_counts,
    label_ids,
    read_alignment,
    unit_quality,
)
from speechkit.recipe.context import Context
from speechkit.recipe.environment import environment
from speechkit.recipe.stage import Stage
from speechkit.stages.corpus import Sets
from speechkit.stages.run_entry import commands, described_environment, own_records
from speechkit.stages.units import read_units

if TYPE_CHECKING:
    from numpy.typing import NDArray

Units = Mapping[str, "NDArray[Any]"]


def score_units(number: int, sets: Sets) -> Stage[Any, int]:
    """Phone purity, cluster purity and PNMI of exp/units in exp/scores.json, for the sets that have `phones`.

    Args:
        number: of the stage.
        sets: those that have units. Beside its Kaldi tables a set may hold `phones`, lines `<utterance> 1 <start>
            <duration> <phone>`; without it, it is not scored.
    """

    def run(context: Context, clusters: int) -> None:
        units, rate = read_units(context.inputs["units"])
        scores: dict[str, dict[str, float]] = {}
        for name, folder in context.named("set").items():
            if not (folder / "phones").is_file():
                context.log.info("%s: no phones, not scored", name)
                continue
            quality, num_phones = quality_of(folder / "phones", units, rate, clusters)
            scores[name] = {**asdict(quality), "phones": num_phones, "units": clusters, "units_per_second": rate}
            context.say(f"{name}: {summary(scores[name])}")
        if not scores:
            context.say("no set has a file `phones`: there is nothing to compare the units with")
        write_json(context.outputs["scores"], scores)

    return Stage(
        number=number,
        name="score_units",
        group="eval",
        inputs=lambda c: {"units": "exp/units"} | {f"set {s}": f"data/{s}" for s in sets(c)},
        outputs={"scores": "exp/scores.json"},
        settings=lambda c: c.units.clusters,
        run=run,
    )


def quality_of(phones: Path, units: Units, rate: float, clusters: int) -> tuple[UnitQuality, int]:
    """Compare the units of a set with its phones; frames without a phone, and utterances without units, do not count.

    Args:
        phones: the alignment.
        units: of every utterance, int64 `(F,)`.
        rate: units a second.
        clusters: how many different ones there may be.

    Returns:
        The agreement, and how many phones there are.

    Raises:
        InputError: no frame has both a phone and a unit.
    """
    alignment = read_alignment(phones)
    ids = label_ids(alignment)
    counts = sum(_counts(spans, units[id], ids, rate, clusters) for id, spans in alignment.items() if id in units)
    if isinstance(counts, int) or not counts.any():
        hint = "its utterance ids should be those of the set"
        raise InputError(f"{phones}: no frame has both a phone and a unit", hint=hint, code="data.phones")
    return unit_quality(counts), len(ids)


def _counts(
    spans: Sequence[Span], units: NDArray[Any], ids: dict[str, int], rate: float, clusters: int
) -> NDArray[Any]:
    return joint_counts(frame_labels(spans, ids, len(units), rate), units, len(ids), clusters)


def summary(score: Mapping[str, float]) -> str:
    """One line of what exp/scores.json has about a set."""
    purities = f"phone purity {score['phone_purity']:.3f}, cluster purity {score['cluster_purity']:.3f}"
    return f"{purities}, PNMI {score['pnmi']:.3f} ({score['frames']:,} frames, {score['phones']} phones)"


def report_units(number: int, features: Callable[[Any], str]) -> Stage[Any, str]:
    """RESULTS.md in the experiment's folder: what the units are, how well they agree with phones, and the commands.

    Args:
        number: of the stage.
        features: says what the units are made of.
    """
    return Stage(
        number=number,
        name="report_units",
        group="eval",
        inputs={"kmeans": "exp/kmeans", "scores": "exp/scores.json"},
        outputs={"results": "exp/RESULTS.md"},
        settings=features,
        run=_report,
    )


def _report(context: Context, features: str) -> None:
    from speechkit.report.results import Entry, results

    kmeans = json.loads((context.inputs["kmeans"] / "config.json").read_text(encoding="utf-8"))
    scores = json.loads(context.inputs["scores"].read_text(encoding="utf-8"))
    records = own_records(context.exp)
    entry = Entry(
        tag=context.exp.name,
        date=max((r.started for r in records), default=""),
        rows=(),
        model={
            "features": features,
            "k-means": f"{kmeans['clusters']} clusters of {kmeans['frames']:,} frames, mean squared distance "
            f"{kmeans['inertia']:.5g}",
            "training": f"{sum(r.seconds for r in records if r.name.startswith('learn')):.0f} s",
            **{name: summary(score) for name, score in scores.items()},
        },
        environment=described_environment(records, context.device),
        commands=commands(records),
    )
    write_text(context.outputs["results"], results(entry, environment()["speechkit"]))
