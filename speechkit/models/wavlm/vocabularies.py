"""The vocabularies of published CTC models: fairseq's dictionaries and transformers' tokenizer files."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from speechkit.checkpoints.weights import read_json
from speechkit.decode.vocabulary import Vocabulary
from speechkit.errors import ModelError

log = logging.getLogger(__name__)

_SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")  # fairseq puts them before every dictionary
_LIBRISPEECH = tuple("|ETAONIHSRDLUMWCFGYPBVK'XJQZ")


def fairseq_vocabulary(symbols: Sequence[str]) -> Vocabulary:
    """The vocabulary of a fairseq dictionary with its special symbols; `<s>` is the blank.

    Raises:
        ModelError: there is no `<s>`.
    """
    if "<s>" not in symbols:
        raise ModelError("a fairseq dictionary without <s>, which is its blank", code="model.vocabulary")
    pieces = any(s.startswith("▁") for s in symbols) and "|" not in symbols
    return Vocabulary(tuple(symbols), symbols.index("<s>"), pieces="sentencepiece" if pieces else "characters")


def guessed_vocabulary(num_rows: int, source: Path) -> Vocabulary:
    """LibriSpeech's letters for a head of 32 rows, with a warning.

    Raises:
        ModelError: any other number of rows.
    """
    if num_rows != len(_SPECIALS) + len(_LIBRISPEECH):
        raise ModelError(
            f"{source}: no dictionary in the file and none beside it for the {num_rows} rows of its CTC head",
            hint="give it: --vocab dict.ltr.txt",
            code="model.vocabulary",
        )
    log.warning("%s has no dictionary: its 32 rows are taken for the LibriSpeech letters", source)
    return fairseq_vocabulary(_SPECIALS + _LIBRISPEECH)


def read_vocabulary(path: Path) -> Vocabulary:
    """Read a vocabulary that a user names: fairseq's `symbol count` lines, or transformers' vocab.json.

    Raises:
        ModelError: missing, or neither.
    """
    if path.suffix == ".json":
        return _from_rows(read_json(path), None, {}, path)
    try:
        vocabulary = _parsed(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: not a readable dictionary: {error}", code="model.vocabulary") from error
    if len(vocabulary) == len(_SPECIALS) or "" in vocabulary.symbols:
        raise ModelError(f"{path}: not a dictionary: lines 'symbol count' are expected", code="model.vocabulary")
    return vocabulary


def _parsed(dictionary: str) -> Vocabulary:
    """The vocabulary of a text of `symbol count` lines."""
    symbols = [line.rpartition(" ")[0] for line in dictionary.splitlines() if line]
    return fairseq_vocabulary([*_SPECIALS, *symbols])


def dictionary_text(vocabulary: Vocabulary) -> str:
    """The `symbol count` lines of fairseq's dictionary, to lie beside a CTC file.

    Its special symbols may have each other's names, as in what transformers' people made of fairseq's models.

    Raises:
        ModelError: the vocabulary does not begin with fairseq's special symbols, or text would not come out the same.
    """
    first, symbols = vocabulary.symbols[: len(_SPECIALS)], vocabulary.symbols[len(_SPECIALS) :]
    if sorted(first) != sorted(_SPECIALS) or vocabulary.blank:
        raise ModelError(
            f"fairseq's vocabularies begin with {' '.join(_SPECIALS)}, the first being the blank; "
            f"this one begins with {' '.join(first)} and its blank is row {vocabulary.blank}",
            hint="the form hf can hold it" if vocabulary.pieces == "characters" else "only our own form holds it",
            code="model.vocabulary",
        )
    text = "".join(f"{s} 1\n" for s in symbols)
    again = _parsed(text)
    _refuse_changed(replace(vocabulary, symbols=_SPECIALS + symbols, lower_case=False), again, "fairseq's dictionary")
    if len(set(again.symbols)) < len(again) or "" in again.symbols:
        raise ModelError("fairseq's dictionary takes no symbol twice and no empty one", code="model.vocabulary")
    if first != _SPECIALS:
        log.warning("fairseq's names for the first symbols are %s, not %s", " ".join(_SPECIALS), " ".join(first))
    if vocabulary.lower_case:
        log.warning("fairseq's dictionary does not keep lower_case: text will come in the case of the symbols")
    return text


def _refuse_changed(vocabulary: Vocabulary, again: Vocabulary, form: str) -> None:
    """See that a form gives back the vocabulary that was written."""
    for name in [f.name for f in fields(Vocabulary)]:
        found, wanted = getattr(again, name), getattr(vocabulary, name)
        if found != wanted and name == "symbols":
            found, wanted = next((pair for pair in zip(found, wanted, strict=False) if pair[0] != pair[1]), ("", ""))
        if found != wanted:
            raise ModelError(
                f"{form} cannot spell this vocabulary: {name} {wanted!r} would become {found!r}",
                code="model.vocabulary",
            )


def folder_vocabulary(folder: Path, num_rows: int, pad_id: Any) -> Vocabulary:
    """The vocabulary of a transformers folder: its pad token is the blank.

    Args:
        folder: with vocab.json and, mostly, tokenizer_config.json and special_tokens_map.json.
        num_rows: of the CTC head; ids beyond have no row and are passed over.
        pad_id: the config's, for folders that name no pad token.

    Raises:
        ModelError: a file is missing, or the tokenizer is of a kind that this program does not know.
    """
    path = folder / "vocab.json"
    if not path.exists():
        raise ModelError(f"{path}: no such file", hint="give the symbols: --vocab FILE", code="model.vocabulary")
    options: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        options |= read_json(folder / name) if (folder / name).exists() else {}
    kind = str(options.get("tokenizer_class", "Wav2Vec2CTCTokenizer")).removesuffix("Fast")
    if kind not in ("Wav2Vec2CTCTokenizer", "Wav2Vec2Tokenizer"):
        raise ModelError(f"{folder}: tokenizer_class {kind} is not supported", code="model.unsupported")
    rows = {t: i for t, i in read_json(path).items() if not isinstance(i, int) or i < num_rows}
    return _from_rows(rows, pad_id, options, path, num_rows)


def tokenizer_files(vocabulary: Vocabulary) -> dict[str, str]:
    """The files of transformers' CTC tokenizer, name to content.

    Raises:
        ModelError: its symbols are no characters, which that tokenizer cannot join to words, or would not come back.
    """
    if vocabulary.pieces != "characters":
        raise ModelError(
            f"transformers' CTC tokenizer prints characters, and this vocabulary has {vocabulary.pieces}",
            hint="only our own form holds it; for theirs train on characters",
            code="model.vocabulary",
        )
    rows = {s: i for i, s in reversed(list(enumerate(vocabulary.symbols))) if s}
    pad = vocabulary.symbols[vocabulary.blank]
    options: dict[str, Any] = {
        "tokenizer_class": "Wav2Vec2CTCTokenizer",
        "pad_token": pad,
        "word_delimiter_token": vocabulary.word_delimiter,
        "replace_word_delimiter_char": vocabulary.delimiter_text,
        "do_lower_case": vocabulary.lower_case,
    }
    names = {"bos_token": ("<s>",), "eos_token": ("</s>",), "unk_token": ("<unk>", "[UNK]")}
    for name, known in names.items():
        options[name] = next((s for s in known if s in rows and s != pad), pad)
    rows = dict(sorted(rows.items(), key=lambda item: item[1]))
    again = _from_rows(rows, None, options, Path("vocab.json"), len(vocabulary))
    _refuse_changed(vocabulary, again, "transformers' CTC tokenizer")
    return {"vocab.json": _json(rows), "tokenizer_config.json": _json(options)}


def _from_rows(
    rows: Mapping[str, Any], pad_id: Any, options: Mapping[str, Any], path: Path, num_rows: int | None = None
) -> Vocabulary:
    if not all(isinstance(i, int) and i >= 0 for i in rows.values()):
        raise ModelError(f"{path}: token to row is expected (several languages need adapters, which are not supported)")
    symbols = [""] * (max(rows.values(), default=-1) + 1 if num_rows is None else num_rows)
    for token, row in rows.items():
        symbols[row] = token
    pad = _token(options.get("pad_token")) or next((t for t in ("<pad>", "[PAD]") if t in rows), None)
    blank = rows.get(pad, pad_id) if pad is not None else pad_id
    if not isinstance(blank, int) or not 0 <= blank < len(symbols):
        raise ModelError(f"{path}: the pad token, which is CTC's blank, has no row", code="model.vocabulary")
    return Vocabulary(
        tuple(symbols),
        blank,
        word_delimiter=_token(options.get("word_delimiter_token", "|")) or "",
        delimiter_text=str(options.get("replace_word_delimiter_char", " ")),
        lower_case=bool(options.get("do_lower_case", False)),
    )


def _token(value: Any) -> str | None:
    """A special token, stored as a text or as an object with `content`."""
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"
