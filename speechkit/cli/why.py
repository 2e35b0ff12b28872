"""`speechkit data why`: what one step of a training saw."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechkit.cli.outputs import print_text

if TYPE_CHECKING:
    from speechkit.stages.retrace import TracedMicroBatch, TracedUtterance


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options beside the experiment."""
    what = "finetune (default), pretrain_1, pretrain_2: the stage that trains"
    parser.add_argument("--training", default="finetune", metavar="NAME", help=what)
    what = "of the optimizer, counted from 0 as in the log; row `step` N of metrics.jsonl comes after step N-1"
    parser.add_argument("--step", type=_step, required=True, metavar="N", help=what)
    what = "the folder with recipe.py (default: recipes/NAME of this clone)"
    parser.add_argument("--recipe", type=Path, metavar="DIR", help=what)
    parser.add_argument("--json", action="store_true", help="one object, with every number in full")


def why(args: argparse.Namespace) -> int:
    """Print the micro-batches of a step, a line an utterance."""
    from speechkit.stages.retrace import retrace

    found = retrace(args.dir, args.training, args.step, args.recipe)
    if args.json:
        head = {"experiment": str(args.dir), "training": args.training, "step": args.step}
        batches = [asdict(batch) for batch in found]
        print_text(json.dumps({**head, "micro_batches": batches}, ensure_ascii=False) + "\n")
        return 0
    print_text("".join(f"{line}\n" for batch in found for line in _lines(batch)))
    return 0


def _lines(batch: TracedMicroBatch) -> list[str]:
    head = [f"micro-batch {batch.number}", f"epoch {batch.epoch}", f"{len(batch.utterances)} utterances"]
    head += [f"{batch.seconds:.2f} s", f"padding {100 * batch.padding:.1f} %"]
    return ["\t".join(head), *("\t".join(_columns(utterance)) for utterance in batch.utterances)]


def _columns(utterance: TracedUtterance) -> list[str]:
    columns = [f"  {utterance.id}", f"{utterance.num_samples} samples"]
    drawn = utterance.draws
    for name, value in drawn.items():
        group, _, what = name.partition(".")
        if drawn.get(f"{group}.pick", 0) >= 0:
            columns.append(f"{name} {_shown(value)}")
        elif what == "pick":  # nothing is added, so what else was drawn for it means nothing
            columns.append(f"{group} none")
    return columns


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        spans = " ".join(f"{first}-{end}" for first, end in value["spans"])
        return f"{value['count']}{' in ' * bool(spans)}{spans}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _step(text: str) -> int:
    if not text.strip().isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)
