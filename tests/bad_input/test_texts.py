"""Texts that are damaged, given to `eval` and `align`, and lists given to `transcribe`."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechkit.audio import files
from tests.audio.test_bad_audio import RATE, speechlike
from tests.bad_input.conftest import Typed

REFERENCES = {
    "ref": "u1 a b\nu2 c\n",
    "ref.txt": "u1 a b\nu2 c\n",
    "ref.trn": "a b (u1)\nc (u2)\n",
    "ref.jsonl": '{"id": "u1", "text": "a b"}\n{"id": "u2", "text": "c"}\n',
    "ref.stm": "u1 1 s 0 1 a b\nu2 1 s 0 1 c\n",
    "ref.ctm": "u1 1 0 1 a\nu2 1 0 1 c\n",
}
LINES = [  # name, content, what is said of it
    ("hyp", b"u1 a\nu1 b\n", "hyp:2: u1 appears twice"),
    ("hyp", b"u1 \xff\n", "hyp: is not UTF-8 text (byte 3)"),
    ("hyp", b"", "no utterance of ref"),
    ("hyp", b"\x00\x01\x02\n", "no utterance of ref"),
    ("hyp.txt", b"a b\n", "ref.txt has 2 lines and hyp.txt has 1"),
    ("hyp.txt", b"", "ref.txt has 2 lines and hyp.txt has 0"),
    ("hyp.trn", b"a b\n", "hyp.trn:1: expected 'words (id)', found 'a b'"),
    ("hyp.trn", b"a (u1)\nb (u1)\n", "hyp.trn:2: u1 appears twice"),
    ("hyp.trn", b"a (\n", "hyp.trn:1: expected 'words (id)'"),
    ("hyp.jsonl", b"{\n", "hyp.jsonl:1: expected an object with input (or id) and text"),
    ("hyp.jsonl", b"[1]\n", "hyp.jsonl:1: expected an object"),
    ("hyp.jsonl", b'{"id": "u1"}\n', "hyp.jsonl:1: expected an object"),
    ("hyp.jsonl", b'{"id": "u1", "text": 5}\n', "hyp.jsonl:1: expected an object"),
    ("hyp.jsonl", b'{"id": "u1", "text": null}\n', "hyp.jsonl:1: expected an object"),
    ("hyp.jsonl", b'{"id": 1, "text": "a"}\n', "hyp.jsonl:1: expected an object"),
    ("hyp.jsonl", b'{"input": ["u1"], "text": "a"}\n', "hyp.jsonl:1: expected an object"),
    ("hyp.jsonl", b'{"id": "u1", "text": "a"}\n\n', "hyp.jsonl:2: expected an object"),
    ("hyp.jsonl", b"[" * 100_000 + b"\n", "hyp.jsonl:1: expected an object"),
    ("hyp.stm", b"u1 1 s 0\n", "hyp.stm:1: expected 'file channel speaker start end text', found 'u1 1 s 0'"),
    ("hyp.stm", b"u1 1 s zero 1 a\n", "hyp.stm:1: expected 'file channel speaker start end text'"),
    ("hyp.ctm", b"u1 1 0 1\n", "hyp.ctm:1: expected 'file channel start duration word [confidence]'"),
    ("hyp.ctm", b"u1 1 0 1 a high\n", "hyp.ctm:1: expected 'file channel start duration word [confidence]'"),
    ("hyp.ctm", b"u1 1 nan 1 a\n", "hyp.ctm:1: expected 'file channel start duration word [confidence]'"),
    ("hyp.ctm", b"u1 1 inf 1 a\n", "hyp.ctm:1: expected 'file channel start duration word [confidence]'"),
]


@pytest.mark.parametrize(("name", "content", "says"), LINES, ids=lambda value: repr(value)[:40])
@pytest.mark.parametrize("metric", ["wer", "cer"])
def test_eval_refuses(metric: str, name: str, content: bytes, says: str, typed: Typed) -> None:
    for reference, text in REFERENCES.items():
        Path(reference).write_text(text)
    Path(name).write_bytes(content)
    reference = name.replace("hyp", "ref")
    said = typed.refused("eval", metric, reference, name, "--per-utt", "notes", code=3)
    assert says in said.splitlines()[0]


def test_eval_needs_both_files(typed: Typed) -> None:
    Path("ref").write_text("u1 a\n")
    Path("folder").mkdir()
    for pair in (("ref", "none"), ("none", "ref"), ("ref", "folder"), ("ref", "ref/x"), ("none", "none")):
        said = typed.refused("eval", "wer", *pair, code=3)
        assert "cannot be read: " in said.splitlines()[0]


def test_a_reference_without_words_has_no_rate_and_no_fault(typed: Typed) -> None:
    Path("ref").write_text("u1\n")
    Path("hyp").write_text("u1 a\n")
    assert "|hyp|1|0|" in typed("eval", "wer", "ref", "hyp")[0]
    assert '"error_rate": null' in typed("eval", "wer", "ref", "hyp", "--json")[0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "there is no text to align"),
        (b" \n\t\n", "there is no text to align"),
        (b"ab \xff", "said.txt: cannot be read: it is not UTF-8"),
        (b"xyz", "the word 'xyz' cannot be spelled"),
        (b"a\x00b", "cannot be spelled"),
        (b"ab " * 500, "a.wav: the text has "),
    ],
)
def test_align_refuses(content: bytes, says: str, typed: Typed, model: Path) -> None:
    files.save("a.wav", speechlike(), RATE)
    Path("said.txt").write_bytes(content)
    said = typed.refused("align", "a.wav", "said.txt", "-m", model, "-o", "a.ctm", code=3)
    assert says in said.splitlines()[0]


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (b"none.wav\n", 3, "none.wav: no such file"),
        (b"\xff\xfe\n", 3, "list: cannot be read as a list"),
        (b"", 2, "no input named"),
        (b"a\x00b.wav\n", 3, "a\x00b.wav"),
    ],
)
def test_a_bad_list_is_refused(content: bytes, code: int, says: str, typed: Typed, model: Path) -> None:
    Path("list").write_bytes(content)
    out, err = typed("transcribe", "--from-file", "list", "-m", model, code=code)
    assert out == ""
    assert err.count("speechkit: error: ") == 1
    assert says in err.splitlines()[0]
