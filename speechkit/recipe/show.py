"""Plans as people and programs read them: the text of --list, --explain and --dry-run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from speechkit.config import plain
from speechkit.recipe import settings
from speechkit.recipe.attempt import duration
from speechkit.recipe.digests import Digests
from speechkit.recipe.places import Places
from speechkit.recipe.planning import Planned

_HEADER = ("#", "stage", "group", "state", "why", "last run", "took")
_WIDTHS = (2, 16, 8, 8, 36, 19, 8)


def table(planned: Sequence[Planned]) -> str:
    """The stages in columns, each as wide as its longest entry."""
    rows = [_HEADER, *(_row(p) for p in planned)]
    widths = [max(w, *(len(row[i]) for row in rows)) for i, w in enumerate(_WIDTHS)]
    return "\n".join(_columns(row, widths) for row in rows)


def json_lines(planned: Sequence[Planned]) -> str:
    """The same, one JSON object a stage."""
    return "\n".join(json.dumps(_object(p), ensure_ascii=False) for p in planned)


def explanation(this: Planned, places: Places) -> str:
    """Why a stage has its state: every change since the recorded run."""
    record = this.record
    lines = [f"{this.stage}: {this.state}{f', {this.why}' if this.why else ''}"]
    if record is not None:
        lines.append(f"  last run {record.started}: {record.status}, with {record.command or 'no command recorded'}")
    lines += [f"  {line}" for line in this.changes]
    for name, given in this.inputs.items():
        before = record.parts.get("inputs", {}).get(name) if record else None
        now = this.parts["inputs"][name] if this.parts else None
        change = f"{_short(before)} -> {_short(now)}" if record and before != now else _short(now)
        lines.append(f"  input {name}: {places.shown(given.path) or '(not given)'} {change}")
    if this.code_changed:
        lines.append("  its code changed, which alone does not make it stale: raise its version or use --force-stage")
    if this.needs_force:
        lines.append(f"  it runs only with --force-stage {this.stage.number}, or under another --tag")
    return "\n".join(lines)


def dry_run(planned: Sequence[Planned], places: Places, digests: Digests, nj: int) -> str:
    """What would run and why, with inputs, outputs and settings."""
    lines = []
    for this in planned:
        if not this.selected:
            continue
        number, name = this.stage.number, this.stage.name
        if not this.runs:
            when = f"done {this.record.started[:16]}" if this.state == "done" and this.record else this.why
            lines.append(f"would skip {number} {name}  ({when})")
            continue
        lines.append(f"would run {number} {name}  ({this.state}: {this.why})")
        if this.needs_force:
            lines.append(f"  but it asks for --force-stage {number}, or for another --tag")
        for given in this.inputs.values():
            digest = digests.digest(places.path(given.path), given.digest) if given.path else None
            size = _size(places, given.path) if digest else ""
            lines.append(f"  in   {places.shown(given.path) or '(not given)'}   {_short(digest)}{size}")
        lines += [f"  out  {places.shown(output)}{_files(places, output)}" for output in this.outputs.values()]
        values = settings.flatten(plain(this.settings), this.names)
        words = [f"{k}={v}" if k else str(v) for k, v in values.items()]
        lines.append(f"  set  {' '.join([*words, f'nj={nj}'])}")
    return "\n".join(lines)


def _row(this: Planned) -> tuple[str, ...]:
    record = this.record
    last = record.started[:16] if record else ""
    took = duration(record.seconds) if record and record.status in ("done", "partial") else ""
    return (str(this.stage.number), this.stage.name, this.stage.group, this.state, this.why, last, took)


def _columns(row: Sequence[str], widths: Sequence[int]) -> str:
    first = row[0].rjust(widths[0])
    return "  ".join([first, *(text.ljust(w) for text, w in zip(row[1:], widths[1:], strict=True))]).rstrip()


def _object(this: Planned) -> dict[str, Any]:
    record = this.record
    return {
        "number": this.stage.number,
        "name": this.stage.name,
        "group": this.stage.group,
        "state": this.state,
        "why": this.why,
        "changes": list(this.changes),
        "selected": this.selected,
        "last_run": record.started if record else None,
        "seconds": record.seconds if record else None,
    }


def _short(digest: str | None) -> str:
    return f"sha256:{digest[:4]}…" if digest else "(missing)"


def _size(places: Places, name: str) -> str:
    path = places.path(name)
    if path.is_dir():
        return f"  {sum(1 for p in path.rglob('*') if p.is_file()):,} files"
    content = path.read_bytes() if path.stat().st_size < 1 << 26 else b"\0"
    lines = content.count(b"\n")
    return f"  {path.stat().st_size:,} bytes" if b"\0" in content else f"  {lines:,} lines"


def _files(places: Places, name: str) -> str:
    path = places.path(name)
    return f"/    ({sum(1 for p in path.rglob('*') if p.is_file()):,} files)" if path.is_dir() else ""
