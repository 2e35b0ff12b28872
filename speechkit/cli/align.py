"""`speechkit align`: when the words of a known text are said."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from speechkit.cli.inputs import Input, Inputs, one_input
from speechkit.cli.model import add_model_arguments, open_recognizer, require_model
from speechkit.cli.outputs import Outputs, add_output_arguments, choose_formats, choose_target
from speechkit.errors import InputError, UsageError

FORMATS = ("ctm", "textgrid", "json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("audio", metavar="AUDIO", help="a recording; - for stdin")
    parser.add_argument("text", metavar="TEXTFILE", help="what is said in it, a segment a line; - for stdin")
    add_model_arguments(parser)
    add_output_arguments(parser, FORMATS, several=False)


def run(args: argparse.Namespace) -> int:
    """Align the text and write when each word is said.

    Raises:
        SpeechkitError: the command, the recording, the text or the model is wrong.
    """
    formats = choose_formats(args.format, args.output, FORMATS, "ctm")
    require_model(args)
    if args.audio == args.text == "-":
        raise UsageError("standard input cannot be both the recording and the text", code="usage.stdin")
    item = one_input(args.audio)
    inputs = Inputs(items=[item], single=True)
    target = choose_target(inputs, args.output, formats, known=FORMATS, joinable=frozenset())
    outputs = Outputs(target=target, settings={}, overwrite=args.overwrite)
    with outputs.opened():
        outputs.left([item], [Path(args.text)])
        outputs.write(item, _align(args, item, formats))
    return 0


def _align(args: argparse.Namespace, item: Input, formats: tuple[str, ...]) -> list[str]:
    from speechkit.pipelines.align import align_text
    from speechkit.pipelines.formats import render

    text = _read_text(args.text)
    assert item.source is not None
    if not text.strip():
        raise InputError(f"{_named(args.text)}: there is no text to align", code="align.empty")
    recognizer = open_recognizer(args)
    try:
        transcript = align_text(recognizer, item.source, text, name=args.model)
    except InputError as error:
        if error.code == "text.symbols":
            error.message = f"{_named(args.text)}: {error.message}"
        raise
    for warning in transcript.warnings if args.verbosity >= 0 else ():
        print(f"speechkit: warning: {item.name}: {warning}", file=sys.stderr)
    return [render(transcript, format, file=item.output) for format in formats]


def _named(path: str) -> str:
    return "standard input" if path == "-" else path


def _read_text(path: str) -> str:
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(f"{_named(path)}: cannot be read: {reason}", code="input.text") from error
