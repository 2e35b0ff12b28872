"""What a report tells of a decoded set: who and what is hard, the worst utterances, the commonest errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

from speechkit.metrics.wer import ErrorCounts, Pair, Score
from speechkit.report.clips import Clip, shown
from speechkit.report.elements import side_by_side, table, titled
from speechkit.report.results import percent

WORST = 20
CONFUSIONS = 20
SPEAKERS = 20
LENGTHS = 5  # groups of as many utterances each


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """What is known of the utterances of a set besides their errors.

    Attributes:
        speakers: by utterance; "" is nobody known.
        seconds: by utterance.
        clips: of some of the worst, by utterance.
    """

    speakers: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    clips: Mapping[str, Clip] = field(default_factory=dict)


def worst(score: Score) -> list[str]:
    """The utterances with the most errors, those of the highest rate first among equals."""
    order = sorted(score.utterances.items(), key=lambda item: (-item[1].errors, item[1].length, item[0]))
    return [id for id, counts in order[:WORST] if counts.errors]


def decoded(score: Score, details: Decoded) -> list[str]:
    """The parts of the section about a set."""
    groups = side_by_side([_speakers(score, details.speakers), _lengths(score, details.seconds)])
    return [groups, _worst(score, details.clips), _confusions(score)]


def by_speaker(score: Score, speakers: Mapping[str, str]) -> list[tuple[str, int, ErrorCounts]]:
    """Speaker, number of utterances and errors, the highest rate first."""
    groups: dict[str, list[str]] = {}
    for id in score.utterances:
        if speaker := speakers.get(id):
            groups.setdefault(speaker, []).append(id)
    rows = [(speaker, len(ids), _sum(score, ids)) for speaker, ids in groups.items()]
    return sorted(rows, key=lambda row: (-row[2].rate, row[0]))


def by_length(score: Score, seconds: Mapping[str, float]) -> list[tuple[str, int, ErrorCounts]]:
    """Range of seconds, number of utterances and errors: groups of equal size, the shortest first."""
    ids = sorted((id for id in score.utterances if id in seconds), key=lambda id: (seconds[id], id))
    edges = [len(ids) * n // LENGTHS for n in range(LENGTHS + 1)]
    groups = [ids[start:end] for start, end in pairwise(edges) if start < end]
    return [(f"{seconds[g[0]]:.2f}–{seconds[g[-1]]:.2f}", len(g), _sum(score, g)) for g in groups]


def _sum(score: Score, ids: Iterable[str]) -> ErrorCounts:
    return sum((score.utterances[id] for id in ids), ErrorCounts())


def _speakers(score: Score, speakers: Mapping[str, str]) -> str:
    rows = by_speaker(score, speakers)
    of = f" (the worst {SPEAKERS} of {len(rows):,})" if len(rows) > SPEAKERS else ""
    return _group(f"By speaker{of}", "speaker", rows[:SPEAKERS])


def _lengths(score: Score, seconds: Mapping[str, float]) -> str:
    return _group("By length", "seconds", by_length(score, seconds))


def _group(title: str, what: str, rows: Sequence[tuple[str, int, ErrorCounts]]) -> str:
    cells = ([name, f"{number:,}", f"{counts.length:,}", percent(counts.rate)] for name, number, counts in rows)
    content = titled(title, table([what, "Snt", "Wrd", "WER, %"], cells))
    return f"<div>{content}</div>" if content else ""


def _worst(score: Score, clips: Mapping[str, Clip]) -> str:
    rows = [_utterance(id, score.utterances[id], score.alignments[id], clips.get(id)) for id in worst(score)]
    if not rows:
        return "<p>No errors.</p>"
    legend = (
        '<p>Reference above, hypothesis below: <span class="pair substituted">substituted</span> '
        '<span class="pair deleted">deleted</span> <span class="pair inserted">inserted</span></p>'
    )
    head = "<tr><th>utterance</th><th>errors</th><th>alignment</th></tr>"
    return titled("Worst utterances", f"{legend}<table class='worst'>{head}\n{''.join(rows)}</table>")


def _utterance(id: str, counts: ErrorCounts, pairs: Sequence[Pair], clip: Clip | None) -> str:
    wrong = [ref != hyp for ref, hyp in pairs if hyp is not None]
    return (
        f"<tr><td><code>{escape(id)}</code></td><td>{counts.errors} of {counts.length}</td>"
        f'<td class="aligned">{"".join(map(_pair, pairs))}{shown(clip, wrong) if clip else ""}</td></tr>'
    )


def _pair(pair: Pair) -> str:
    ref, hyp = pair
    kind = "inserted" if ref is None else "deleted" if hyp is None else "substituted" if ref != hyp else "correct"
    return f'<span class="pair {kind}"><span>{escape(ref or "·")}</span><span>{escape(hyp or "·")}</span></span>'


def _confusions(score: Score) -> str:
    common = sorted(score.confusions().items(), key=lambda item: (-item[1], item[0][0] or "", item[0][1] or ""))
    rows = ([ref or "·", hyp or "·", str(times)] for (ref, hyp), times in common[:CONFUSIONS])
    return titled("Commonest errors", table(["reference", "hypothesis", "times"], rows))
