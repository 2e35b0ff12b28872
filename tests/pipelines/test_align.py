from __future__ import annotations

from pathlib import Path

import pytest

from speechkit.errors import InputError
from speechkit.pipelines.align import align_text
from speechkit.pipelines.recognizer import Recognizer
from speechkit.pipelines.sources import Source
from tests.pipelines.test_transcribe import write
from tests.pipelines.tiny import HOP, RATE, LevelReader, levels


def aligned(path: Path, text: str, **seconds: float) -> list[tuple[str, float, float]]:
    transcript = align_text(Recognizer(LevelReader(), device="cpu", **seconds), Source.of_path(path), text)
    return [(w.text, round(w.start, 4), round(w.end, 4)) for w in transcript.words]


def test_the_words_of_a_text_get_their_times(tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", levels("--ab-b|-ca--"))
    assert aligned(path, "Abb ca") == [(" Abb", 0.1625, 0.4825), (" ca", 0.6425, 0.8025)]


def test_windows_give_the_times_of_one_pass(tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", levels("--ab-b|-ca--" * 5))
    text = "abb ca" + "abb ca" * 4
    once = aligned(path, text)
    assert aligned(path, text, window_seconds=30 * HOP / RATE, overlap_seconds=6 * HOP / RATE) == once


def test_a_line_is_a_segment(tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", levels("-a|b|c-"))
    transcript = align_text(Recognizer(LevelReader(), device="cpu"), Source.of_path(path), "a b\n\nc\n")
    assert [s.text for s in transcript.segments] == ["a b", "c"]


def test_a_text_of_another_recording_is_doubted(tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", levels("--ab-b|-ca--"))
    recognizer, source = Recognizer(LevelReader(), device="cpu"), Source.of_path(path)
    assert align_text(recognizer, source, "abb ca").warnings == ()
    assert align_text(recognizer, source, "bcb ab").warnings == (
        "2 of 2 words are hardly in it: is this the text of this recording?",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" \n", "there is no text"),
        ("a xyz", "the word 'xyz' cannot be spelled"),
        ("a b " * 50, "x.wav: the text has 199 symbols and needs 199 frames, the recording has 11"),
    ],
)
def test_a_text_that_cannot_be_aligned_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "x.wav", levels("-a-"))
    with pytest.raises(InputError, match=message):
        aligned(path, text)
