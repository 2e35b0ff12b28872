"""Times speechkit beside what people use today: `python -m bench.run [CASE …]`, or `make bench CASES=forward`.

The tables go to standard output and into bench/RESULTS.md, under the machine's kind, versions, date and commit.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

from bench.case import Settings
from bench.table import page, table
from speechkit.errors import SpeechkitError
from speechkit.files import write_text

CASES = ("forward", "train_step", "loader", "kmeans", "transcribe", "gpu")
_RESULTS = Path(__file__).with_name("RESULTS.md")
_NO_DEVICE = "Not run: this machine has no CUDA device.\n"
_VERSIONS = ("torch", "torchaudio", "transformers", "onnxruntime", "scikit-learn", "numpy", "soundfile")
_UNITS = {  # flags of Linux for instructions that multiply numbers of a type
    "float32": ("avx2", "avx512f", "asimd"),
    "bfloat16": ("avx512_bf16", "amx_bf16", "bf16"),
    "int8": ("avx_vnni", "avx512_vnni", "amx_int8", "i8mm"),
}


def main(argv: list[str] | None = None) -> int:
    """Run the cases asked for; returns the exit code."""
    args = _arguments(argv)
    logging.getLogger("speechkit").setLevel(logging.ERROR)
    code, where = 0, environment()
    for case in args.cases or CASES:
        try:
            section = _section(case, args, where)
        except SpeechkitError as error:  # the other cases can do without
            print(f"error: {case}: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""), file=sys.stderr)
            code = error.exit_code
            continue
        print(f"## {case}\n\n{section or _NO_DEVICE}", flush=True)
        if args.output and section:
            old = args.output.read_text(encoding="utf-8") if args.output.exists() else ""
            write_text(args.output, page(old, CASES, {case: section}))
    return code


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="Time speechkit beside what people use today.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"default: all of {', '.join(CASES)}")
    parser.add_argument("--trials", type=int, help="turns of each side (default: 5, quick: 2)")
    parser.add_argument("--quick", action="store_true", help="tiny networks and little audio; nothing is written")
    parser.add_argument("--output", type=Path, help="the page of results (default: bench/RESULTS.md, quick: none)")
    parser.add_argument("--model", type=Path, help="a CTC model that transcribe times too, with --recordings")
    parser.add_argument("--recordings", type=Path, help="a folder of audio files for --model")
    args = parser.parse_args(argv)
    for case in args.cases:
        if case not in CASES:
            parser.error(f"no case {case!r}: {', '.join(CASES)}")
    if (args.model is None) != (args.recordings is None):
        parser.error("--model and --recordings go together")
    args.trials = args.trials or (2 if args.quick else 5)
    args.output = args.output or (None if args.quick else _RESULTS)
    return args


def _section(case: str, args: argparse.Namespace, where: str) -> str:
    """What was measured, where and when; empty where there is nothing to measure it on."""
    module = importlib.import_module(f"bench.{case}")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        settings = Settings(
            trials=args.trials,
            quick=args.quick,
            folder=Path(folder),
            model=args.model,
            recordings=args.recordings,
        )
        groups = list(module.groups(settings))
    if not groups:
        return ""
    quick = "A quick run: these times mean nothing. " if args.quick else ""
    return f"{quick}{where}; medians of {args.trials}.\n\n{table(groups)}"


def environment() -> str:
    """The machine's kind, versions, date and commit, in one line without names of hosts or paths."""
    import torch

    from speechkit.pipelines.machine import devices

    found = devices()
    types = _types() or f"{torch.backends.cpu.get_cpu_capability()}"
    machine = f"{found.cpu}, {found.cores} cores, {found.threads} threads ({types})"
    versions = [f"{name} {_version(name)}" for name in _VERSIONS]
    parts = [machine, *found.gpus, ", ".join(versions), time.strftime("%Y-%m-%d"), f"commit {_commit()}"]
    return "; ".join(parts)


def _types() -> str:
    """The types that the processor has units for, as Linux tells; else empty."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""
    lines = [line for line in text.splitlines() if line.startswith(("flags", "Features"))]
    flags = set(lines[0].split()) if lines else set()
    found = {name: [flag for flag in units if flag in flags] for name, units in _UNITS.items()}
    return ", ".join(f"{name}: {' '.join(units)}" for name, units in found.items() if units)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


def _commit() -> str:
    """The commit, and whether files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    told = subprocess.run(command, cwd=_RESULTS.parent, capture_output=True, text=True, check=False)
    return told.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
