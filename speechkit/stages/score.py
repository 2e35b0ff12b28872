"""Error rates of decoded sets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speechkit.files import write_json
from speechkit.recipe.context import Context
from speechkit.recipe.stage import Stage


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
    from speechkit.metrics.wer import bootstrap_interval
    from speechkit.metrics.wer import score as error_rate

    scores = {}
    for name, folder in context.inputs.items():
        lines = list(read_decoded(folder))
        references, hypotheses = ({line["id"]: line[k] for line in lines} for k in ("ref", "hyp"))
        for unit in ("word", "char"):
            result = error_rate(references, hypotheses, unit)  # type: ignore[arg-type]
            low, high = bootstrap_interval(result, seed)
            counts = result.counts
            scores[f"{name} {unit}"] = {
                "correct": counts.correct,
                "substitutions": counts.substitutions,
                "deletions": counts.deletions,
                "insertions": counts.insertions,
                "interval": [low, high],
            }
            context.log.info("%s, %s errors: %.2f %% of %d", name, unit, 100 * counts.rate, counts.length)
    write_json(context.outputs["scores"], scores)


def read_decoded(folder: Path) -> Iterator[dict[str, Any]]:
    """What the decoding stage wrote of every utterance: id, ref, hyp, speaker, seconds."""
    with (folder / "utterances.jsonl").open(encoding="utf-8") as file:
        yield from map(json.loads, file)
