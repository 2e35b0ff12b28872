"""The model of a command: how it is named, and where and how it runs."""

from __future__ import annotations

import argparse
import math
import os
from typing import TYPE_CHECKING

from speechkit.errors import ModelError

if TYPE_CHECKING:
    from speechkit.pipelines.recognizer import Recognizer

_MAX_THREADS = 8


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the model and how it runs."""
    parser.add_argument("-m", "--model", metavar="NAME", help="folder, published file, or hf:owner/name[@revision]")
    parser.add_argument("--vocab", metavar="FILE", help="the symbols of a model that was published without")
    parser.add_argument("--device", default=os.environ.get("SPEECHKIT_DEVICE", "auto"), help="auto, cpu, cuda[:N], mps")
    parser.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16", "float16"])
    parser.add_argument("--batch-seconds", type=seconds, default=120.0, metavar="S", help="audio in a batch (120)")
    parser.add_argument("--threads", type=positive, metavar="N", help="of the CPU (default: its cores, at most 8)")
    add_offline_argument(parser)


def add_offline_argument(parser: argparse.ArgumentParser) -> None:
    """Declare the switch that keeps the command off the network."""
    offline = bool(os.environ.get("SPEECHKIT_OFFLINE"))
    parser.add_argument("--offline", action="store_true", default=offline, help="no network at all")


def require_model(args: argparse.Namespace) -> None:
    """See that a model is named.

    Raises:
        ModelError: it is not.
    """
    if not args.model:
        raise ModelError(
            "no model given, and none is built in yet",
            hint="-m hf:facebook/hubert-large-ls960-ft fetches one (1.3 GB); "
            "`make demo` in a clone trains one: -m egs/mini/wavlm/exp/tiny",
            code="model.missing",
        )


def open_recognizer(args: argparse.Namespace) -> Recognizer:
    """Load the model of the command."""
    import torch

    from speechkit.pipelines.recognizer import load_recognizer

    torch.set_num_threads(args.threads or min(torch.get_num_threads(), _MAX_THREADS))
    return load_recognizer(
        args.model,
        device=args.device,
        dtype=args.dtype,
        batch_seconds=args.batch_seconds,
        offline=args.offline,
        vocab=args.vocab,
    )


def positive(text: str) -> int:
    """A whole number above 0 of the command line."""
    value = int(text) if text.strip().removeprefix("-").isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def seconds(text: str) -> float:
    """A time above 0 of the command line."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return value
