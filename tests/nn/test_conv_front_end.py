from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from speechkit.nn.conv_front_end import ConvFrontEnd

LAYERS = ((12, 10, 5), (12, 3, 2), (12, 3, 2), (12, 3, 2), (12, 3, 2), (12, 2, 2), (12, 2, 2))


def published(front_end: ConvFrontEnd, waves: Tensor) -> Tensor:
    """The convolutions as papers and their code write them, channels first."""
    x = waves[:, None]
    for number, conv in enumerate(front_end.convs):
        x = F.conv1d(x, conv.weight, conv.bias, stride=conv.stride)
        if front_end.norm == "layer":
            norm = front_end.norms[number]
            x = F.layer_norm(x.transpose(1, 2), x.shape[1:2], norm.weight, norm.bias, norm.eps).transpose(1, 2)
        elif number == 0:
            norm = front_end.norms[0]
            x = F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)
        x = F.gelu(x)
    return x.transpose(1, 2)


def made(norm: str, **options: bool) -> ConvFrontEnd:
    torch.manual_seed(0)
    front_end = ConvFrontEnd(LAYERS, norm, bias=options.pop("bias", False), **options)
    for layer in front_end.norms:
        torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
        torch.nn.init.normal_(layer.bias)
    return front_end


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("norm", ["group", "layer"])
def test_outputs_and_gradients_are_those_of_the_plain_formula(norm: str, bias: bool) -> None:
    front_end = made(norm, bias=bias)
    waves = torch.randn(2, 2000)
    lengths = torch.tensor([2000, 2000])
    ours, plain = front_end(waves, lengths), published(front_end, waves)
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)
    weights = [front_end.convs[0].weight, front_end.norms[0].weight, front_end.convs[3].weight]
    g_ours = torch.autograd.grad(ours.square().sum(), weights)
    g_plain = torch.autograd.grad(plain.square().sum(), weights)
    for a, b in zip(g_ours, g_plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_group_norm_is_exact_for_quiet_and_loud_waveforms_with_an_offset(scale: float) -> None:
    front_end = made("group")
    waves = (torch.randn(1, 4000) + 3.0) * scale
    exact = made("group").double()
    expected = published(exact, waves.double())
    torch.testing.assert_close(front_end(waves, torch.tensor([4000])).double(), expected, rtol=1e-3, atol=1e-3)


@given(st.lists(st.integers(400, 2500), min_size=2, max_size=4), st.sampled_from(["group", "layer"]))
def test_a_padded_row_equals_the_row_alone(lengths: list[int], norm: str) -> None:
    front_end = made(norm)
    waves = torch.zeros(len(lengths), max(lengths))
    for row, n in zip(waves, lengths, strict=True):
        row[:n] = torch.randn(n, generator=torch.Generator().manual_seed(n))
    batch = front_end(waves, torch.tensor(lengths))
    for row, wave, n in zip(batch, waves, lengths, strict=True):
        alone = front_end(wave[None, :n], torch.tensor([n]))[0]
        torch.testing.assert_close(row[: len(alone)], alone, rtol=1e-4, atol=1e-5)


def test_published_group_norm_counts_the_padding() -> None:
    waves = F.pad(torch.randn(1, 1000), (0, 1000))
    lengths = torch.tensor([1000])
    ours, theirs = made("group"), made("group", published_group_norm=True)
    torch.testing.assert_close(theirs(waves, lengths), published(theirs, waves), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(ours(waves, lengths), theirs(waves, lengths), atol=0.1)


def test_frame_counts_are_those_of_the_convolutions() -> None:
    front_end = made("layer")
    lengths = torch.arange(400, 4000, 37)
    found = [front_end(torch.zeros(1, n), torch.tensor([n])).shape[1] for n in lengths.tolist()]
    assert front_end.num_frames(lengths).tolist() == found
    assert front_end.num_frames(torch.tensor([0, 1, 9, 399, 400])).tolist() == [0, 0, 0, 0, 1]


def test_norms_are_float32_under_autocast() -> None:
    front_end = made("group")
    waves = torch.randn(1, 2000) + 50.0  # an offset that bfloat16 would let swamp the signal
    expected = front_end(waves, torch.tensor([2000]))
    with torch.autocast("cpu", torch.bfloat16):
        found = front_end(waves, torch.tensor([2000]))
    assert (found - expected).abs().mean() < 0.02 * expected.std()
