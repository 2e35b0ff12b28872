"""Error rates of decoded sets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechkit.files import write_json
from speechkit.recipe.context import Context
from speechkit.recipe.stage import Stage

if TYPE_CHECKING:
    from speechkit.metrics.wer import Score, Unit


def score(number: int) -> Stage[Any, int]:
    """Word and character error rates of every set of `test_sets`, with their intervals, in exp/scores.json."""
    return Stage(
        number=number,
        name="score",
        group="eval",
        inputs=lambda c: {s: f"exp/decode/{s}" for s in c.test_sets},
        outputs={"scores": "exp/scores.json"},
        settings=lambda c: c.seed,
        run=_score,
    )


def _score(context: Context, seed: int) -> None:
    rates = {}
    for name, folder in context.inputs.items():
        for unit, (result, interval) in scored(folder, seed).items():
            counts = result.counts
            rates[f"{name} {unit}"] = {**asdict(counts), "rate": counts.rate, "interval": interval}
            context.log.info("%s, %s errors: %.2f %% of %d", name, unit, 100 * counts.rate, counts.length)
    write_json(context.outputs["scores"], rates)


def scored(folder: Path, seed: int) -> dict[Unit, tuple[Score, tuple[float, float]]]:
    """Word and character errors of a decoded set, each with the 95 % interval of its rate."""
    from speechkit.metrics.wer import bootstrap_interval
    from speechkit.metrics.wer import score as error_rate

    lines = list(read_decoded(folder))
    references, hypotheses = ({line["id"]: line[k] for line in lines} for k in ("ref", "hyp"))
    units: tuple[Unit, ...] = ("word", "char")
    results = {unit: error_rate(references, hypotheses, unit) for unit in units}
    return {unit: (result, bootstrap_interval(result, seed)) for unit, result in results.items()}


def read_decoded(folder: Path) -> Iterator[dict[str, Any]]:
    """What the decoding stage wrote of every utterance: id, ref, hyp, speaker, seconds, words with their times."""
    with (folder / "utterances.jsonl").open(encoding="utf-8") as file:
        yield from map(json.loads, file)
