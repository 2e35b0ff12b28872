"""`speechkit models`: the published models, and the cache of Hugging Face's hub that they are kept in."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from speechkit.cli.model import add_offline_argument
from speechkit.cli.outputs import print_text
from speechkit.models import PUBLISHED, hub_id

_COLUMNS = ("name", "kind", "repo@revision", "size", "languages", "rate", "cached", "licence")

Handler = Callable[[argparse.Namespace], int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listed = commands.add_parser("list", help="the published models that have a name here")
    listed.set_defaults(handler=_list)
    show = _command(commands, "show", "all that is known of a model", _show)
    for command in (listed, show):
        command.add_argument("--json", action="store_true", help="one object a line")
    pull = _command(commands, "pull", "download a model into the cache, and print its folder", _pull)
    add_offline_argument(pull)
    _command(commands, "path", "print the folder of a model in the cache", _path)
    _command(commands, "rm", "remove a model from the cache", _remove)


def run(args: argparse.Namespace) -> int:
    """Run the chosen subcommand."""
    handler: Handler = args.handler
    return handler(args)


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, what: str, handler: Handler
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=what, description=what)
    parser.add_argument("name", metavar="NAME", help="a name of the list, or hf:owner/name[@revision]")
    parser.set_defaults(handler=handler)
    return parser


def _list(args: argparse.Namespace) -> int:
    rows = [_described(name) for name in PUBLISHED]
    if args.json:
        print_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    else:
        print_text(_table([_COLUMNS, *(_row(row) for row in rows)]))
    return 0


def _show(args: argparse.Namespace) -> int:
    row = _described(args.name)
    if args.json:
        print_text(json.dumps(row, ensure_ascii=False) + "\n")
        return 0
    shown = {
        "name": row["name"],
        "kind": row["kind"],
        "repo": f"{row['repo']}@{row['revision']}",
        "page": f"https://huggingface.co/{row['repo']}",
        "size": _size(row["size_bytes"]),
        "languages": " ".join(row["languages"]),
        "rate": f"{row['sample_rate']} Hz" if row["sample_rate"] else "",
        "licence": row["licence"],
        "cached": row["folder"] or "no",
    }
    print_text(_table([(key, value) for key, value in shown.items() if value]))
    return 0


def _pull(args: argparse.Namespace) -> int:
    from huggingface_hub.utils.tqdm import disable_progress_bars

    from speechkit.checkpoints.hub import fetch

    if args.verbosity < 0:
        disable_progress_bars()
    print_text(f"{fetch(hub_id(args.name), offline=args.offline)}\n")
    return 0


def _path(args: argparse.Namespace) -> int:
    from speechkit.checkpoints.hub import cached, not_cached

    wanted = hub_id(args.name)
    folder = cached(wanted)
    if folder is None:
        raise not_cached(wanted)
    print_text(f"{folder}\n")
    return 0


def _remove(args: argparse.Namespace) -> int:
    from speechkit.checkpoints.hub import remove

    wanted = hub_id(args.name)
    print_text(f"{wanted}: removed, {_size(remove(wanted))} freed\n")
    return 0


def _described(name: str) -> dict[str, Any]:
    """What is known of a model; of one without an entry here only where it is."""
    from speechkit.checkpoints.hub import cached

    wanted = hub_id(name)
    folder = cached(wanted)
    known = next((p for p in PUBLISHED.values() if p.repo == wanted.repo), None)
    size = known.size_bytes if known and known.revision == wanted.revision else None
    return {
        "name": name,
        "kind": known.kind if known else "",
        "repo": wanted.repo,
        "revision": wanted.revision,
        "size_bytes": _bytes(folder) if folder else size,
        "licence": known.licence if known else "",
        "languages": list(known.languages) if known else [],
        "sample_rate": known.sample_rate if known else None,
        "cached": folder is not None,
        "folder": str(folder) if folder else "",
    }


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    place = f"{row['repo']}@{row['revision']}"
    size, languages = _size(row["size_bytes"]) or "-", " ".join(row["languages"])
    cached = "yes" if row["cached"] else "no"
    return (row["name"], row["kind"], place, size, languages, f"{row['sample_rate']} Hz", cached, row["licence"])


def _size(num_bytes: int | None) -> str:
    if num_bytes is None:
        return ""
    scale, unit = next(((s, u) for s, u in ((1e9, "GB"), (1e6, "MB")) if num_bytes >= s), (1e3, "kB"))
    return f"{num_bytes / scale:.1f} {unit}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; the last one as it comes."""
    *widths, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    widths.append(0)
    return "".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + "\n" for row in rows)
