from __future__ import annotations

import base64
import io
import re

import numpy as np
import soundfile

from speechkit import draws
from speechkit.metrics.units import Span
from speechkit.report.clips import MAX_CLIPS, MAX_SECONDS, clip, shown


def noise(seconds: float, rate: int) -> np.ndarray:
    size = round(seconds * rate)
    return 0.1 * draws.normal(draws.words(0, 0, "test", ["noise"], 2 * size))[0][:size]


def address(html: str, kind: str) -> bytes:
    (data,) = re.findall(rf'src="data:{kind};base64,([^"]+)"', html)
    return base64.b64decode(data)


def test_the_sound_of_a_clip_is_that_of_the_utterance_at_16_khz() -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    samples, rate = soundfile.read(io.BytesIO(address(shown(clip(tone, 8000, ()), ()), "audio/mpeg")))
    assert rate == 16_000
    middle = samples[4000:12000]
    assert abs(np.abs(np.fft.rfft(middle)).argmax() * 2 - 440) <= 2  # bins of 2 Hz
    assert abs(middle.std() - 0.5 / np.sqrt(2)) < 0.02


def test_words_stand_in_the_picture_and_wrong_ones_in_another_color() -> None:
    words = [Span(0.1, 0.3, "right"), Span(0.5, 0.5, "<wrong>")]
    picture = address(shown(clip(noise(1.0, 16_000), 16_000, words), [False, True]), r"image/svg\+xml").decode()
    colors = [
        re.search(rf"<text style=\"([^\"]*)\"[^>]*>{word}</text>", picture) for word in ("right", "&lt;wrong&gt;")
    ]
    assert all(colors)
    assert colors[0][1] != colors[1][1]


def test_the_clips_of_a_page_take_at_most_two_megabytes() -> None:
    long = clip(noise(MAX_SECONDS + 5, 16_000), 16_000, [Span(MAX_SECONDS + 1, MAX_SECONDS + 2, "late")])
    assert len(long.samples) == MAX_SECONDS * 16_000
    assert long.words == []
    page = shown(long, ())
    assert MAX_CLIPS * len(base64.b64encode(address(page, "audio/mpeg"))) < 2e6
    assert len(page) < 500_000


def test_the_shortest_clip_is_shown() -> None:
    assert "<audio" in shown(clip(noise(0.001, 16_000), 16_000, ()), ())
    assert "<img" in shown(clip(np.zeros(1600), 16_000, ()), ())
