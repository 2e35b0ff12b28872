from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from speechkit.models.wavlm.config import PRESETS, WavLMConfig
from speechkit.models.wavlm.heads import UnitHead, WavLMForUnits
from speechkit.models.wavlm.model import WavLM, scale_gradient
from speechkit.nn.encoder_config import EncoderConfig
from speechkit.nn.states import States
from tests.models.wavlm import tiny

NETWORKS = [("wavlm", "base"), ("wavlm", "large"), ("hubert", "base"), ("wav2vec2", "large")]


def waves(lengths: list[int], num_samples: int | None = None) -> tuple[Tensor, Tensor]:
    batch = torch.zeros(len(lengths), num_samples or max(lengths))
    for row, n in zip(batch, lengths, strict=True):
        row[:n] = torch.randn(n, generator=torch.Generator().manual_seed(n))
    return batch, torch.tensor(lengths)


@given(
    st.sampled_from(NETWORKS),
    st.lists(st.integers(400, 6000), min_size=1, max_size=4),
    st.integers(0, 2000),
)
@torch.no_grad()
def test_a_padded_row_equals_the_row_alone(network: tuple[str, str], lengths: list[int], more: int) -> None:
    model = tiny.encoder(*network)
    batch, sizes = waves(lengths, max(lengths) + more)
    states = model(batch, sizes, layers=True)
    for row, (wave, n) in enumerate(zip(batch, lengths, strict=True)):
        alone = model(wave[None, :n], torch.tensor([n]), layers=True)
        frames = int(states.lengths[row])
        assert frames == alone.output.shape[1] == (n - 400) // 320 + 1
        for found, expected in zip([states.output, *states.layers], [alone.output, *alone.layers], strict=True):
            torch.testing.assert_close(found[row, :frames], expected[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("network", NETWORKS)
def test_rows_of_much_padding_are_encoded_one_by_one_to_the_same_numbers(
    network: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, sizes = waves([60000, 4000, 399, 9000], 61000)
    mask = torch.rand(4, 187, generator=torch.Generator().manual_seed(0)) < 0.3  # the last frames are cut off
    channels = torch.rand(4, 32, generator=torch.Generator().manual_seed(1)) < 0.2
    given = {"mask": mask, "channel_mask": channels, "layers": True, "dropped_layers": frozenset({1})}

    def encoded() -> tuple[States, list[Tensor], list[int]]:
        model = tiny.encoder(*network)
        rows: list[int] = []
        model.transformer.register_forward_hook(lambda m, x, y: rows.append(len(x[0])))
        states = model(batch, sizes, **given)
        valid = torch.arange(187) < states.lengths[:, None]
        ((states.output.square().sum(-1) * valid).sum() + states.features[valid].square().sum()).backward()
        return states, [p.grad for p in model.parameters() if p.grad is not None], rows

    found, gradients, rows = encoded()
    assert rows == [1, 1, 1, 1]
    monkeypatch.setattr("speechkit.models.wavlm.model._SPARE_FRAMES", 1000)
    expected, all_at_once, rows = encoded()
    assert rows == [4]
    assert found.lengths.tolist() == expected.lengths.tolist() == [187, 12, 0, 27]
    for a, b in zip(
        [found.output, found.features, *found.layers],
        [expected.output, expected.features, *expected.layers],
        strict=True,
    ):
        assert a.shape == b.shape
        for row, length in enumerate(found.lengths):
            torch.testing.assert_close(a[row, :length], b[row, :length], rtol=1e-3, atol=1e-4)
    largest = max(float(gradient.abs().max()) for gradient in all_at_once)  # those of the keys' biases are 0
    for a, b in zip(gradients, all_at_once, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5 * largest)


def test_the_chunk_rule_keeps_a_frame_that_sees_padding() -> None:
    batch, sizes = waves([16000, 8000])
    conv, chunk = (tiny.encoder(frame_rule=rule)(batch, sizes).lengths.tolist() for rule in ("conv", "chunk"))
    assert (conv, chunk) == ([49, 24], [49, 25])


def test_a_row_shorter_than_a_frame_has_none_and_disturbs_nobody() -> None:
    model = tiny.encoder()
    batch, sizes = waves([2000, 399])
    states = model(batch, sizes)
    assert states.lengths.tolist() == [6, 0]
    assert states.output.isfinite().all()
    torch.testing.assert_close(states.output[:1], model(batch[:1], sizes[:1]).output)
    with pytest.raises(ValueError, match="400"):
        model(batch[:, :399], sizes.clamp(max=399))


def test_masked_frames_are_the_mask_embedding_and_masked_channels_zero() -> None:
    model = tiny.encoder()
    batch, sizes = waves([3000])
    mask = torch.zeros(1, 9, dtype=torch.bool)
    mask[0, 2:5] = True
    channels = torch.zeros(1, 32, dtype=torch.bool)
    channels[0, 7] = True
    entered = []
    model.transformer.register_forward_hook(lambda m, given, out: entered.append(given[0]))
    model(batch, sizes, mask=mask, channel_mask=channels)
    x = entered[0][0]
    expected = model.mask_embedding.expand(3, 32).clone()
    expected[:, 7] = 0
    assert torch.equal(x[2:5], expected)
    assert not x[:, 7].any()
    free = model.project(model.features(batch, sizes))[0]
    free[:, 7] = 0
    torch.testing.assert_close(x[[0, 1, 5, 6, 7, 8]], free[[0, 1, 5, 6, 7, 8]])


def test_a_mask_with_fewer_columns_cuts_the_frames_that_have_no_labels() -> None:
    model = tiny.encoder()
    batch, sizes = waves([3000, 1200])
    states = model(batch, sizes, mask=torch.zeros(2, 7, dtype=torch.bool))
    assert states.output.shape[1] == states.features.shape[1] == 7
    assert states.lengths.tolist() == [7, 3]


def test_the_gradient_of_the_front_end_is_scaled_or_cut() -> None:
    gradients = {}
    for scale in (1.0, 0.1, 0.0):
        model = tiny.encoder(feature_grad_mult=scale)
        model(*waves([3000])).output.square().mean().backward()
        gradients[scale] = model.front_end.convs[2].weight.grad
        assert model.feature_projection.weight.grad.abs().sum() > 0
    torch.testing.assert_close(gradients[0.1], 0.1 * gradients[1.0])
    assert gradients[0.0] is None
    x = torch.ones(3, requires_grad=True)
    scale_gradient(x, 0.25).sum().backward()
    assert torch.equal(x.grad, torch.full((3,), 0.25))


def test_dropping_layers_leaves_their_parameters_without_gradient() -> None:
    model = tiny.encoder().train()
    model(*waves([3000]), dropped_layers=frozenset({1})).output.sum().backward()
    assert model.transformer.layers[1].fc1.weight.grad is None
    assert model.transformer.layers[0].fc1.weight.grad is not None
    assert model.transformer.relative_bias.weight.grad is not None


def test_autocast_in_bfloat16_stays_near_float32() -> None:
    model = WavLM(replace(tiny.config(size="large"), encoder=replace(tiny.ENCODER, norm="pre", init_std=0.02))).eval()
    batch, sizes = waves([8000, 5000])
    with torch.no_grad():
        expected = model(batch, sizes).output
        with torch.autocast("cpu", torch.bfloat16):
            found = model(batch, sizes).output
    assert (found - expected).abs().mean() < 0.03
    assert (found - expected).abs().max() < 0.25


def test_a_deep_pre_norm_network_is_finite_on_silence_noise_and_a_click() -> None:
    torch.manual_seed(0)
    encoder = EncoderConfig(dim=64, num_layers=24, ffn_dim=128, num_heads=4, norm="pre", init_std=0.2)
    model = WavLM(replace(PRESETS["wavlm-large"], conv_layers=tiny.CONVS, encoder=encoder)).eval()
    batch = torch.stack([torch.zeros(4000), torch.rand(4000) * 2 - 1, torch.zeros(4000)])
    batch[2, 2000] = 1.0
    with torch.no_grad():
        states = model(batch, torch.tensor([4000] * 3), layers=True)
    assert all(x.isfinite().all() for x in (states.output, states.features, *states.layers))


# counted in the classes of transformers, without heads
PARAMETERS = {
    "wavlm-base": 94_381_936,
    "wavlm-base-plus": 94_381_936,
    "wavlm-large": 315_453_120,
    "hubert-base": 94_371_712,
    "hubert-large": 315_435_136,
    "wav2vec2-base": 94_371_712,
    "wav2vec2-large": 315_428_992,
    "wav2vec2-large-lv60": 315_438_720,
}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_published_number_of_parameters(name: str) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in WavLM(PRESETS[name]).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize(
    ("name", "width", "count"), [("wavlm-base", 256, 94_707_824), ("wavlm-large", 768, 316_627_392)]
)
def test_presets_in_pre_training_have_the_number_of_parameters_of_the_paper(name: str, width: int, count: int) -> None:
    with torch.device("meta"):
        model = WavLMForUnits(PRESETS[name], [504], UnitHead(embedding_dim=width))
    assert sum(p.numel() for p in model.parameters()) == count


def test_names_of_tensors_are_stable() -> None:
    layer = [
        *(f"attention.{part}.{p}" for part in ("query", "key", "value", "output", "gate") for p in ("weight", "bias")),
        "attention.gate_scale",
        *(f"{part}.{p}" for part in ("attention_norm", "fc1", "fc2", "ffn_norm") for p in ("weight", "bias")),
    ]
    expected = {
        "mask_embedding",
        *(f"front_end.convs.{i}.weight" for i in range(7)),
        *(
            f"{part}.{p}"
            for part in ("front_end.norms.0", "feature_norm", "feature_projection")
            for p in ("weight", "bias")
        ),
        *(f"transformer.positions.{p}" for p in ("gain", "direction", "bias")),
        *(f"transformer.{p}" for p in ("norm.weight", "norm.bias", "relative_bias.weight")),
        *(f"transformer.layers.{i}.{p}" for i in range(2) for p in layer),
    }
    assert set(tiny.encoder().state_dict()) == expected
    inner = {f"encoder.{n}" for n in expected}
    assert set(tiny.recognizer().state_dict()) == inner | {"head.weight", "head.bias"}
    head = UnitHead(embedding_dim=12, target_glu=True)
    assert set(tiny.predictor(head=head).state_dict()) == inner | {
        *("projection.weight", "projection.bias", "class_weights", "target_glu.weight", "target_glu.bias")
    }


def test_only_wavlm_has_a_relative_bias() -> None:
    with pytest.raises(ValueError, match="hubert with 320 buckets"):
        WavLMConfig(kind="hubert")


def test_frames_of_published_networks_come_every_320_samples_and_see_400() -> None:
    config = WavLMConfig()
    assert (config.hop_samples, config.field_samples, config.frame_rate) == (320, 400, 50.0)
    assert WavLM(tiny.config()).frame_rate == 50.0
