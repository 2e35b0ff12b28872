"""CTC search without a language model: greedy, prefix beam, forced alignment, and the times of words.

B batch, F frames, V vocabulary, S target symbols.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from speechkit.decode.vocabulary import Vocabulary
from speechkit.errors import InputError

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]

_NEVER = -1e30  # finite, so that adding to it is no warning


@dataclass(frozen=True, kw_only=True, slots=True)
class BestPath:
    """One symbol a frame, all that greedy decoding keeps of a recording.

    Attributes:
        ids: int64 `(F,)`, the best row of each frame.
        log_probs: float32 `(F,)`, its log-probability.
    """

    ids: Ids
    log_probs: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """A symbol and the frames that say it.

    Attributes:
        token: row of the vocabulary.
        start: first frame.
        end: one past the last frame.
        log_prob: summed over these frames.
    """

    token: int
    start: int
    end: int
    log_prob: float


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameClock:
    """Where frames lie in time.

    A frame stands for `hop_samples` around the center of what it sees, so that frames tile the recording.

    Attributes:
        hop_samples: from one frame to the next.
        field_samples: what one frame sees.
        sample_rate: Hz.
    """

    hop_samples: int
    field_samples: int
    sample_rate: int

    def seconds(self, frame: int) -> float:
        """When the frame begins."""
        return (frame * self.hop_samples + (self.field_samples - self.hop_samples) / 2) / self.sample_rate


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedWord:
    """A word with its frames turned into seconds; the probability is the geometric mean over its frames."""

    text: str
    start: float
    end: float
    probability: float


def best_path(logits: Tensor) -> BestPath:
    """The best symbol of every frame with its log-probability, from float logits `(F, V)` of one recording."""
    best, ids = logits.float().log_softmax(-1).max(-1)
    return BestPath(ids=ids.cpu().numpy(), log_probs=best.cpu().numpy())


def greedy(logits: Tensor, lengths: Tensor, *, blank: int) -> list[list[int]]:
    """Decode float `(B, F, V)`: arg max, equal neighbors merged, blanks dropped; ids a row."""
    rows = zip(logits.argmax(-1).cpu().numpy(), lengths.tolist(), strict=True)
    return [collapse(ids[:length], blank) for ids, length in rows]


def collapse(ids: Ids, blank: int) -> list[int]:
    """Merge equal neighbors of `(F,)`, then drop blanks."""
    if not len(ids):
        return []
    first = np.concatenate([[True], ids[1:] != ids[:-1]])
    return ids[first & (ids != blank)].tolist()


def path_spans(path: BestPath, blank: int) -> list[Span]:
    """The runs of equal symbols of a path, without those of blanks."""
    if not len(path.ids):
        return []
    starts = np.concatenate([[0], np.flatnonzero(path.ids[1:] != path.ids[:-1]) + 1])
    ends = np.append(starts[1:], len(path.ids))
    sums = np.add.reduceat(path.log_probs.astype(np.float64), starts)
    runs = zip(path.ids[starts].tolist(), starts.tolist(), ends.tolist(), sums.tolist(), strict=True)
    return [Span(token=t, start=s, end=e, log_prob=p) for t, s, e, p in runs if t != blank]


def word_times(
    spans: Sequence[Span], vocabulary: Vocabulary, clock: FrameClock, *, duration_s: float
) -> list[TimedWord]:
    """Group the spans of symbols into words: start of the first, end of the last, never past `duration_s`."""
    words = vocabulary.words([span.token for span in spans])
    return [time_word(text, spans[first:stop], clock, duration_s=duration_s) for text, first, stop in words]


def time_word(text: str, spans: Sequence[Span], clock: FrameClock, *, duration_s: float) -> TimedWord:
    """A word with the times of its symbols."""
    frames = sum(span.end - span.start for span in spans)
    probability = math.exp(sum(span.log_prob for span in spans) / frames)
    start, end = clock.seconds(spans[0].start), clock.seconds(spans[-1].end)
    return TimedWord(
        text=text, start=min(start, duration_s), end=min(end, duration_s), probability=min(probability, 1.0)
    )


def prefix_beam(log_probs: Floats, beam: int, *, blank: int) -> list[tuple[list[int], float]]:
    """Find the most probable symbol sequences, each summed over the paths that the beam kept, best first.

    Args:
        log_probs: float32 `(F, V)`.
        beam: how many prefixes survive a frame.
        blank: row of the blank.

    Returns:
        At most `beam` pairs of ids and log-probability.
    """
    prefixes: list[_Prefix | None] = [None]
    last = np.array([-1])
    ends_blank, ends_symbol = np.zeros(1), np.array([-np.inf])
    for frame in log_probs.astype(np.float64):
        total = np.logaddexp(ends_blank, ends_symbol)
        stay_blank = total + frame[blank]
        stay_symbol = np.where(last >= 0, ends_symbol + frame[last], -np.inf)
        extended = total[:, None] + frame
        rows = np.flatnonzero(last >= 0)
        extended[rows, last[rows]] = ends_blank[rows] + frame[last[rows]]  # a repeat needs a blank between
        extended[:, blank] = -np.inf
        _merge_known(prefixes, stay_symbol, extended)
        scores = np.concatenate([np.logaddexp(stay_blank, stay_symbol), extended.ravel()])
        best = np.argsort(-scores, kind="stable")[:beam]
        best = best[scores[best] > -np.inf]
        stays, parents = best < len(prefixes), (best - len(prefixes)) // len(frame)
        symbols = (best - len(prefixes)) % len(frame)
        parents = np.where(stays, best, parents)
        ends_blank = np.where(stays, stay_blank[parents], -np.inf)
        ends_symbol = np.where(stays, stay_symbol[parents], extended[parents * ~stays, symbols])
        last = np.where(stays, last[parents], symbols)
        steps = zip(stays.tolist(), parents.tolist(), symbols.tolist(), strict=True)
        prefixes = [prefixes[p] if stay else _Prefix.after(prefixes[p], s) for stay, p, s in steps]
    scores = np.logaddexp(ends_blank, ends_symbol)
    return [(_unroll(prefixes[i]), float(scores[i])) for i in np.argsort(-scores, kind="stable")]


class _Prefix(NamedTuple):
    """Symbols so far, as a chain; equal prefixes have equal keys, whichever way the beam came to them."""

    before: _Prefix | None
    symbol: int
    key: int

    @classmethod
    def after(cls, before: _Prefix | None, symbol: int) -> _Prefix:
        return cls(before, symbol, hash((before.key if before else 0, symbol)))


def _merge_known(
    prefixes: Sequence[_Prefix | None], stay_symbol: NDArray[np.float64], extended: NDArray[np.float64]
) -> None:
    """Move the score of an extension that is itself a prefix in the beam over to that prefix."""
    rows = {prefix.key if prefix else 0: row for row, prefix in enumerate(prefixes)}
    for row, prefix in enumerate(prefixes):
        if prefix and (parent := rows.get(prefix.before.key if prefix.before else 0)) is not None:
            stay_symbol[row] = np.logaddexp(stay_symbol[row], extended[parent, prefix.symbol])
            extended[parent, prefix.symbol] = -np.inf


def _unroll(prefix: _Prefix | None) -> list[int]:
    ids = []
    while prefix:
        ids.append(prefix.symbol)
        prefix = prefix.before
    return ids[::-1]


def align(log_probs: Floats, tokens: Sequence[int], *, blank: int) -> list[Span]:
    """Find the most probable frames of given symbols (Viterbi over blanks and symbols).

    Scores are kept for every √F-th frame only and the way back is computed anew block by block, so that an hour needs
    hundreds of megabytes and not tens of gigabytes.

    Args:
        log_probs: float32 `(F, V)`.
        tokens: the symbols, `(S,)`, no blanks.
        blank: row of the blank.

    Returns:
        A span for each token, in order.

    Raises:
        InputError: the frames are fewer than the symbols (and the blanks between equal ones) need.
    """
    if not len(tokens):
        return []
    target = np.asarray(tokens, dtype=np.int64)
    num_frames, needed = len(log_probs), len(target) + int((target[1:] == target[:-1]).sum())
    if num_frames < needed:
        raise InputError(
            f"the text has {len(target)} symbols and needs {needed} frames, the recording has {num_frames}",
            hint="does the text belong to this recording?",
            code="align.short",
        )
    states = np.full(2 * len(target) + 1, blank, dtype=np.int64)
    states[1::2] = target
    trellis = _Trellis(log_probs, states)
    visited, symbols = trellis.best_states(), np.arange(1, len(states), 2)  # the states never fall
    starts, ends = np.searchsorted(visited, symbols, "left"), np.searchsorted(visited, symbols, "right")
    return [
        Span(token=t, start=start, end=end, log_prob=float(log_probs[start:end, t].sum(dtype=np.float64)))
        for t, start, end in zip(target.tolist(), starts.tolist(), ends.tolist(), strict=True)
    ]


class _Trellis:
    """Viterbi over the states blank, symbol, blank, …, symbol, blank `(2S + 1,)`."""

    def __init__(self, log_probs: Floats, states: Ids) -> None:
        self.log_probs = log_probs
        self.states = states
        self.skips = np.zeros(len(states), dtype=bool)  # a symbol may follow another one without the blank between
        self.skips[3::2] = states[3::2] != states[1:-2:2]
        self.block = max(1, math.isqrt(len(log_probs)))

    def best_states(self) -> Ids:
        """The state of each frame, `(F,)`."""
        num_frames = len(self.log_probs)
        scores = np.full(len(self.states), _NEVER)
        scores[:2] = self.log_probs[0, self.states[:2]]
        kept = {}
        for frame in range(1, num_frames):
            if (frame - 1) % self.block == 0:
                kept[frame] = scores
            scores, _ = self._step(scores, frame)
        state = len(scores) - 1 if scores[-1] >= scores[-2] else len(scores) - 2
        visited = np.empty(num_frames, dtype=np.int64)
        for first in sorted(kept, reverse=True):
            moves, scores = [], kept[first]
            for frame in range(first, min(first + self.block, num_frames)):
                scores, move = self._step(scores, frame)
                moves.append(move)
            for offset in range(len(moves) - 1, -1, -1):
                visited[first + offset] = state
                state -= int(moves[offset][state])
        visited[0] = state
        return visited

    def _step(self, scores: NDArray[np.float64], frame: int) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
        move = np.zeros(len(scores), dtype=np.int8)
        best = scores.copy()
        better = scores[:-1] > best[1:]
        best[1:][better], move[1:][better] = scores[:-1][better], 1
        better = (scores[:-2] > best[2:]) & self.skips[2:]
        best[2:][better], move[2:][better] = scores[:-2][better], 2
        return best + self.log_probs[frame, self.states], move
