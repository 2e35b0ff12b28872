"""`speechkit transcribe`: recordings to text."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechkit.cli.inputs import Input, add_input_arguments, find_inputs
from speechkit.cli.model import add_model_arguments, open_recognizer, positive, require_model
from speechkit.cli.outputs import Outputs, add_output_arguments, choose_formats, choose_target, print_text
from speechkit.cli.progress import Progress, clock
from speechkit.errors import InputError, SpeechkitError, UsageError
from speechkit.pipelines.formats import CONCATENABLE, FORMATS, json_line, render
from speechkit.pipelines.subtitles import Layout

if TYPE_CHECKING:
    from speechkit.decode.ngram import NgramSearch
    from speechkit.decode.vocabulary import Vocabulary
    from speechkit.pipelines.sources import Failure
    from speechkit.pipelines.transcript import Transcript

_LM_OPTIONS = ("lexicon", "lm_weight", "word_score")
_LAYOUT = ("max_line_width", "max_line_count", "max_words_per_line", "highlight_words")


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
    outputs = Outputs(target=target, settings=_settings(args, formats), overwrite=args.overwrite, resume=args.resume)
    with outputs.opened():
        todo = outputs.left(inputs.items)
        batch = _Batch(args, outputs, single=inputs.single, skipped=len(inputs.items) - len(todo))
        return batch.run(todo)


class _Batch:
    """The inputs of one command on their way to their outputs, and what became of them."""

    def __init__(self, args: argparse.Namespace, outputs: Outputs, *, single: bool, skipped: int) -> None:
        self.args = args
        self.outputs = outputs
        self.single = single
        self.layout = Layout(**{name: getattr(args, name) for name in _LAYOUT})
        self.skipped = skipped  # done by an earlier run
        self.done = skipped
        self.errors: list[SpeechkitError] = []
        self.held: list[str] = []  # JSON lines of failures: when all fail, nothing goes to stdout

    def run(self, items: Sequence[Input]) -> int:
        progress = Progress(_total_seconds(items), shown=not (self.args.verbosity < 0 or self.args.no_progress))
        with progress:
            for item, result in zip(items, self._results(items, progress), strict=True):
                if isinstance(result, SpeechkitError):
                    self._failed(item, result, progress)
                    if self.args.fail_fast:
                        break
                else:
                    self._write(item, result, progress)
        if not self.single and self.args.verbosity >= 0:
            before = f" ({self.skipped} before)" if self.skipped else ""
            failed = f" · {len(self.errors)} failed" if self.errors else ""
            audio = f"{clock(progress.done_s)} audio · {progress.speed:.0f}x"
            print(f"{self.done + len(self.errors)} files · {self.done} ok{before}{failed} · {audio}", file=sys.stderr)
        return self._exit_code()

    def _results(self, items: Sequence[Input], progress: Progress) -> Iterator[Transcript | SpeechkitError]:
        from speechkit.pipelines.sources import Failure

        sources = [item.source for item in items if item.source]
        results: Iterator[Transcript | Failure] = iter(())
        if sources:
            from speechkit.pipelines.transcribe import Transcriber

            recognizer = open_recognizer(self.args)
            search = _search(self.args, recognizer.vocabulary) if self.args.lm else None
            transcriber = Transcriber(recognizer, beam_size=self.args.beam_size, search=search, name=self.args.model)
            results = transcriber.transcribe(sources, progress)
        for item in items:
            if item.source is None:
                assert item.error is not None
                yield item.error
            else:
                result = next(results)
                yield result.error if isinstance(result, Failure) else result

    def _write(self, item: Input, transcript: Transcript, progress: Progress) -> None:
        for warning in transcript.warnings if self.args.verbosity >= 0 else ():
            progress.message(f"speechkit: warning: {item.name}: {warning}")
        assert item.source is not None
        channel = item.source.channel
        place = {"file": Path(item.output).name, "channel": str(channel + 1) if isinstance(channel, int) else "1"}
        texts = [render(transcript, f, **place, layout=self.layout) for f in self.outputs.target.formats]
        self.done += 1
        if not self.outputs.target.is_stdout:
            self.outputs.write(item, texts)
        if self.args.jsonl or self.outputs.target.is_stdout:
            text = json_line(transcript) if self.args.jsonl else texts[0]
            print_text("".join(self.held) + (self._labelled(item, text) if self._labels else text))
            self.held = []

    @property
    def _labels(self) -> bool:
        """Whether standard output gets plain text of several inputs, which does not say whose it is."""
        return not self.single and not self.args.jsonl and self.outputs.target.formats == ("txt",)

    def _labelled(self, item: Input, text: str) -> str:
        """Every line after the input's name and a tab."""
        return "".join(f"{item.name}\t{line}\n" for line in text.splitlines() or [""])

    def _failed(self, item: Input, error: SpeechkitError, progress: Progress) -> None:
        if self.single:
            raise error
        self.errors.append(error)
        self.outputs.finish(item, "failed")
        named = error.message if item.name in error.message else f"{item.name}: {error.message}"
        progress.message(f"speechkit: error: {named}" + (f"\nhint: {error.hint}" if error.hint else ""))
        if self.args.jsonl:
            line = {"input": item.name, "ok": False, "error": _as_json(error)}
            self.held.append(json.dumps(line, ensure_ascii=False) + "\n")
            if self.done:
                print_text("".join(self.held))
                self.held = []

    def _exit_code(self) -> int:
        if not self.errors:
            return 0
        codes = {error.exit_code for error in self.errors}
        return codes.pop() if not self.done and len(codes) == 1 else 1


def _as_json(error: SpeechkitError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "hint": error.hint, "exit": error.exit_code}


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
    names = ("model", "vocab", "beam_size", "lm", *_LM_OPTIONS, "channel", "dtype", *_LAYOUT)
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


def _search(args: argparse.Namespace, vocabulary: Vocabulary) -> NgramSearch:
    from speechkit.decode.ngram import BEAM_SIZE, NgramSearch, NgramSettings

    given = {name: getattr(args, name) for name in ("lm_weight", "word_score") if getattr(args, name) is not None}
    settings = NgramSettings(beam_size=args.beam_size or BEAM_SIZE, **given)
    return NgramSearch(vocabulary, Path(args.lm), Path(args.lexicon) if args.lexicon else None, settings)


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


def _total_seconds(items: Sequence[Input]) -> float | None:
    """Seconds of audio by the headers, for the bar of a terminal; None where nobody looks."""
    if not sys.stderr.isatty():
        return None
    from speechkit.audio.files import info

    total = 0.0
    for item in items:
        if item.place and item.source:
            with contextlib.suppress(InputError):  # told when it is read
                total += info(item.place).duration_s
    return total or None
