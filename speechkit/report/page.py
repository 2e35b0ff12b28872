"""report.html: one file with the scores of a run, its curves, its worst utterances, its data and its settings."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speechkit.metrics.units import entropy
from speechkit.report.charts import curves, frequencies, histogram
from speechkit.report.decoded import Decoded, decoded
from speechkit.report.elements import folded, section, side_by_side, table
from speechkit.report.results import NAMES, Entry, Row, comparisons, percent, score_cells
from speechkit.report.style import CSS

# values of metrics.jsonl that are told in the table of rates; the others are drawn
_RATES = {
    "audio_seconds_per_second": "audio seconds per second",
    "wait_share": "share of time waiting for data",
    "padding_share": "share of padding",
    "memory_mib": "memory, MiB",
    "audio_hours": "hours of audio seen",
    "skipped": "steps skipped",
    "epoch": "epochs",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """A training.

    Attributes:
        name: of its stage.
        rows: of its metrics.jsonl: `kind` train or valid, `step`, and named values.
    """

    name: str
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """A set of utterances.

    Attributes:
        name: its name.
        durations_s: of its utterances.
        num_speakers: in it.
    """

    name: str
    durations_s: Sequence[float]
    num_speakers: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Units:
    """Hidden units.

    Attributes:
        name: theirs.
        counts: how often each occurs, int64 `(K,)`.
    """

    name: str
    counts: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """What a report tells.

    Attributes:
        title: the recipe and the corpus.
        entry: scores, environment, model and commands.
        trainings: in their order.
        decoded: what is known of the utterances of decoded sets, by the name of the set.
        units: in their order.
        sets: of data.
        dropped: utterances that were left out: id, why, and of which list.
        config: the resolved settings, nested.
        defaults: the same at their defaults.
    """

    title: str
    entry: Entry
    trainings: Sequence[Training] = ()
    decoded: Mapping[str, Decoded] = field(default_factory=dict)
    units: Sequence[Units] = ()
    sets: Sequence[DataSet] = ()
    dropped: Sequence[Sequence[str]] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)


def read_training(name: str, path: Path) -> Training:
    """A training from its metrics.jsonl."""
    return Training(name=name, rows=[json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])


def html(page: Page) -> str:
    """The page; it needs no other file and no network."""
    entry = page.entry
    body = [
        f"<header><h1>{escape(page.title)}</h1><p>{escape(entry.tag)} · {escape(entry.date)}</p></header>",
        section("Scores", _cards(entry.rows), _scores(entry.rows)),
        *(section(f"Training: {training.name}", _curves(training), _rates(training)) for training in page.trainings),
        *(
            section(f"Decoded: {row.dataset}", *decoded(row.score, page.decoded.get(row.dataset, Decoded())))
            for row in _by_words(entry)
        ),
        section("Units", *_units(page.units)),
        section("Data", *_data(page.sets, page.dropped)),
        section("Run", _pairs(entry.model), _pairs(entry.environment), _commands(entry.commands)),
        section("Settings", _settings(page.config, page.defaults)),
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(page.title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{CSS}</style></head>\n<body>\n'
        + "\n".join(part for part in body if part)
        + "\n</body></html>\n"
    )


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted names, their values as JSON."""
    found: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = json.dumps(value, ensure_ascii=False)
    return found


def _by_words(entry: Entry) -> list[Row]:
    return [row for row in entry.rows if row.score.unit == "word"]


def _cards(rows: Sequence[Row]) -> str:
    cards = [
        f'<div class="card"><b>{percent(row.score.counts.rate)} %</b> {NAMES[row.score.unit]}<br>'
        f"<small>{escape(row.dataset)}, {percent(row.interval[0])}–{percent(row.interval[1])}</small></div>"
        for row in rows
    ]
    return f'<div class="cards">{"".join(cards)}</div>' if cards else ""


def _scores(rows: Sequence[Row]) -> str:
    head = ["dataset", "", "Snt", "Wrd", "Corr", "Sub", "Del", "Ins", "Err (95 % interval)", "S.Err"]
    cells = ([row.dataset, NAMES[row.score.unit], *score_cells(row.score, row.interval)] for row in rows)
    return table(head, cells) + "".join(f"<p>{escape(line)}</p>" for line in comparisons(rows))


def _curves(training: Training) -> str:
    lines: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in training.rows:
        for name, value in row.items():
            drawn = isinstance(value, int | float) and math.isfinite(value)
            if drawn and name != "step" and name not in _RATES:
                lines.setdefault(name, {}).setdefault(row["kind"], []).append((row["step"], value))
    images = [curves(name.replace("_", " "), kinds) for name, kinds in lines.items()]
    return side_by_side(images)


def _rates(training: Training) -> str:
    rows = [row for row in training.rows if row["kind"] == "train"]
    last = rows[-1] if rows else {}
    cells = [["steps", f"{last['step']:,}"]] if rows else []
    cells += [[text, f"{last[name]:,.4g}"] for name, text in _RATES.items() if name in last]
    return table(["at the end", ""], cells)


def _units(units: Sequence[Units]) -> list[str]:
    rows = []
    for u in units:
        used, perplexity = np.count_nonzero(u.counts), math.exp(entropy(u.counts))
        rows.append([u.name, f"{len(u.counts):,}", f"{used:,}", f"{u.counts.sum():,}", f"{perplexity:.1f}"])
    images = [frequencies(f"{u.name}: share of frames", u.counts / u.counts.sum(), "unit, by rank") for u in units]
    return [table(["", "units", "used", "frames", "perplexity"], rows), side_by_side(images)]


def _data(sets: Sequence[DataSet], dropped: Sequence[Sequence[str]]) -> list[str]:
    rows = []
    for s in sets:
        seconds = sorted(s.durations_s) or [0.0]
        hours, median = sum(seconds) / 3600, seconds[len(seconds) // 2]
        rows.append([s.name, f"{len(s.durations_s):,}", f"{s.num_speakers:,}", f"{hours:.2f}"])
        rows[-1] += [f"{seconds[0]:.2f}", f"{median:.2f}", f"{seconds[-1]:.2f}"]
    head = ["set", "utterances", "speakers", "hours", "shortest, s", "median, s", "longest, s"]
    images = [histogram(s.name, s.durations_s, "seconds") for s in sets if s.durations_s]
    return [
        table(head, rows),
        side_by_side(images),
        folded(f"Left out: {len(dropped):,}", table(["utterance", "why", "list"], dropped)),
    ]


def _pairs(values: Mapping[str, str]) -> str:
    return table(["", ""], values.items())


def _commands(commands: Mapping[str, str]) -> str:
    text = "\n".join(f"# {name}\n{command}" for name, command in commands.items())
    return f"<pre>{escape(text)}</pre>" if text else ""


def _settings(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """All settings; those that are not at their defaults come first and stand out."""
    values, usual = flat(config), flat(defaults)
    changed = {name: value for name, value in values.items() if usual.get(name, value) != value}
    first = table(["changed", "", "default"], ([name, value, usual[name]] for name, value in changed.items()))
    return first + folded(f"All {len(values)} settings", table(["setting", ""], values.items()))
