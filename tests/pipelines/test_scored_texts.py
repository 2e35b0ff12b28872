from __future__ import annotations

from pathlib import Path

import pytest

from speechkit.errors import InputError
from speechkit.pipelines.scored_texts import best_variant, read_texts


def texts(folder: Path, ref: tuple[str, str], hyp: tuple[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    paths = []
    for side, (ending, content) in (("ref", ref), ("hyp", hyp)):
        paths.append(folder / f"{side}{ending}")
        paths[-1].write_text(content, encoding="utf-8")
    return read_texts(*paths)


def test_lines_of_plain_text_belong_together_by_number(tmp_path: Path) -> None:
    refs, hyps = texts(tmp_path, (".txt", "one two\nthree\n"), (".txt", "one\nthree\n"))
    assert list(refs.values()) == ["one two", "three"]
    assert list(hyps.values()) == ["one", "three"]
    assert list(refs) == list(hyps)


def test_lines_that_begin_with_the_same_ids_belong_together_by_id(tmp_path: Path) -> None:
    refs, hyps = texts(tmp_path, (".txt", "u-1 one\nu-2 two\n"), (".txt", "u-2 two\nu-1\n"))
    assert (refs, hyps) == ({"u-1": "one", "u-2": "two"}, {"u-2": "two", "u-1": ""})


def test_an_id_that_appears_twice_is_no_word(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"hyp\.txt:2: u-1 appears twice"):
        texts(tmp_path, (".txt", "u-1 one\n"), (".txt", "u-1 one\nu-1 two\n"))


def test_numbers_that_are_said_are_no_ids(tmp_path: Path) -> None:
    refs, hyps = texts(tmp_path, (".txt", "1\n2\n"), (".txt", "2\n1\n"))
    assert (list(refs.values()), list(hyps.values())) == (["1", "2"], ["2", "1"])


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        ("", "u1 a (b)\nu2\n"),
        (".trn", "a \\(b\\) (u1)\n (u2)\n"),
        (".jsonl", '{"input": "w/u1.wav", "text": "a (b)"}\n{"id": "u2", "text": ""}\n{"input": "x", "ok": false}\n'),
    ],
)
def test_every_form_gives_the_same_texts(tmp_path: Path, ending: str, content: str) -> None:
    expected = {"u1": "a (b)", "u2": ""}
    assert texts(tmp_path, (ending, content), ("", "u1 x\n"))[0] == expected
    assert texts(tmp_path, ("", "u1 x\n"), (ending, content))[1] == expected


def test_words_of_a_ctm_fall_to_the_segments_of_an_stm_by_time(tmp_path: Path) -> None:
    stm = "f 1 s 0 1 a b\nf 1 s 1 2 IGNORE_TIME_SEGMENT_IN_SCORING\nf 1 s 3 4 c { d / e }\n"
    ctm = "f 1 0.1 0.2 a\nf 1 0.9 0.05 b\nf 1 1.5 0.1 noise\nf 1 2.6 0.3 c\nf 1 3.2 0.1 e\n"
    refs, hyps = texts(tmp_path, (".stm", stm), (".ctm", ctm))
    assert list(refs.values()) == ["a b", "c e"]
    assert list(hyps.values()) == ["a b", "c e"]
    assert list(refs) == list(hyps)


def test_stm_and_stm_are_compared_file_by_file(tmp_path: Path) -> None:
    refs, hyps = texts(tmp_path, (".stm", "f 1 s 0 2 a b (uh)\n"), (".stm", "f 1 f 0 1 a\nf 1 f 1 2 b\n"))
    assert (refs, hyps) == ({"f-1": "a b"}, {"f-1": "a b"})


@pytest.mark.parametrize(
    ("ref", "hyp", "chosen"),
    [
        ("{ a b / c } d", "c d", "c d"),
        ("{ a / @ } d", "d", "d"),
        ("x (uh) y", "x y", "x y"),
        ("x (uh) y", "x uh y", "x uh y"),
        ("{ a / b } { a / b }", "b a", "b a"),
    ],
)
def test_alternatives_are_decided_in_favor_of_the_hypothesis(ref: str, hyp: str, chosen: str) -> None:
    assert best_variant(ref, hyp) == chosen


@pytest.mark.parametrize(
    ("ref", "hyp", "message"),
    [
        ((".txt", "a\nb\n"), (".txt", "a\n"), "has 2 lines and .* has 1"),
        ((".trn", "a (u1)\nb\n"), (".trn", ""), "ref.trn:2: expected 'words"),
        (("", "u1 a\nu1 b\n"), ("", ""), "ref:2: u1 appears twice"),
        ((".jsonl", "[]\n"), ("", ""), "ref.jsonl:1: expected an object"),
        ((".stm", "f 1 s 0 1 a\n"), (".ctm", "g 1 0 1 a\n"), "g 1 is not in"),
    ],
)
def test_files_that_do_not_fit_are_named(
    tmp_path: Path, ref: tuple[str, str], hyp: tuple[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        texts(tmp_path, ref, hyp)


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.trn").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not UTF-8"):
        read_texts(tmp_path / "x.trn", tmp_path / "x.trn")
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_texts(tmp_path / "none", tmp_path / "none")
