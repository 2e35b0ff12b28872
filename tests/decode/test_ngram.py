from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechkit.decode import arpa, ctc, ngram
from speechkit.decode.ngram import NgramSearch, NgramSettings
from speechkit.decode.vocabulary import Vocabulary
from speechkit.errors import InputError, MissingDependency, ModelError
from tests.decode.test_ctc import log_probs

pytest.importorskip("flashlight.lib.text", reason="flashlight-text (extra lm) is not installed")

LETTERS = Vocabulary(("-", "|", "a", "b"), blank=0)
PIECES = Vocabulary(("▁a", "b", "-"), blank=2, word_delimiter="", pieces="sentencepiece")
WORDS = Vocabulary(("-", "a", "b", "c"), blank=0, word_delimiter="", pieces="words")
LEXICONS = {"letters": "a\nab a b |\nabb a b b\n", "pieces": "a\nab ▁a b\nabb\n", "words": "a\nb\nc\n"}
VOCABULARIES = {"letters": LETTERS, "pieces": PIECES, "words": WORDS}
PLAIN = NgramSettings(lm_weight=0, word_score=0)


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lm") / "lm.arpa"
    arpa.write(path, arpa.learn(["a b a", "b b a", "a ab", "abb ab a c", "c"], 3))
    return path


def search(lm: Path, kind: str, settings: NgramSettings = PLAIN) -> NgramSearch:
    lexicon = lm.with_name(f"{kind}.txt")
    lexicon.write_text(LEXICONS[kind])
    return NgramSearch(VOCABULARIES[kind], lm, lexicon, settings)


def said(vocabulary: Vocabulary, ids: np.ndarray) -> list[str]:
    return [word for word, _, _ in vocabulary.words(ctc.collapse(ids, vocabulary.blank))]


def paths(table: np.ndarray) -> list[tuple[float, np.ndarray]]:
    """Every path through the frames with its log-probability."""
    ids = np.array(list(itertools.product(range(table.shape[1]), repeat=len(table))))
    return list(zip(table[np.arange(len(table)), ids].sum(1).tolist(), ids, strict=True))


@pytest.mark.parametrize("kind", VOCABULARIES)
@given(st.integers(0, 1000))
def test_without_weights_the_best_path_over_words_of_the_lexicon_is_found(lm: Path, kind: str, seed: int) -> None:
    vocabulary = VOCABULARIES[kind]
    words = {line.split()[0] for line in LEXICONS[kind].splitlines()}
    table = log_probs(seed, 5, len(vocabulary))
    best = max(score for score, ids in paths(table) if set(said(vocabulary, ids)) <= words)
    found = search(lm, kind).best_path(table)
    assert float(found.log_probs.sum()) == pytest.approx(best, abs=1e-4)
    assert set(said(vocabulary, found.ids)) <= words
    assert found.log_probs.tolist() == table[np.arange(5), found.ids].tolist()


def test_a_wide_plain_beam_finds_the_same_words_where_the_network_is_sure(lm: Path) -> None:
    for seed in range(20):
        spoken = np.random.default_rng(seed).choice(4, size=12)
        table = np.full((12, 4), math.log(0.02), dtype=np.float32)
        table[np.arange(12), spoken] = math.log(0.94)
        (ids, _), *_ = ctc.prefix_beam(table, 500, blank=0)
        assert ctc.collapse(search(lm, "words").best_path(table).ids, 0) == ids


def test_the_result_is_that_of_the_library_called_directly(lm: Path) -> None:
    from flashlight.lib.text import decoder as fl
    from flashlight.lib.text.decoder.kenlm import KenLM
    from flashlight.lib.text.dictionary import create_word_dict

    lexicon = {"<unk>": [], "a": [["a", "|"]], "ab": [["a", "b", "|"]], "abb": [["a", "b", "b", "|"]]}
    words = create_word_dict(lexicon)
    model, trie = KenLM(str(lm), words), fl.Trie(4, 1)
    for word, spellings in lexicon.items():
        index = words.get_index(word)
        for spelling in spellings:
            trie.insert([LETTERS.symbols.index(s) for s in spelling], index, model.score(model.start(False), index)[1])
    trie.smear(fl.SmearingMode.MAX)
    options = fl.LexiconDecoderOptions(500, 4, 100, 2, -1, -math.inf, 0, False, fl.CriterionType.CTC)
    library = fl.LexiconDecoder(options, trie, model, 1, 0, words.get_index("<unk>"), [], False)
    mine = search(lm, "letters", NgramSettings())
    for seed in range(20):
        table = log_probs(seed, 30, 4)
        table[-1] = [-50, 0, -50, -50]  # the library needs a delimiter at the end, the search brings its own
        tokens = library.decode(table.ctypes.data, *table.shape)[0].tokens[1:-1]
        assert mine.best_path(table).ids.tolist() == tokens


