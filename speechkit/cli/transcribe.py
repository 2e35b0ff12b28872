"""`speechkit transcribe`: recordings to text."""

from __future__ import annotations

import argparse
import contextlib
import math
from pathlib import Path
from typing import Any

from speechkit.cli.batch import LAYOUT, Batch, is_shared
from speechkit.cli.inputs import add_input_arguments, find_inputs
from speechkit.cli.model import add_model_arguments, positive, require_model
from speechkit.cli.outputs import Outputs, Target, add_output_arguments, choose_formats, choose_target
from speechkit.cli.shares import add_sharing_arguments
from speechkit.errors import UsageError
from speechkit.pipelines.formats import CONCATENABLE, FORMATS

_LM_OPTIONS = ("lexicon", "lm_weight", "word_score")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_input_arguments(parser)
    add_model_arguments(parser)
    parser.add_argument("--beam-size", type=positive, metavar="N", help="prefixes of a beam search (default: greedy)")
    lm = parser.add_argument_group("language model (extra lm)")
    lm.add_argument("--lm", metavar="FILE", help="n-gram model, ARPA or KenLM's binary form; --beam-size is then 500")
    lm.add_argument(
        "--lexicon", metavar="FILE", help="a word a line, or a word and its symbols (default: the LM's words)"
    )
    lm.add_argument("--lm-weight", type=_weight, metavar="W", help="of the model's base-10 logarithms (2)")
    lm.add_argument("--word-score", type=_score, metavar="S", help="added for every word (-1)")
    add_output_arguments(parser, FORMATS, several=True)
    parser.add_argument("--jsonl", action="store_true", help="one JSON object a line on stdout as each input finishes")
    parser.add_argument("--fail-fast", action="store_true", help="stop at the first input that fails")
    add_sharing_arguments(parser, "processes that share the inputs; for a folder of outputs")
    parser.add_argument("--no-progress", action="store_true", help="no bar and no lines of progress")
    lines = parser.add_argument_group("lines and cues of srt and vtt")
    lines.add_argument("--max-line-width", type=positive, metavar="CHARS")
    lines.add_argument("--max-line-count", type=positive, metavar="LINES")
    lines.add_argument("--max-words-per-line", type=positive, metavar="WORDS")
    lines.add_argument("--highlight-words", action=argparse.BooleanOptionalAction, default=False)


def run(args: argparse.Namespace) -> int:
    """Transcribe everything named.

    Raises:
        SpeechkitError: the command is wrong, the model or the outputs are, or its only input is.
    """
    formats = _formats(args)
    _check_lm(args)
    if args.inputs or args.from_file:
        require_model(args)
    inputs = find_inputs(args)
    target = choose_target(inputs, args.output, formats, known=FORMATS, joinable=CONCATENABLE)
    _check_sharing(args, target)
    outputs = Outputs(
        target=target,
        settings=_settings(args, formats),
        overwrite=args.overwrite,
        resume=args.resume,
        shard=args.shard,
    )
    mine = args.shard.of(inputs.items) if args.shard else inputs.items
    with outputs.opened():
        todo = outputs.left(mine, [item.place for item in inputs.items if item.place and item.source])
        return Batch(args, outputs, single=inputs.single, skipped=len(mine) - len(todo)).run(todo)


def _check_sharing(args: argparse.Namespace, target: Target) -> None:
    words = {"--shard": args.shard is not None, "--nj": args.nj > 1, "--executor ray": args.executor == "ray"}
    given = next((word for word, is_given in words.items() if is_given), None)
    if given and target.folder is None:
        raise UsageError(f"{given} is for a folder of outputs", hint="-o FOLDER/", code="usage.share")
    if is_shared(args) and (args.jsonl or args.fail_fast):
        alone = "--jsonl" if args.jsonl else "--fail-fast"
        raise UsageError(f"{alone} goes with one process", hint="without --nj and --executor", code="usage.share")


def _formats(args: argparse.Namespace) -> tuple[str, ...]:
    to_stdout = args.output in (None, "-")
    if args.jsonl and to_stdout and args.format not in (None, "jsonl"):
        raise UsageError(
            f"--jsonl and -f {args.format} on standard output", hint="-o FOLDER for the files", code="usage.output"
        )
    formats = choose_formats(args.format, args.output, FORMATS, "jsonl" if args.jsonl and to_stdout else "txt")
    if "rttm" in formats:
        raise UsageError(
            "rttm says who spoke when, and this command does not tell speakers apart",
            hint="choose another format: ctm, stm, json, …",
            code="format.speakers",
        )
    return formats


def _settings(args: argparse.Namespace, formats: tuple[str, ...]) -> dict[str, Any]:
    """Everything that changes the results, for the record of a folder run."""
    names = ("model", "vocab", "beam_size", "lm", *_LM_OPTIONS, "channel", "dtype", *LAYOUT)
    settings = {name: getattr(args, name) for name in names}
    path = Path(args.model)
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.exists() else []
    files += [Path(name) for name in (args.lm, args.lexicon) if name]
    return settings | {
        "formats": formats,
        "model_files": [[f.name, f.stat().st_mtime_ns] for f in files if f.is_file()],
    }


def _check_lm(args: argparse.Namespace) -> None:
    given = [name for name in _LM_OPTIONS if getattr(args, name) is not None]
    if given and not args.lm:
        raise UsageError(
            f"--{given[0].replace('_', '-')} without a language model", hint="--lm FILE.arpa", code="usage.lm"
        )


def _score(text: str) -> float:
    """A finite number of the command line."""
    with contextlib.suppress(ValueError):
        if math.isfinite(value := float(text)):
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is not a number")


def _weight(text: str) -> float:
    """Such a number that is not negative."""
    value = _score(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is below 0")
    return value
