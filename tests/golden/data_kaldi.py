"""Goldens of Kaldi data directories and archives."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from speechkit.audio.files import Audio
from speechkit.cli import data as data_command
from speechkit.data.kaldi.ark import read_ark, read_scp
from tests.golden.golden import Case

# what Kaldi's script lets pass and what it refuses for reasons that we do not share (specs/recipes.md, section 4)
KALDI_ACCEPTS = {"E106", "E107", "E132", "E133", "E142", "E152"}


def is_datadir_rules(case: Case) -> bool:
    cases = case.config.get("cases")
    return isinstance(cases, list) and all("files" in c and "expect" in c for c in cases)


def check_datadir_rules(case: Case) -> None:
    for rules in case.config["cases"]:
        assert set(rules) == {"name", "options", "files", "expect", "kaldi_exit_status"}, rules["name"]
        status, found = validate(rules["files"], rules["options"])
        keys = ("file", "line", "code")
        stored = sorted([e[k] for k in keys] for e in rules["expect"])
        case.equal(rules["name"], [[p[k] for k in keys] for p in found], stored)
        by_place = {tuple(p[k] for k in keys): f"{p['message']}; {p['hint']}" for p in found}
        for entry in rules["expect"]:
            message = by_place[tuple(entry[k] for k in keys)]
            assert message.startswith(entry["message"]), f"{rules['name']}: {message!r} against {entry['message']!r}"
        errors = {e["code"] for e in rules["expect"] if e["code"].startswith("E")}
        case.equal(f"{rules['name']}: exit status", status, int(bool(errors)))
        case.equal(f"{rules['name']}: Kaldi's exit status", kaldi_status(rules, errors), rules["kaldi_exit_status"])


def kaldi_status(rules: dict[str, Any], errors: set[str]) -> int:
    """What Kaldi's script makes of a case: as we do, but for the differences that are meant."""
    if "--no-spk-sort" in rules["options"] or " -1\n" in rules["files"].get("segments", ""):
        return 1
    return int(bool(errors - KALDI_ACCEPTS))


def validate(files: dict[str, str], options: list[str]) -> tuple[int, list[dict[str, Any]]]:
    """What the command says of a folder with these files."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content.encode("utf-8"))
        parser = argparse.ArgumentParser()
        data_command.add_arguments(parser)
        args = parser.parse_args(["validate", folder, "--json", "--no-feats", *options])
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(io.StringIO()):
            status = data_command.run(args)
    return status, [json.loads(line) for line in output.getvalue().splitlines()]


def is_kaldi_ark(case: Case) -> bool:
    return "files" in case.config and any(str(name).endswith(".ark") for name in case.config["files"])


def check_kaldi_ark(case: Case) -> None:
    tolerances = tolerances_by_name(case.json["tolerance"])
    for name in case.config["files"]:
        path = case.folder / name
        if name.endswith(".scp"):
            found = dict(read_scp(path, root=case.folder))
            for key, value in found.items():
                limits = next((t for prefix, t in tolerances if path.stem.startswith(prefix)), (0.0, 0.0))
                atol, rtol = limits
                case.expect(f"{path.stem}/{key}", array(value), atol=atol, rtol=rtol)
                if isinstance(value, Audio):
                    case.equal(f"{path.stem}/{key}: rate", value.sample_rate, case.config["wav_rates"][key])
        elif name.endswith(".ark"):
            listed = read_scp(path.with_suffix(".scp"), root=case.folder)
            for (key, value), (listed_key, listed_value) in zip(read_ark(path), listed, strict=True):
                assert key == listed_key, f"{name}: {key} in the archive, {listed_key} in its scp"
                case.equal(f"{name}: {key}, read in order", array(value), array(listed_value))


def array(value: Any) -> np.ndarray:
    """The array of an object; 16-bit samples for audio."""
    return np.rint(value.samples[0] * 32768).astype(np.int16) if isinstance(value, Audio) else value


def tolerances_by_name(stored: dict[str, Any]) -> list[tuple[str, tuple[float, float]]]:
    """Pairs of (beginning of a name, (atol, rtol)) from `{"fm,dm": 0, "cm*": {"atol": …}}`."""
    pairs = []
    for names, value in stored.items():
        limits = (value["atol"], value["rtol"]) if isinstance(value, dict) else (float(value), 0.0)
        pairs += [(name.rstrip("*"), limits) for name in names.split(",")]
    return pairs


CHECKS = [(is_datadir_rules, check_datadir_rules), (is_kaldi_ark, check_kaldi_ark)]