def test_a_likely_word_wins_where_the_network_wavers(lm: Path) -> None:
    table = np.log(np.array([[0.1, 0.45, 0.44, 0.01], [0.97, 0.01, 0.01, 0.01]], dtype=np.float32))
    likes_b = lm.with_name("b.arpa")
    arpa.write(likes_b, arpa.learn(["b"] * 9 + ["a", "c"], 2))
    for weight, word in ((0.0, "a"), (2.0, "b")):
        found = NgramSearch(WORDS, likes_b, None, NgramSettings(lm_weight=weight))
        assert said(WORDS, found.best_path(table).ids) == [word]


def test_a_word_score_decides_how_many_words_there_are(lm: Path) -> None:
    table = np.log(np.array([[0.1, 0.6, 0.3], [0.6, 0.2, 0.2], [0.1, 0.6, 0.3]], dtype=np.float32))
    vocabulary = Vocabulary(("-", "a", "b"), blank=0, word_delimiter="", pieces="words")
    for score, count in ((-9.0, 0), (0.0, 2), (9.0, 3)):
        found = NgramSearch(vocabulary, lm, None, NgramSettings(lm_weight=0, word_score=score))
        assert len(said(vocabulary, found.best_path(table).ids)) == count


def test_a_silence_score_favors_frames_between_words(lm: Path) -> None:
    table = np.log(np.array([[0.45, 0.55, 0.0001, 0.0001]] * 4, dtype=np.float32))
    for score, words in ((0.0, ["a"]), (1.0, [])):
        settings = NgramSettings(lm_weight=0, word_score=0, silence_score=score)
        assert said(WORDS, search(lm, "words", settings).best_path(table).ids) == words


def test_a_narrow_beam_and_a_small_threshold_miss_what_comes_out_better_later(lm: Path) -> None:
    table = np.log(np.array([[0.01, 0.6, 0.39, 0.001], [0.001, 0.001, 0.99, 0.001]], dtype=np.float32))
    wide = search(lm, "words", NgramSettings(lm_weight=2, word_score=-3))
    assert said(WORDS, wide.best_path(table).ids) == ["b"]
    for limits in ({"beam_size": 1}, {"beam_threshold": 0.01}):
        narrow = search(lm, "words", NgramSettings(lm_weight=2, word_score=-3, **limits))
        assert said(WORDS, narrow.best_path(table).ids)[0] == "a"


