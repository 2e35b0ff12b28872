from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from speechkit.data.utterance import Utterance
from speechkit.decode import arpa
from speechkit.decode.ngram import NgramSearch, NgramSettings
from speechkit.errors import InputError, ModelError, UsageError
from speechkit.models.wavlm.heads import CTCOutput
from speechkit.pipelines import recordings
from speechkit.pipelines.recognizer import Recognizer
from speechkit.pipelines.recordings import Recording, resampled
from speechkit.pipelines.sources import Failure, Source
from speechkit.pipelines.transcribe import Transcriber, transcribe
from speechkit.pipelines.transcript import Transcript
from tests.pipelines.tiny import FIELD, HOP, LETTERS, RATE, LevelReader, levels, tiny_wavlm


def write(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    soundfile.write(path, samples.T if samples.ndim == 2 else samples, rate, subtype="FLOAT")
    return path


def noise(seed: int, num_samples: int) -> np.ndarray:
    """Noise whose loudness and color wander, so that a network hears different things in it."""
    rng = np.random.default_rng(seed)
    steps = np.repeat(rng.uniform(0.05, 0.9, num_samples // 800 + 1), 800)[:num_samples]
    tones = np.sin(np.cumsum(np.repeat(rng.uniform(0, 1.5, num_samples // 800 + 1), 800)[:num_samples]))
    return ((tones + rng.normal(size=num_samples) * 0.3) * steps * 0.5).astype(np.float32)


def results(model: LevelReader, sources: list[Source], **options: float) -> list[Transcript | Failure]:
    return list(Transcriber(Recognizer(model, device="cpu", **options)).transcribe(sources))


def test_what_is_said_is_written_with_its_times(tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", levels("--ab-b|-ca--"))
    transcript = transcribe(path, LevelReader(), device="cpu")
    assert isinstance(transcript, Transcript)
    assert (transcript.text, transcript.input, transcript.duration_s) == ("abb ca", str(path), 0.96)
    first, second = transcript.words
    assert (first.text, second.text) == (" abb", " ca")
    # frame f stands for samples 80f + 10 to 80f + 90; symbols take four frames each
    assert (first.start, first.end) == (pytest.approx(0.1625), pytest.approx(0.4825))
    assert (second.start, second.end) == (pytest.approx(0.6425), pytest.approx(0.8025))
    assert 0.9 < first.probability <= 1.0


def test_too_little_memory_is_the_error_of_no_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [write(tmp_path / f"{n}.wav", levels("--ab")) for n in range(60)]
    model = LevelReader()
    forward = model.forward

    def full(waves: Tensor, lengths: Tensor) -> CTCOutput:
        output = forward(waves, lengths)
        if len(model.batches) == 7:
            raise torch.OutOfMemoryError("out of memory")
        return output

    monkeypatch.setattr(model, "forward", full)
    with pytest.raises(ModelError, match="memory"):
        results(model, [Source.of_path(path) for path in paths], batch_seconds=0.5)


def test_a_word_at_the_end_does_not_last_longer_than_the_recording(tmp_path: Path) -> None:
    samples = levels("--a")[: -HOP + 5]
    transcript = transcribe(write(tmp_path / "x.wav", samples), LevelReader(), device="cpu")
    assert transcript.words[-1].end <= transcript.duration_s == len(samples) / RATE


@pytest.mark.parametrize("window_seconds", [0.5, 30.0])
def test_a_language_model_writes_words_of_its_own_with_times(tmp_path: Path, window_seconds: float) -> None:
    pytest.importorskip("flashlight.lib.text", reason="flashlight-text (extra lm) is not installed")
    path = write(tmp_path / "x.wav", levels("--ab-b|-ca--|dd"))
    arpa.write(tmp_path / "lm.arpa", arpa.learn(["abb cb", "abb a"], 2))
    options = {"lm": tmp_path / "lm.arpa", "device": "cpu", "lm_weight": 0.1, "word_score": 0.0}
    recognizer = Recognizer(LevelReader(), device="cpu", window_seconds=window_seconds, overlap_seconds=0.2)
    plain = transcribe(path, LevelReader(), device="cpu")
    assert isinstance(plain, Transcript)
    assert plain.text == "abb ca d"
    search = NgramSearch(LETTERS, tmp_path / "lm.arpa", None, NgramSettings(lm_weight=0.1, word_score=0.0))
    (found,) = Transcriber(recognizer, search=search).transcribe([Source.of_path(path)])
    assert found.text.startswith("abb cb")
    assert (found.words[0].start, found.words[0].end) == (plain.words[0].start, plain.words[0].end)
    assert transcribe(path, LevelReader(), **options).text == found.text
    (tmp_path / "words.txt").write_text("abb\nca\nd\n")
    assert transcribe(path, LevelReader(), **options, lexicon=tmp_path / "words.txt").text == "abb ca d"


@pytest.mark.parametrize("beam_size", [None, 4])
@given(st.data())
def test_windows_give_the_words_and_times_of_one_pass(
    tmp_path_factory: pytest.TempPathFactory, beam_size: int | None, data: st.DataObject
) -> None:
    symbols = "".join(data.draw(st.lists(st.sampled_from("-|abcd"), min_size=1, max_size=30)))
    samples = levels(symbols, frames=data.draw(st.integers(1, 4)))[: data.draw(st.integers(FIELD, 12000))]
    overlap = data.draw(st.integers(4, 10))
    window = data.draw(st.integers(2 * overlap + 1, 60))
    path = write(tmp_path_factory.mktemp("windows") / "x.wav", samples)
    model = LevelReader(reach=3)
    once = transcribe(path, model, device="cpu", beam_size=beam_size)
    seconds = {"window_seconds": window * HOP / RATE, "overlap_seconds": overlap * HOP / RATE}
    recognizer = Recognizer(model, device="cpu", batch_seconds=data.draw(st.sampled_from([0.1, 2.0, 60.0])), **seconds)
    (joined,) = Transcriber(recognizer, beam_size=beam_size, name="LevelReader").transcribe([Source.of_path(path)])
    assert joined.text == once.text
    assert [(w.text, w.start, w.end) for w in joined.words] == [(w.text, w.start, w.end) for w in once.words]
    assert [w.probability for w in joined.words] == pytest.approx([w.probability for w in once.words])


@pytest.mark.parametrize("conv_norm", ["group", "layer"])
@pytest.mark.parametrize("eps", [None, 1e-5])
def test_the_text_is_the_same_whatever_the_batch(tmp_path: Path, conv_norm: str, eps: float | None) -> None:
    model = tiny_wavlm(conv_norm=conv_norm, eps=eps)
    lengths = [8000, 24000, 16123, 399, 31999, 12000]
    paths = [write(tmp_path / f"{i}.wav", noise(i, n), 16000) for i, n in enumerate(lengths)]
    alone = transcribe(paths, model, device="cpu", batch_seconds=0.1)
    together = transcribe(paths, model, device="cpu", batch_seconds=120)
    assert [replace(t, segments=()) for t in alone] == [replace(t, segments=()) for t in together]
    assert [[(w.text, w.start, w.end) for w in t.words] for t in alone] == [
        [(w.text, w.start, w.end) for w in t.words] for t in together
    ]
    assert len({t.text for t in alone if t.text}) > 3  # the network hears a difference


def test_windows_of_all_files_share_batches_that_are_sorted_by_length(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.wav", levels("-a" * n)) for i, n in enumerate([2, 9, 3, 8])]
    model = LevelReader()
    transcripts = transcribe(paths, model, device="cpu", batch_seconds=3.0)
    assert model.batches == [(2, 18 * 320), (2, 6 * 320)]
    assert [t.text for t in transcripts] == ["a" * n for n in (2, 9, 3, 8)]


def test_results_come_in_order_and_a_bad_file_in_its_place(tmp_path: Path) -> None:
    good = write(tmp_path / "good.wav", levels("-ab"))
    (tmp_path / "bad.wav").write_bytes(b"not audio at all")
    sources = [Source.of_path(p) for p in (good, tmp_path / "bad.wav", tmp_path / "none.wav", good)]
    found = results(LevelReader(), sources)
    assert [type(r) for r in found] == [Transcript, Failure, Failure, Transcript]
    assert [r.error.code for r in found if isinstance(r, Failure)] == ["audio.format", "audio.missing"]


def test_results_come_before_all_inputs_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", levels("-ab" * 5))
    taken = []

    def sources() -> object:
        for number in range(20):
            taken.append(number)
            yield Source.of_path(path)

    stream = Transcriber(Recognizer(LevelReader(), device="cpu", batch_seconds=2.0)).transcribe(sources())
    next(stream)
    assert len(taken) < 10
    assert len(list(stream)) == 19


def test_python_gets_the_error_of_the_first_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        transcribe([tmp_path / "none.wav"], LevelReader(), device="cpu")


def test_too_short_for_a_frame_is_empty_text_and_a_warning(tmp_path: Path) -> None:
    transcript = transcribe(write(tmp_path / "x.wav", np.ones(40, dtype=np.float32)), LevelReader(), device="cpu")
    assert (transcript.text, transcript.segments) == ("", ())
    assert transcript.warnings == ("0.010 s are too short for a frame of the model (0.025 s)",)


def test_a_cut_file_is_used_with_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", levels("-ab-" * 4))
    path.write_bytes(path.read_bytes()[:-8000])
    transcript = transcribe(path, LevelReader(), device="cpu")
    assert transcript.text.startswith("abab")
    assert len(transcript.warnings) == 1


def test_stereo_of_another_rate_is_averaged_and_resampled_and_says_so(tmp_path: Path) -> None:
    said = np.repeat(levels("--a-b--", frames=8), 2)
    stereo = np.stack([said * 1.5, said * 0.5])
    path = write(tmp_path / "x.wav", stereo, 2 * RATE)
    transcript = transcribe(path, LevelReader(), device="cpu")
    assert transcript.text == "ab"
    assert transcript.notes == ("2 channels, averaged", "resampled from 8000 to 4000 Hz")
    assert transcript.duration_s == pytest.approx(len(said) / (2 * RATE))


@pytest.mark.parametrize(("channel", "text"), [("left", "a"), ("right", "b"), (1, "b")])
def test_one_channel_can_be_chosen(tmp_path: Path, channel: str | int, text: str) -> None:
    path = write(tmp_path / "x.wav", np.stack([levels("-a-"), levels("-b-")]))
    assert transcribe(path, LevelReader(), device="cpu", channel=channel).text == text


def test_a_channel_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no channel right, there are 1"):
        transcribe(write(tmp_path / "x.wav", levels("-a-")), LevelReader(), device="cpu", channel="right")


def test_an_open_file_and_a_part_of_a_file_can_be_transcribed(tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", levels("-a-b-c"))
    assert transcribe(io.BytesIO(path.read_bytes()), LevelReader(), device="cpu").text == "abc"
    part = Utterance(id="u1", path=str(path), start=2 * 320, num_samples=2 * 320, sample_rate=RATE)
    transcript = transcribe(Source.of_utterance(part), LevelReader(), device="cpu")
    assert (transcript.input, transcript.text, transcript.duration_s) == ("u1", "b", 0.16)


def test_a_network_without_symbols_is_refused() -> None:
    with pytest.raises(ModelError, match="Linear has no CTC head"):
        Recognizer(torch.nn.Linear(1, 1), device="cpu")


def test_samples_in_memory_are_refused_with_what_is_taken() -> None:
    with pytest.raises(TypeError, match="a binary file or a list of them, not ndarray"):
        transcribe([noise(0, RATE)], LevelReader())  # type: ignore[list-item]


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(UsageError, match="no device 'abacus'"):
        Recognizer(LevelReader(), device="abacus")


def test_too_little_memory_says_what_to_do(tmp_path: Path) -> None:
    class Hungry(LevelReader):
        def forward(self, waves: torch.Tensor, lengths: torch.Tensor) -> object:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(ModelError) as raised:
        transcribe(write(tmp_path / "x.wav", levels("-a-")), Hungry(), device="cpu")
    assert raised.value.hint == "lower --batch-seconds"


@given(st.data())
def test_resampling_piece_by_piece_gives_the_numbers_of_the_whole(data: st.DataObject) -> None:
    old, new = data.draw(st.sampled_from([(80, 160), (441, 160), (160, 441), (160, 160)]))
    samples = np.random.default_rng(old).normal(size=data.draw(st.integers(1, old * 200))).astype(np.float32)
    borders = sorted(data.draw(st.lists(st.integers(0, len(samples)), max_size=4)))
    pieces = list(resampled(np.split(samples, borders), old, new))
    whole = recordings.resample_array(samples, old, new)
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=2e-6)
    assert all(len(p) <= (recordings.PIECE_SECONDS + 2) * new for p in pieces)


@pytest.mark.parametrize("rate", [RATE, 2 * RATE])
def test_a_long_recording_is_normalized_over_all_its_samples(tmp_path: Path, rate: int) -> None:
    samples = np.random.default_rng(1).normal(0.2, 0.1, size=rate * 150).astype(np.float32)
    samples[: rate * 50] *= 3
    path = write(tmp_path / "x.wav", samples, rate)
    pieces = list(Recording(Source.of_path(path), sample_rate=RATE, eps=1e-5).pieces())
    assert len(pieces) > 1
    whole = recordings.resample_array(samples, rate, RATE)
    expected = (whole - whole.mean()) / np.sqrt(whole.var() + 1e-5)
    np.testing.assert_allclose(np.concatenate(pieces), expected, atol=1e-4)
    short = list(Recording(Source.of_path(path, channel=0), sample_rate=RATE, eps=None).pieces())
    np.testing.assert_allclose(np.concatenate(short), whole, atol=2e-6)
