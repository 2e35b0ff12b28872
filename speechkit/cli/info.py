"""`speechkit info`: what an audio file or a model is."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechkit.cli.model import add_offline_argument
from speechkit.cli.outputs import print_text
from speechkit.errors import InputError, SpeechkitError

if TYPE_CHECKING:
    from speechkit.audio.files import AudioInfo
    from speechkit.pipelines.inspect import ModelInfo

_MODEL_ENDINGS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("names", nargs="+", metavar="FILE|MODEL", help="recordings, model folders or files, hub ids")
    parser.add_argument("--vocab", metavar="FILE", help="the symbols of a model that was published without")
    add_offline_argument(parser)
    parser.add_argument("--json", action="store_true", help="one object a line; of models also settings and tensors")


def run(args: argparse.Namespace) -> int:
    """Describe everything named.

    Raises:
        SpeechkitError: the only thing named cannot be described.
    """
    errors: list[SpeechkitError] = []
    for name in args.names:
        try:
            print_text((_audio if _is_audio(name) else _model)(name, args) + "\n")
        except SpeechkitError as error:
            if len(args.names) == 1:
                raise
            errors.append(error)
            print(f"speechkit: error: {error.message}" + f"\nhint: {error.hint}" * bool(error.hint), file=sys.stderr)
    codes = {error.exit_code for error in errors}
    return (codes.pop() if len(errors) == len(args.names) and len(codes) == 1 else 1) if errors else 0


def _is_audio(name: str) -> bool:
    path = Path(name)
    if path.is_file():
        return path.suffix not in _MODEL_ENDINGS
    if path.suffix and not path.exists():
        from speechkit.audio.files import EXTENSIONS

        return path.suffix.lower() in EXTENSIONS
    return False


def _audio(name: str, args: argparse.Namespace) -> str:
    from speechkit.audio.files import info

    found = info(name)
    if found.warning:
        print(f"speechkit: warning: {name}: {found.warning}", file=sys.stderr)
    if args.json:
        return json.dumps({"input": name, **_values(found)}, ensure_ascii=False)
    rate = Path(name).stat().st_size * 8 / 1000 / found.duration_s
    columns = [name, f"{found.format} {found.subtype}", f"{found.sample_rate} Hz", f"{found.channels} ch"]
    columns += [f"{found.duration_s:.3f} s", f"{found.num_samples} samples", f"{rate:.0f} kbit/s"]
    return "\t".join(columns)


def _values(found: AudioInfo) -> dict[str, Any]:
    names = ("format", "subtype", "sample_rate", "channels", "num_samples", "duration_s", "warning")
    return {name: getattr(found, name) for name in names}


def _model(name: str, args: argparse.Namespace) -> str:
    from speechkit.pipelines.inspect import inspect_model

    if Path(name).is_dir() and not (Path(name) / "config.json").exists():
        raise InputError(f"{name}: a folder without config.json, so no model", code="model.missing")
    found = inspect_model(name, offline=args.offline, vocab=args.vocab)
    return (
        json.dumps(asdict(found), ensure_ascii=False)
        if args.json
        else (name + "\t") * (len(args.names) > 1) + _columns(found)
    )


def _columns(found: ModelInfo) -> str:
    head = {"none": "", "ctc": " with CTC head", "units": " in pre-training"}[found.head]
    columns = [f"kind {found.kind}{head} ({found.form})", f"parameters {_scaled(found.parameters)}"]
    columns += [f"layers {found.layers}", f"width {found.width}"]
    columns += [f"symbols {found.vocabulary}"] if found.vocabulary else []
    columns += [f"needs {_scaled(found.needs_bytes * 1.2)}B (float32)"]
    columns += [f"licence {found.licence}"] if found.licence else []
    columns += [f"pickle globals: {', '.join(found.pickle_globals) or 'none'}"]
    return "\t".join(columns)


def _scaled(number: float) -> str:
    scale, unit = next(((s, u) for s, u in ((1e9, "G"), (1e6, "M")) if number >= s), (1e3, "k"))
    return f"{number / scale:.1f} {unit}"
