"""`speechkit eval`: how far texts are from their references."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechkit.cli.model import positive
from speechkit.cli.outputs import print_text
from speechkit.errors import InputError, OutputError, UsageError

if TYPE_CHECKING:
    from speechkit.metrics.wer import Pair, Score

_UNITS = {"wer": "word", "cer": "char"}
_COLUMNS = "|dataset|Snt|Wrd|Corr|Sub|Del|Ins|Err|S.Err|\n|---|---|---|---|---|---|---|---|---|"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("metric", choices=sorted(_UNITS), help="word or character error rate")
    parser.add_argument("ref", metavar="REF", help="text, Kaldi's text, trn, stm, ctm or jsonl, by the ending")
    parser.add_argument("hyp", metavar="HYP", help="the same")
    parser.add_argument("--normalizer", default="none", choices=["none", "basic"], help="of both (default none)")
    parser.add_argument(
        "--bootstrap", type=positive, metavar="N", help="resamples of the 95 %% interval (--json: 1000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the resamples")
    parser.add_argument("--per-utt", metavar="FILE", help="write each utterance with its errors, as Kaldi does")
    parser.add_argument("--align", metavar="FILE", help="write each utterance's alignment, reference above hypothesis")
    parser.add_argument("--overwrite", action="store_true", help="replace these files where they exist")
    parser.add_argument("--json", action="store_true", help="one object instead of the table")


def run(args: argparse.Namespace) -> int:
    """Score and print.

    Raises:
        SpeechkitError: a file is not there or not of its form, or the two do not belong together.
    """
    from speechkit.files import write_text
    from speechkit.metrics.normalize import normalize_text
    from speechkit.metrics.wer import score
    from speechkit.pipelines.scored_texts import read_texts

    for output in (args.per_utt, args.align):
        _check_output(output, args)
    refs, hyps = (
        {id: normalize_text(text, args.normalizer) for id, text in texts.items()}
        for texts in read_texts(args.ref, args.hyp)
    )
    missing = [id for id in refs if id not in hyps]
    if missing and len(missing) == len(refs):
        raise InputError(
            f"{args.hyp}: no utterance of {args.ref} is in it; its first is {next(iter(hyps), 'none')}, "
            f"the other's {missing[0]}",
            code="score.ids",
        )
    if missing:
        print(
            f"speechkit: warning: {args.hyp}: {len(missing)} of {len(refs)} utterances are missing and count as "
            f"deletions, the first is {missing[0]}",
            file=sys.stderr,
        )
    result = score(refs, hyps, "word" if args.metric == "wer" else "char")
    if args.per_utt:
        write_text(args.per_utt, _per_utterance(result))
    if args.align:
        write_text(args.align, _alignments(result))
    print_text((_json(args, result) if args.json else _table(args, result)) + "\n")
    return 0


def _check_output(output: str | None, args: argparse.Namespace) -> None:
    if output is None or not Path(output).exists():
        return
    if any(Path(source).exists() and Path(output).samefile(source) for source in (args.ref, args.hyp)):
        raise UsageError(f"{output}: would replace what is to be scored", code="output.source")
    if Path(output).is_file() and not args.overwrite:
        raise OutputError(f"{output}: exists already", hint="--overwrite replaces it", code="output.exists")


def _table(args: argparse.Namespace, score: Score) -> str:
    counts = score.counts
    rates = [counts.correct, counts.substitutions, counts.deletions, counts.insertions, counts.errors]
    percents = [_percent(number / max(1, counts.length)) for number in rates] + [_percent(score.sentence_error_rate)]
    name = Path(args.hyp).stem
    lines = [_COLUMNS, "|" + "|".join([name, str(len(score.utterances)), str(counts.length), *percents]) + "|"]
    if args.bootstrap:
        low, high = _interval(args, score)
        lines.append(f"95 % interval of Err: {_percent(low)} to {_percent(high)} ({args.bootstrap} resamples)")
    return "\n".join(lines)


def _json(args: argparse.Namespace, score: Score) -> str:
    counts = score.counts
    value: dict[str, Any] = {
        "dataset": Path(args.hyp).stem,
        "metric": args.metric,
        "sentences": len(score.utterances),
        "words": counts.length,
        "correct": counts.correct,
        "substitutions": counts.substitutions,
        "deletions": counts.deletions,
        "insertions": counts.insertions,
        "error_rate": round(counts.rate, 6) if counts.length else None,
        "interval_95": [round(x, 6) for x in _interval(args, score)],
        "sentence_errors": score.sentence_errors,
        "sentence_error_rate": round(score.sentence_error_rate, 6),
        "confusions": [[*pair, number] for pair, number in score.confusions().most_common(20)],
    }
    return json.dumps(value, ensure_ascii=False)


def _interval(args: argparse.Namespace, score: Score) -> tuple[float, float]:
    from speechkit.metrics.wer import bootstrap_interval

    return bootstrap_interval(score, args.seed, args.bootstrap or 1000)


def _per_utterance(score: Score) -> str:
    lines = []
    for id, pairs in score.alignments.items():
        refs, hyps = (" ".join(pair[side] or "***" for pair in pairs) for side in (0, 1))
        ops = " ".join(_operation(pair) for pair in pairs)
        counts = score.utterances[id]
        lines += [f"{id} ref {refs}", f"{id} hyp {hyps}", f"{id} op {ops}"]
        lines.append(f"{id} #csid {counts.correct} {counts.substitutions} {counts.insertions} {counts.deletions}")
    return "".join(line + "\n" for line in lines)


def _operation(pair: Pair) -> str:
    ref, hyp = pair
    return "C" if ref == hyp else "I" if ref is None else "D" if hyp is None else "S"


def _alignments(score: Score) -> str:
    blocks = []
    for id, pairs in score.alignments.items():
        counts = score.utterances[id]
        blocks.append(
            f"id: {id}\nScores: (#C #S #D #I) {counts.correct} {counts.substitutions} {counts.deletions} "
            f"{counts.insertions}\nREF:  {_row(pairs, 0)}\nHYP:  {_row(pairs, 1)}\n\n"
        )
    return "".join(blocks)


def _row(pairs: Sequence[Pair], side: int) -> str:
    """One side of an alignment in columns; wrong words in capitals, a missing one as stars."""
    cells = []
    for pair in pairs:
        width = max(len(word or "") for word in pair)
        word = pair[side]
        shown = "*" * width if word is None else word if pair[0] == pair[1] else word.upper()
        cells.append(shown.ljust(width))
    return " ".join(cells).rstrip()


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
