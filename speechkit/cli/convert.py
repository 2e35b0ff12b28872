"""`speechkit convert`: a model from any form that is read to ours, to transformers' or to its first publisher's."""

from __future__ import annotations

import argparse
from pathlib import Path

from speechkit.cli.main import configure_logging
from speechkit.cli.model import add_offline_argument
from speechkit.cli.outputs import print_text
from speechkit.errors import OutputError, UsageError
from speechkit.files import refuse_special
from speechkit.models import FORMS

_ORIGINAL_ENDING = ".pt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("model", metavar="MODEL", help="folder, published file, or hf:owner/name[@revision]")
    parser.add_argument(
        "-o", "--output", metavar="OUT", required=True, help=f"a folder; of the original form a {_ORIGINAL_ENDING} file"
    )
    parser.add_argument(
        "--to",
        choices=FORMS,
        required=True,
        help="our folder, a folder of transformers, or the file of Microsoft (encoders) or fairseq (with a head)",
    )
    parser.add_argument("--vocab", metavar="FILE", help="the symbols of a model that was published without")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a model that exists (default: refuse, exit 5)"
    )
    add_offline_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Convert the model and name what was written.

    Raises:
        SpeechkitError: the command or the model is wrong, or the output is in the way.
    """
    out = Path(args.output)
    _check_name(args.output, args.to)
    _refuse_existing(out, args.to, overwrite=args.overwrite)

    from speechkit.models import load, save

    if args.verbosity == 0:
        configure_logging(1)  # what the reader leaves out is told, too
    save(load(args.model, offline=args.offline, vocab=args.vocab), out, args.to)
    print_text(f"{out}\t{args.to}\n")
    return 0


def _check_name(output: str, form: str) -> None:
    """See that the output is named as what it will be."""
    if output == "-":
        raise UsageError("a model cannot go to standard output", hint="-o FOLDER", code="usage.output")
    if (form == "original") != (Path(output).suffix == _ORIGINAL_ENDING):
        wanted = f"a file {_ORIGINAL_ENDING}" if form == "original" else "a folder"
        raise UsageError(f"-o {output}: the form {form} is {wanted}", code="usage.output")


def _refuse_existing(out: Path, form: str, *, overwrite: bool) -> None:
    """See that nothing is lost: only a model is replaced, and only when asked."""
    refuse_special(out, out)
    if not out.exists() or (out.is_dir() and form != "original" and not any(out.iterdir())):
        return
    if not overwrite:
        raise OutputError(f"{out}: exists already", hint="--overwrite replaces it", code="output.exists")
    if form == "original":
        if out.is_dir():
            raise OutputError(f"{out}: is a folder, not a file", hint="choose a new name", code="output.exists")
    elif not (out / "config.json").is_file() or any(path.is_dir() for path in out.iterdir()):
        raise OutputError(
            f"{out}: is no model folder, or holds more than a model", hint="choose a new name", code="output.exists"
        )
