"""References and hypotheses from files, utterance by utterance: plain text, Kaldi's text, trn, stm, ctm, jsonl."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path, PurePath

import numpy as np

from speechkit.errors import InputError
from speechkit.metrics.wer import align_words, count
from speechkit.pipelines.scoring_files import IGNORED, Key, parse_ctm, parse_stm
from speechkit.pipelines.transcript import Segment, Word

Texts = dict[str, str]

_TRN = re.compile(r"(?P<text>.*?)\s*\((?P<id>[^()\s]+)\)\s*")
_CHOICE = re.compile(r"\{ (?P<choices>[^{}]*) \}|\((?P<optional>[^()\s]+)\)")


def read_texts(ref: str | Path, hyp: str | Path) -> tuple[Texts, Texts]:
    """The texts of two files by the same ids; the forms go by the endings.

    Lines of two `.txt` files belong together by number, or by id when both begin with the same ids. Of a reference in
    stm the segments are the utterances, and the words of a ctm fall to the segments by time; otherwise stm and ctm are
    compared file by file.

    Raises:
        InputError: a file cannot be read or is not of its form.
    """
    ref, hyp = Path(ref), Path(hyp)
    if ref.suffix in (".stm", ".ctm") and hyp.suffix in (".stm", ".ctm"):
        return _timed(ref, hyp)
    if ref.suffix == hyp.suffix == ".txt":
        refs, hyps = _lines(ref), _lines(hyp)
        if _have_ids(refs, hyps):
            return _kaldi(ref), _kaldi(hyp)
        if len(refs) != len(hyps):
            raise InputError(
                f"{ref} has {len(refs)} lines and {hyp} has {len(hyps)}",
                hint="one utterance a line in both, or ids at the beginning of each line",
                code="score.lines",
            )
        return {f"{i:06d}": t for i, t in enumerate(refs, 1)}, {f"{i:06d}": t for i, t in enumerate(hyps, 1)}
    return _by_id(ref), _by_id(hyp)


def _by_id(path: Path) -> Texts:
    match path.suffix:
        case ".jsonl":
            return _jsonl(path)
        case ".trn":
            return _trn(path)
        case ".stm":
            return {_name(key): _joined(parts) for key, parts in parse_stm(_read(path), str(path)).items()}
        case ".ctm":
            return {_name(key): _joined(words) for key, words in parse_ctm(_read(path), str(path)).items()}
    return _kaldi(path)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text (byte {error.start})", code="score.read") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}", code="score.read") from error


def _lines(path: Path) -> list[str]:
    text = _read(path)
    return text.removesuffix("\n").split("\n") if text else []


def _have_ids(refs: Iterable[str], hyps: Iterable[str]) -> bool:
    """Whether both files begin their lines with the same ids: with digits, and none of them a number."""
    first, second = ({line.partition(" ")[0] for line in lines} for lines in (refs, hyps))
    return first == second and all(re.search(r"\d", i) and re.search(r"[^\d.,:]", i) for i in first)


def _kaldi(path: Path) -> Texts:
    texts: Texts = {}
    for number, line in enumerate(_lines(path), 1):
        if line.strip():
            id, _, text = line.strip().partition(" ")
            _add(texts, id, text, path, number)
    return texts


def _trn(path: Path) -> Texts:
    texts: Texts = {}
    for number, line in enumerate(_lines(path), 1):
        if not line.strip() or line.startswith(";;"):
            continue
        match = _TRN.fullmatch(line)
        if not match:
            raise InputError(f"{path}:{number}: expected 'words (id)', found {line!r}", code="format.parse")
        text = match["text"].replace("\\(", "(").replace("\\)", ")")
        _add(texts, match["id"], text, path, number)
    return texts


def _jsonl(path: Path) -> Texts:
    texts: Texts = {}
    for number, line in enumerate(_lines(path), 1):
        try:
            value = json.loads(line)
            if value.get("ok", True):
                id, text = value.get("id") or PurePath(value["input"]).stem, value["text"]
                if not isinstance(id, str) or not isinstance(text, str):
                    raise TypeError
                _add(texts, id, text, path, number)
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise InputError(
                f"{path}:{number}: expected an object with input (or id) and text", code="format.parse"
            ) from error
    return texts


def _add(texts: Texts, id: str, text: str, path: Path, number: int) -> None:
    if id in texts:
        raise InputError(f"{path}:{number}: {id} appears twice", code="score.ids")
    texts[id] = text


def _timed(ref: Path, hyp: Path) -> tuple[Texts, Texts]:
    if ref.suffix == ".ctm" or hyp.suffix == ".stm":
        refs, hyps = _by_id(ref), _by_id(hyp)
        return {i: best_variant(text, hyps.get(i, "")) for i, text in refs.items()}, hyps
    segments, words = parse_stm(_read(ref), str(ref)), parse_ctm(_read(hyp), str(hyp))
    unknown = next((key for key in words if key not in segments), None)
    if unknown:
        raise InputError(f"{hyp}: {' '.join(unknown)} is not in {ref}", code="score.ids")
    refs, hyps = {}, {}
    for key, parts in segments.items():
        for segment, said in _by_segment(parts, words.get(key, ())):
            id = f"{_name(key)}-{segment.start:010.3f}-{segment.end:010.3f}"
            hyps[id] = _joined(said)
            refs[id] = best_variant(segment.text, hyps[id])
    return refs, hyps


def _by_segment(segments: list[Segment], words: Iterable[Word]) -> list[tuple[Segment, list[Word]]]:
    """The words of each scored segment: those whose middle lies in it, and those of gaps that are nearest to it."""
    said: list[list[Word]] = [[] for _ in segments]
    starts, ends = np.array([s.start for s in segments]), np.array([s.end for s in segments])
    for word in words:
        middle = (word.start + word.end) / 2
        said[np.maximum(starts - middle, middle - ends).clip(min=0).argmin()].append(word)
    return [(s, ws) for s, ws in zip(segments, said, strict=True) if s.text.upper() != IGNORED]


def best_variant(ref: str, hyp: str) -> str:
    """The reference with each `{ a / b / @ }` and each optional `(word)` decided in the hypothesis' favor, in turn."""
    while match := _CHOICE.search(ref):
        choices = match["choices"].split("/") if match["choices"] is not None else [match["optional"], ""]
        texts = ["" if choice.strip() == "@" else choice.strip() for choice in choices]
        variants = [f"{ref[: match.start()]}{text}{ref[match.end() :]}" for text in texts]
        ref = min(variants, key=lambda v: count(align_words(_first_variant(v).split(), hyp.split())).errors)
    return " ".join(ref.split())


def _first_variant(ref: str) -> str:
    return _CHOICE.sub(lambda m: (m["choices"] or m["optional"]).split("/")[0].strip().replace("@", ""), ref)


def _name(key: Key) -> str:
    return "-".join(key)


def _joined(parts: Iterable[Word | Segment]) -> str:
    return " ".join(part.text.strip() for part in parts if getattr(part, "text", "").upper() != IGNORED)
