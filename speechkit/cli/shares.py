"""Who does the work of a command: processes of this machine, Ray, or this machine a shard and others the rest."""

from __future__ import annotations

import argparse
import os

from speechkit.cli.model import positive
from speechkit.jobs import Shard

_VARIABLES = (  # number and count of this process, as schedulers tell them
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
    ("JOB_COMPLETION_INDEX", "WORLD_SIZE"),
    ("RANK", "WORLD_SIZE"),
)


def add_sharing_arguments(parser: argparse.ArgumentParser | argparse._ArgumentGroup, jobs: str) -> None:
    """Declare `--nj`, whose help is given, `--executor` and `--shard`."""
    parser.add_argument("--nj", type=positive, default=1, metavar="N", help=f"{jobs} (default 1)")
    parser.add_argument(
        "--executor",
        choices=["local", "ray"],
        default="local",
        help="local: --nj processes; ray: the cluster of RAY_ADDRESS, else one of --nj processes started here",
    )
    parser.add_argument(
        "--shard", type=_shard, metavar="I/N", help="do share I of N, from 0; auto: as Slurm, Kubernetes, torchrun say"
    )


def _shard(text: str) -> Shard:
    try:
        return _from_environment() if text == "auto" else Shard.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _from_environment() -> Shard:
    for index, count in _VARIABLES:
        if index in os.environ and count in os.environ:
            first = _number("SLURM_ARRAY_TASK_MIN") if index.startswith("SLURM") else 0
            number, total = _number(index) - first, _number(count)
            if number >= total:
                raise ValueError(f"auto: {index}={os.environ[index]} of {total}: the array is no whole range, give I/N")
            return Shard(number, total)
    names = ", ".join("/".join(pair) for pair in _VARIABLES)
    raise ValueError(f"auto: none of {names} is set")


def _number(variable: str) -> int:
    text = os.environ.get(variable, "0")
    if not text.isdecimal():
        raise ValueError(f"auto: {variable}={text} is no number")
    return int(text)
