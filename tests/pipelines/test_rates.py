"""Rates are medians of trials."""

from __future__ import annotations

import itertools

import pytest
import torch

from speechkit.models.wavlm.config import WavLMConfig
from speechkit.nn.encoder_config import EncoderConfig
from speechkit.pipelines import rates


def test_everything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    small = WavLMConfig(encoder=EncoderConfig(dim=32, num_layers=1, ffn_dim=32, num_heads=2, position_groups=4))
    monkeypatch.setattr(rates, "PRESETS", {"wavlm-base": small})
    monkeypatch.setattr(rates, "_FILE_SECONDS", 2)
    found = list(rates.measure(torch.device("cpu"), seconds=0.0))
    files, networks = ["decode_wav", "decode_flac", "decode_mp3"], ["fbank", "resample_24000_16000"]
    products = ["matmul_float32", "matmul_bfloat16"]
    assert [r.name for r in found] == [*files, *networks, "wavlm_base_10s_float32", *products]
    assert [r.unit for r in found] == ["x real time"] * 6 + ["GFLOP/s"] * 2
    assert all(r.value > 0 for r in found)


@pytest.mark.parametrize(
    ("times", "value", "trials"),
    [
        ([9.0], 10 / 9, 1),  # the first one is enough
        ([0.9, 0.1, 0.4, 0.2, 0.5], 10 / 0.3, 4),  # it only warms up, and one second of trials follows
        ([0.9, 0.8, 0.5, 0.7], 10 / 0.7, 3),  # there are at least three
    ],
)
def test_the_first_trial_warms_up(
    monkeypatch: pytest.MonkeyPatch, times: list[float], value: float, trials: int
) -> None:
    ends = itertools.chain(times, itertools.repeat(None))
    monkeypatch.setattr(rates, "_timed", lambda work: next(ends))
    found = rates._rate("x", 10.0, "u", lambda: None, 1.0)
    assert (found.value, found.trials) == (pytest.approx(value), trials)
