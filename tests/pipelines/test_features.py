from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechkit.audio.fbank import FbankConfig, fbank
from speechkit.audio.mfcc import hubert_mfcc
from speechkit.audio.normalize import normalize
from speechkit.decode.windows import WINDOW_SECONDS
from speechkit.errors import UsageError
from speechkit.models import load
from speechkit.pipelines.features import FeatureExtractor, FeatureSettings, extract
from speechkit.pipelines.sources import Failure, Source
from tests.pipelines.test_transcribe import noise
from tests.pipelines.tiny import save_tiny

RATE = 16000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model"))


def write(folder: Path, *lengths: int) -> list[Source]:
    for number, length in enumerate(lengths):
        soundfile.write(folder / f"{number}.wav", noise(number, length), RATE, subtype="FLOAT")
    return [Source.of_path(folder / f"{number}.wav") for number in range(len(lengths))]


def wave(source: Source) -> torch.Tensor:
    assert isinstance(source.path, Path)
    return torch.from_numpy(soundfile.read(source.path, dtype="float32")[0])[None]


def one(result: dict[str, torch.Tensor] | Failure) -> dict[str, torch.Tensor]:
    assert not isinstance(result, Failure)
    return result


@pytest.mark.parametrize("layers", [(1,), (0, 2), None], ids=["one", "some", "all"])
def test_layers_are_the_raw_states_of_the_recording_alone(
    tmp_path: Path, model: Path, layers: tuple[int, ...] | None
) -> None:
    sources = write(tmp_path, 9000, 16000, 5000)
    extractor = FeatureExtractor(FeatureSettings(layers=layers), model, device="cpu")
    encoder = load(model).encoder.eval()
    for source, result in zip(sources, extract(sources, extractor), strict=True):
        samples = wave(source)
        lengths = torch.tensor([samples.shape[1]])
        with torch.inference_mode():
            states = encoder(normalize(samples, lengths, 1e-5), lengths, layers=True)
        expected = {f"layer{n}": states.layers[n][0] for n in layers or (0, 1, 2)}
        torch.testing.assert_close(one(result), expected, rtol=1e-4, atol=1e-5)


def test_filter_banks_and_mfcc_are_those_of_the_audio_functions(tmp_path: Path) -> None:
    sources = write(tmp_path, 9000, 16000)
    for kind, compute in (("fbank", lambda w, n: fbank(w, n, FbankConfig())), ("mfcc", hubert_mfcc)):
        extractor = FeatureExtractor(FeatureSettings(kind=kind), device="cpu")  # type: ignore[arg-type]
        for source, result in zip(sources, extract(sources, extractor), strict=True):
            samples = wave(source)
            expected, _ = compute(samples, torch.tensor([samples.shape[1]]))
            torch.testing.assert_close(one(result), {kind: expected[0]}, rtol=1e-5, atol=1e-4)


def test_a_recording_longer_than_a_window_has_the_frames_of_the_whole(tmp_path: Path) -> None:
    (source,) = write(tmp_path, round((WINDOW_SECONDS + 35.3) * RATE))
    extractor = FeatureExtractor(FeatureSettings(kind="fbank"), device="cpu")
    samples = wave(source)
    expected, _ = fbank(samples, torch.tensor([samples.shape[1]]), FbankConfig())
    (result,) = extract([source], extractor)
    torch.testing.assert_close(one(result)["fbank"], expected[0], rtol=1e-5, atol=1e-4)


def test_small_batches_give_the_same_in_the_same_order(tmp_path: Path, model: Path) -> None:
    sources = write(tmp_path, 9000, 4000, 16000, 5000, 7000)
    extractor = FeatureExtractor(FeatureSettings(layers=(2,)), model, device="cpu")
    large, small = ([one(r)["layer2"] for r in extract(sources, extractor, seconds)] for seconds in (120.0, 0.1))
    assert len({len(features) for features in large}) == 5
    torch.testing.assert_close(small, large, rtol=1e-4, atol=1e-5)


def test_a_recording_shorter_than_a_frame_has_none_and_a_broken_one_fails_alone(tmp_path: Path, model: Path) -> None:
    sources = write(tmp_path, 100, 9000, 8000)
    (tmp_path / "1.wav").write_bytes(b"RIFF nothing")
    extractor = FeatureExtractor(FeatureSettings(layers=(1, 2)), model, device="cpu")
    short, broken, good = extract(sources, extractor)
    assert {name: tuple(x.shape) for name, x in one(short).items()} == {"layer1": (0, 32), "layer2": (0, 32)}
    assert isinstance(broken, Failure)
    assert broken.error.exit_code == 3
    assert np.isfinite(one(good)["layer2"].numpy()).all()


def test_a_layer_that_the_encoder_has_not_is_named(model: Path) -> None:
    with pytest.raises(UsageError, match="no layer 7: the encoder has 2"):
        FeatureExtractor(FeatureSettings(layers=(1, 7)), model, device="cpu")