def test_settling_what_lies_far_back_changes_nothing(lm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in VOCABULARIES:
        table = log_probs(7, 400, len(VOCABULARIES[kind]))
        finder = search(lm, kind, NgramSettings(beam_size=50))
        monkeypatch.setattr(ngram, "_BLOCK", 1000)
        whole = finder.best_path(table)
        for block in (60, 399, 400, 401):
            monkeypatch.setattr(ngram, "_BLOCK", block)
            assert finder.best_path(table).ids.tolist() == whole.ids.tolist()


def test_no_frames_say_nothing(lm: Path) -> None:
    for kind, vocabulary in VOCABULARIES.items():
        found = search(lm, kind).best_path(np.zeros((0, len(vocabulary)), dtype=np.float32))
        assert found.ids.shape == found.log_probs.shape == (0,)


def test_words_are_spelled_by_vocabulary_or_lexicon_and_others_left_out(
    lm: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_text("ab\tb a |\nab a b\n\nB\nxy\n")
    assert list(ngram.read_lexicon(path, LETTERS)) == [("ab", (3, 2)), ("ab", (2, 3)), ("B", (3,))]
    assert "lexicon.txt: 1 words are left out, they have no spelling in the model's symbols: xy" in caplog.text
    ngram.write_lexicon(path, [("ab", (2, 3))], LETTERS)
    assert path.read_text() == "ab\ta b |\n"
    caplog.clear()
    found = NgramSearch(LETTERS, lm, None, PLAIN)  # of its words c has no spelling
    assert f"{lm}: 1 words are left out, they have no spelling in the model's symbols: c" in caplog.text
    table = np.full((2, 4), -9, dtype=np.float32)
    table[:, 3] = 0
    assert said(LETTERS, found.best_path(table).ids) == ["b"]


def test_words_of_very_many_pieces_are_left_out(lm: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_text(f"a{11 * 'b'}\na{12 * 'b'}\n")
    found = NgramSearch(PIECES, lm, path, PLAIN)
    assert f"lexicon.txt: 1 words are left out, they have more than 12 pieces: a{12 * 'b'}" in caplog.text
    for count, words in ((11, [f"a{11 * 'b'}"]), (12, [f"a{11 * 'b'}"])):
        table = np.full((2 * count + 1, 3), -9, dtype=np.float32)
        table[np.arange(len(table)), [0, *[2, 1] * count]] = 0
        assert said(PIECES, found.best_path(table).ids) == words


def test_a_word_that_the_model_does_not_list_can_be_found(lm: Path, tmp_path: Path) -> None:
    path = tmp_path / "lexicon.txt"
    path.write_text("zoo a b\na\n")
    table = np.full((3, 4), -9, dtype=np.float32)
    table[[0, 1, 2], [2, 3, 1]] = 0
    assert said(LETTERS, NgramSearch(LETTERS, lm, path).best_path(table).ids) == ["ab"]


@pytest.mark.parametrize(
    ("lexicon", "says"),
    [
        ("a\nab a x\n", r"lexicon\.txt:2: 'ab' is spelled with 'x', which is none"),
        ("a -\n", r"lexicon\.txt:1: 'a' is spelled with '-'"),
        ("x\ny\n", r"lexicon\.txt: no word of it can be spelled"),
        ("", r"lexicon\.txt: no word of it can be spelled"),
        ("\udcff", r"lexicon\.txt: no UTF-8 text"),
        (None, r"lexicon\.txt: no such file"),
    ],
)
def test_a_bad_lexicon_is_refused_by_file_and_line(lm: Path, tmp_path: Path, lexicon: str | None, says: str) -> None:
    path = tmp_path / "lexicon.txt"
    if lexicon is not None:
        path.write_bytes(lexicon.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=says):
        NgramSearch(LETTERS, lm, path)


@pytest.mark.parametrize(
    ("line", "new", "says"),
    [
        (1, "hello", 'first non-empty line was "hello"'),
        (2, "ngram 1=x", ""),
        (3, "ngram 2=3", "in the 2-gram"),
        (9, "0.5\ta\t-0.2", "Positive log probability 0.5 in the model"),
        (9, "-0.5\ta\thm", "in the 1-gram"),
        (12, "-0.1\t<s> q", "Word q was not seen in the unigrams .* in the 2-gram"),
        (13, "-0,1\ta </s>", "in the 2-gram"),
        (15, "", "End of file"),
    ],
)
def test_a_damaged_arpa_file_is_refused_by_file_and_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], line: int, new: str, says: str
) -> None:
    lines = ["\\data\\", "ngram 1=4", "ngram 2=2", "", "\\1-grams:", "-1\t<unk>", "-99\t<s>\t-0.3", "-0.5\t</s>"]
    lines += ["-0.6\ta\t-0.2", "", "\\2-grams:", "-0.3\t<s> a", "-0.4\ta </s>", "", "\\end\\"]
    path = tmp_path / "lm.arpa"
    path.write_text("\n".join([*lines, ""]))
    NgramSearch(WORDS, path)
    lines[line - 1] = new
    path.write_text("\n".join([*lines, ""]))
    where = 15 if line == 3 else line  # one n-gram more is missed where the list ends
    with pytest.raises(InputError, match=rf"lm\.arpa:{where}: .*{says}") as error:
        NgramSearch(WORDS, path)
    assert "\n" not in error.value.message
    assert capfd.readouterr() == ("", "")  # KenLM draws a bar on its own


def test_a_binary_model_needs_a_lexicon(tmp_path: Path) -> None:
    path = tmp_path / "lm.bin"
    path.write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\0")
    with pytest.raises(InputError, match=r"lm\.bin: KenLM's binary form does not list its words") as error:
        NgramSearch(WORDS, path)
    assert "--lexicon" in error.value.hint


def test_letters_without_a_delimiter_have_no_words(lm: Path) -> None:
    with pytest.raises(ModelError, match="word delimiter"):
        NgramSearch(Vocabulary(("-", "a"), blank=0, word_delimiter=""), lm)


def test_without_the_library_the_hint_installs_it(lm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("flashlight", *[name for name in sys.modules if name.startswith("flashlight.")]):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependency) as error:
        NgramSearch(WORDS, lm)
    assert error.value.hint.startswith("pip install 'speechkit-torch[lm]'")


@pytest.mark.parametrize("wrong", [{"beam_size": 0}, {"lm_weight": -1}, {"beam_threshold": -1}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is "):
        NgramSettings(**wrong)
