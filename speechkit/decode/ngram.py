"""CTC beam search over the words of a lexicon with an n-gram language model, by flashlight-text (extra `lm`).

F frames, V vocabulary.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechkit.config import check_ranges
from speechkit.decode import arpa
from speechkit.decode.ctc import BestPath, Floats
from speechkit.decode.vocabulary import Vocabulary
from speechkit.errors import InputError, MissingDependency, ModelError

log = logging.getLogger(__name__)

BEAM_SIZE = 500

_BLOCK = 1000  # frames; what lies further back is settled, so that an hour needs no gigabytes
_MOST_TOKENS = 100  # of a frame that are tried, the most probable ones; fairseq's number
_MOST_PIECES = 12  # of a word: its ways through frames double with each
_IMPOSSIBLE = -1e6
_KENLM_BINARY = b"mmap lm http://kheafield.com/code"

Spelling = tuple[str, tuple[int, ...]]  # a word, and the rows that spell it


@dataclass(frozen=True, kw_only=True, slots=True)
class NgramSettings:
    """What the search maximizes: log P(path) + `lm_weight` log10 P(words) + `word_score` for each word.

    The defaults are those that wav2vec 2.0, HuBERT and WavLM were decoded with before tuning.

    Attributes:
        beam_size: hypotheses that survive a frame.
        beam_threshold: one that is so much worse than the best is dropped.
        lm_weight: of the language model; KenLM counts in base-10 logarithms.
        word_score: added for every word.
        silence_score: added for every frame between words: of the delimiter, or of the blank where there is none.
    """

    beam_size: int = BEAM_SIZE
    beam_threshold: float = 100.0
    lm_weight: float = 2.0
    word_score: float = -1.0
    silence_score: float = 0.0

    def __post_init__(self) -> None:
        check_ranges(self, beam_size=(1, math.inf), beam_threshold=(0, math.inf), lm_weight=(0, math.inf))


class NgramSearch:
    """Finds the words of a lexicon that a recording says, judged by network and language model.

    A word that the model does not list has the probability of `<unk>`; a word that the vocabulary cannot spell, or only
    with more than 12 pieces, is left out.

    Args:
        vocabulary: of the network; characters need a word delimiter.
        lm: ARPA file (gzip too) or KenLM's binary form of one, of at least two words.
        lexicon: see `read_lexicon`; None takes the words of the ARPA file and spells them with the vocabulary, with the
            fewest pieces, which need not be those that the network was trained on.
        settings: see there.

    Raises:
        InputError: a file is missing or damaged, or no word of it can be spelled.
        MissingDependency: flashlight-text is not installed.
        ModelError: the vocabulary does not tell words apart.
    """

    def __init__(
        self, vocabulary: Vocabulary, lm: Path, lexicon: Path | None = None, settings: NgramSettings | None = None
    ) -> None:
        decoder, kenlm, dictionary = flashlight()
        settings = settings or NgramSettings()
        if vocabulary.pieces == "characters" and not vocabulary.separator:
            raise ModelError(
                "a language model of words needs a vocabulary with a word delimiter, this one has none",
                code="lm.vocabulary",
            )
        self._blank = vocabulary.blank
        self._delimiter = vocabulary.separator[0] if vocabulary.separator else None
        spellings = list(read_lexicon(lexicon, vocabulary) if lexicon else _spelled(_listed(lm), vocabulary, lm))
        if self._delimiter is None:
            long = [word for word, rows in spellings if len(rows) > _MOST_PIECES]
            _tell_left_out(lexicon or lm, long, f"have more than {_MOST_PIECES} pieces")
            spellings = [(word, rows) for word, rows in spellings if len(rows) <= _MOST_PIECES]
        words = dictionary.Dictionary()
        for word in dict.fromkeys((arpa.UNKNOWN, *(word for word, _ in spellings))):
            words.add_entry(word)
        model = _load(kenlm.KenLM, lm, words)
        if not spellings:
            raise InputError(f"{lexicon or lm}: no word of it can be spelled with the model's symbols", code="lm.words")
        self._columns = len(vocabulary) + (self._delimiter is None)
        trie = decoder.Trie(self._columns, self._silence)
        start = model.start(False)
        for word, rows in spellings:
            index = words.get_index(word)
            score = model.score(start, index)[1]
            for path in self._paths(rows):
                trie.insert(path, index, score)
        trie.smear(decoder.SmearingMode.MAX)
        options = decoder.LexiconDecoderOptions(
            beam_size=settings.beam_size,
            beam_size_token=min(_MOST_TOKENS, self._columns),
            beam_threshold=settings.beam_threshold,
            lm_weight=settings.lm_weight,
            word_score=settings.word_score,
            unk_score=-math.inf,
            sil_score=settings.silence_score,
            log_add=False,
            criterion_type=decoder.CriterionType.CTC,
        )
        no_blank = self._blank if self._delimiter is not None else len(vocabulary)
        unknown = words.get_index(arpa.UNKNOWN)
        self._decoder = decoder.LexiconDecoder(options, trie, model, self._silence, no_blank, unknown, [], False)

    @property
    def _silence(self) -> int:
        return self._blank if self._delimiter is None else self._delimiter

    def _paths(self, rows: Sequence[int]) -> Iterator[list[int]]:
        """The ways in which the library may go through frames that say a word.

        It expects words to end with the delimiter: only there may the last symbol last for several frames. Where there
        is no delimiter, the last symbol is given twice for that, and blanks are given as symbols between others, for
        the library's own blank would come between the two as well.
        """
        if self._delimiter is not None:
            yield [*rows, self._delimiter]
            return
        between = [([self._blank],) if a == b else ([], [self._blank]) for a, b in itertools.pairwise(rows)]
        for gaps in itertools.product(*between):
            path = [rows[0]]
            for gap, row in zip(gaps, rows[1:], strict=True):
                path += [*gap, row]
            yield path
            yield [*path, path[-1]]

    def best_path(self, log_probs: Floats) -> BestPath:
        """The symbols of each frame of the best words.

        Args:
            log_probs: float32 `(F, V)` of one recording.
        """
        frames = len(log_probs)
        emissions = np.full((frames + 1, self._columns), _IMPOSSIBLE, dtype=np.float32)
        emissions[:frames, : log_probs.shape[1]] = np.maximum(log_probs, _IMPOSSIBLE)
        emissions[frames, self._silence] = 0.0  # the end of the recording ends a word
        ids = np.array(self._search(emissions)[:frames], dtype=np.int64)
        return BestPath(ids=ids, log_probs=log_probs[np.arange(frames), ids])

    def _search(self, emissions: Floats) -> list[int]:
        """A column for each frame."""
        search = self._decoder
        search.decode_begin()
        settled: list[int] = []
        for start in range(0, len(emissions), _BLOCK):
            block = emissions[start : start + _BLOCK]
            search.decode_step(block.ctypes.data, *block.shape)
            settled += search.get_best_hypothesis(_BLOCK).tokens[1:]  # the first is the last of those before
            search.prune(_BLOCK)
        search.decode_end()
        return [*settled, *search.get_all_final_hypothesis()[0].tokens[1:-1]]


def read_lexicon(path: Path, vocabulary: Vocabulary) -> Iterator[Spelling]:
    """Read words, one a line, each with the symbols that spell it or alone; a word may have several lines.

    This is flashlight's and fairseq's form, `HELLO<TAB>H E L L O |`; the delimiter at the end may be left out. What is
    written of a word in the end is its spelling.

    Raises:
        InputError: the file is missing or no text, or a line holds a symbol that the vocabulary does not have.
    """
    rows = {symbol: row for row, symbol in enumerate(vocabulary.symbols) if row != vocabulary.blank}
    delimiter = vocabulary.separator
    alone: list[str] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or "").lower() if isinstance(error, OSError) else "no UTF-8 text"
        raise InputError(f"{path}: {reason}", code="lm.lexicon") from error
    for number, line in enumerate(lines, 1):
        word, *symbols = line.split() or [""]
        unknown = next((symbol for symbol in symbols if symbol not in rows), None)
        if unknown is not None:
            raise InputError(
                f"{path}:{number}: {word!r} is spelled with {unknown!r}, which is none of the model's symbols",
                hint="lines with a word alone are spelled with the model's own symbols",
                code="lm.lexicon",
            )
        spelling = [rows[symbol] for symbol in symbols]
        if delimiter and spelling[-1:] == delimiter:
            spelling.pop()
        if spelling:
            yield word, tuple(spelling)
        elif word:
            alone.append(word)
    yield from _spelled(alone, vocabulary, path)


def write_lexicon(path: Path, spellings: Iterable[Spelling], vocabulary: Vocabulary) -> None:
    """Write what `read_lexicon` and flashlight read."""
    from speechkit.files import write_text

    lines = (
        f"{word}\t{' '.join(vocabulary.symbols[row] for row in (*rows, *vocabulary.separator))}\n"
        for word, rows in spellings
    )
    write_text(path, "".join(lines))


def _listed(lm: Path) -> Iterator[str]:
    with arpa.opened(lm) as file:
        binary = file.read(len(_KENLM_BINARY)) == _KENLM_BINARY
    if binary:
        raise InputError(
            f"{lm}: KenLM's binary form does not list its words",
            hint="--lexicon FILE with a word a line",
            code="lm.words",
        )
    return arpa.read_words(lm)


def _spelled(words: Iterable[str], vocabulary: Vocabulary, source: Path) -> Iterator[Spelling]:
    """Words with their spellings, those left out that have none."""
    left_out = []
    for word in words:
        try:
            yield word, tuple(vocabulary.spell(word))
        except InputError:
            left_out.append(word)
    _tell_left_out(source, left_out, "have no spelling in the model's symbols")


def _tell_left_out(source: Path, words: Sequence[str], why: str) -> None:
    if words:
        log.warning("%s: %d words are left out, they %s: %s", source, len(words), why, ", ".join(words[:5]))


def flashlight() -> tuple[Any, Any, Any]:
    """Import flashlight-text's modules decoder, kenlm and dictionary.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        from flashlight.lib.text import decoder, dictionary
        from flashlight.lib.text.decoder import kenlm
    except ImportError as error:
        raise MissingDependency(
            "a language model needs flashlight-text, which is not installed",
            hint="pip install 'speechkit-torch[lm]' (in a clone: pip install '.[lm]')",
            code="dependency.flashlight",
        ) from error
    return decoder, kenlm, dictionary


def _load(kenlm: Any, lm: Path, words: Any) -> Any:
    """Read a model with KenLM, whose complaints tell bytes, not lines, and whose progress bar nobody asked for."""
    try:
        with _silent_stderr():
            return kenlm(str(lm), words)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        said = re.fullmatch(r"(.*?)(?:\.  .*)?( at byte \d+)?\.? Byte: (\d+)", reason)
        byte = int(said[3]) - (not said[2]) if said else 0  # of the header it tells where the next line begins
        where, what = (f"{lm}:{_line(lm, byte)}", said[1]) if said else (str(lm), reason)
        raise InputError(f"{where}: {what}", hint="is it an ARPA file, and whole?", code="lm.damaged") from error


def _line(path: Path, byte: int) -> int:
    """The number of the line after so many bytes."""
    with arpa.opened(path) as file:
        return file.read(max(byte, 0)).count(b"\n") + 1


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Keep what compiled code writes to file descriptor 2 from the screen."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
