"""`speechkit doctor`: what is installed here, what works, and how fast."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from speechkit.cli.outputs import print_text
from speechkit.errors import UsageError

if TYPE_CHECKING:
    import torch

    from speechkit.pipelines.machine import Devices, Extra, Folder, Format
    from speechkit.pipelines.self_test import Verdict

VARIABLES = (  # that speechkit or what it stands on reads
    "SPEECHKIT_DEVICE",
    "SPEECHKIT_OFFLINE",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "HF_TOKEN",
    "OMP_NUM_THREADS",
    "GOMP_SPINCOUNT",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY",
    "USER",
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_ARRAY_TASK_COUNT",
    "SLURM_ARRAY_TASK_MIN",
    "JOB_COMPLETION_INDEX",
    "RAY_ADDRESS",
)
_SECRET = ("HF_TOKEN",)
_SHADOW = "the package index's `speechkit`, an unrelated product, is installed beside and hides or overwrites this one"
_REMOVE = "pip uninstall speechkit, then install speechkit-torch again"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--bench", action="store_true", help="measure rates too, a few seconds each")
    parser.add_argument("--json", action="store_true", help="one object on standard output")


def run(args: argparse.Namespace) -> int:
    """Report, section after section; 1 when something failed."""
    from speechkit.pipelines import machine
    from speechkit.recipe.environment import DISTRIBUTION, environment

    if broken := machine.broken_libraries():
        return _report_broken(broken, as_json=args.json)
    from speechkit.pipelines.self_test import self_test
    from speechkit.train.precision import bfloat16_gain

    found: dict[str, Any] = {}

    def tell(name: str, value: Any, lines: Iterable[str]) -> None:
        found[name] = value
        if not args.json:
            print_text("".join(f"{line}\n" for line in lines))

    versions = _own_version(environment()) | machine.versions()
    tell("versions", versions, [f"{name} {version}" for name, version in versions.items()])
    device = _device()
    devices, gain = machine.devices(), round(bfloat16_gain(device), 3)
    tell("devices", asdict(devices) | {"bfloat16_gain": gain}, _devices(devices, gain))
    formats = machine.formats()
    tell("formats", [asdict(f) for f in formats], _formats(formats))
    extras = machine.extras(DISTRIBUTION)
    tell("extras", [asdict(e) for e in extras], map(_extra, extras))
    variables = _variables(os.environ)
    tell("environment", variables, [f"{name}={value}" for name, value in variables.items() if value is not None])
    folders = machine.folders()
    tell("folders", [asdict(f) for f in folders], map(_folder, folders))

    checks = []
    for verdict in _checks(machine.other_speechkit(), self_test(os.environ.get("SPEECHKIT_DEVICE", "auto"))):
        checks.append(asdict(verdict))
        tell("checks", checks, _verdict(verdict))
    if args.bench:
        from speechkit.pipelines.rates import measure

        rates: dict[str, Any] = {}
        for rate in measure(device):
            rates[rate.name] = {"value": rate.value, "unit": rate.unit, "trials": rate.trials}
            tell("rates", rates, [f"{rate.name} {rate.value:.4g} {rate.unit} (median of {rate.trials})"])
    if args.json:
        print_text(json.dumps(found, ensure_ascii=False) + "\n")
    return int(any(check["verdict"] == "FAILED" for check in checks))


def _report_broken(broken: Mapping[str, str], *, as_json: bool) -> int:
    """Without these libraries nothing else can be tried."""
    hints = {name: f"pip install --force-reinstall {name}" for name in broken}
    checks = [{"name": n, "verdict": "FAILED", "why": why, "hint": hints[n]} for n, why in broken.items()]
    lines = [f"{c['name']}: {c['verdict']}: {c['why']}\nhint: {c['hint']}\n" for c in checks]
    print_text(json.dumps({"checks": checks}) + "\n" if as_json else "".join(lines))
    return 1


def _own_version(environment: Mapping[str, Any]) -> dict[str, str]:
    commit = f" (commit {environment['commit'][:12]}{', modified' * environment['modified']})"
    return {"speechkit": environment["speechkit"] + commit * bool(environment["commit"])}


def _device() -> torch.device:
    """The device that commands take here; the CPU where the one of the environment cannot be used."""
    from speechkit.pipelines.device import choose_device

    try:
        return choose_device(os.environ.get("SPEECHKIT_DEVICE", "auto"))
    except UsageError:  # the self test tells
        return choose_device("cpu")


def _devices(devices: Devices, gain: float) -> list[str]:
    from speechkit.train.precision import GAIN

    faster = "so training takes it" if gain >= GAIN else "so training stays in float32"
    return [
        f"cpu {devices.cpu}, {devices.cores} cores, torch uses {devices.threads} threads",
        *(devices.gpus or ["no GPU that torch can use"]),
        f"bfloat16 runs at {gain:g} times the speed of float32, {faster}",
    ]


def _formats(formats: Iterable[Format]) -> list[str]:
    formats = list(formats)
    written = " ".join(f.name for f in formats if f.reads and f.writes)
    read = " ".join(f.name for f in formats if f.reads and not f.writes)
    broken = [f"cannot {'read' if f.writes else 'read or write'} {f.name}: {f.why}" for f in formats if not f.reads]
    return [f"reads and writes {written}", *([f"reads {read}"] if read else []), *broken]


def _extra(extra: Extra) -> str:
    return f"extra {extra.name}: " + (f"{extra.install} adds {' '.join(extra.missing)}" if extra.missing else "there")


def _variables(environment: Mapping[str, str]) -> dict[str, str | None]:
    values = {name: environment.get(name) for name in VARIABLES}
    return values | {name: "(set)" for name in _SECRET if values[name]}


def _folder(folder: Folder) -> str:
    there = "" if folder.exists else ", not there yet"
    return f"{folder.what} {folder.path}{there}, {folder.free_bytes / 1e9:.1f} GB free"


def _checks(other: str, rest: Iterable[Verdict]) -> Iterable[Verdict]:
    from speechkit.pipelines.self_test import Verdict

    if other:
        yield Verdict(name="package name", verdict="FAILED", why=f"{_SHADOW} (version {other})", hint=_REMOVE)
    else:
        yield Verdict(name="package name", verdict="ok")
    yield from rest


def _verdict(verdict: Verdict) -> list[str]:
    seconds = f" ({verdict.seconds:.1f} s)" if verdict.verdict == "ok" and verdict.seconds else ""
    why = {"ok": seconds, "skipped": f" ({verdict.why})", "FAILED": f": {verdict.why}"}[verdict.verdict]
    return [f"{verdict.name}: {verdict.verdict}{why}", *([f"hint: {verdict.hint}"] if verdict.hint else [])]
