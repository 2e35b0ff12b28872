from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from speechkit.nn.positions import ConvPositions, RelativeBias, distance_buckets


def bucket(distance: int, num_buckets: int, max_distance: int) -> int:
    """The formula of the paper, one distance at a time."""
    half = num_buckets // 2
    exact = half // 2
    size = abs(distance)
    if size >= exact:
        size = min(half - 1, exact + int(math.log(size / exact) / math.log(max_distance / exact) * (half - exact)))
    return size + (half if distance > 0 else 0)


def test_buckets_follow_the_formula_for_every_size() -> None:
    for num_buckets, max_distance in ((320, 800), (320, 1280), (32, 40), (64, 100)):
        distances = torch.arange(-2000, 2001)
        expected = [bucket(d, num_buckets, max_distance) for d in distances.tolist()]
        assert distance_buckets(distances, num_buckets, max_distance).tolist() == expected


def test_all_from_778_on_share_the_last_bucket_of_wavlm() -> None:
    assert distance_buckets(torch.tensor([777, 778, 5000, -778, -5000, 0, 1]), 320, 800).tolist() == [
        *(318, 319, 319, 159, 159, 0, 161)
    ]


def test_the_bias_depends_on_key_minus_query_and_learns() -> None:
    torch.manual_seed(0)
    relative = RelativeBias(32, 40, 3)
    nn.init.normal_(relative.weight)
    bias = relative(50)
    for i, j in ((0, 49), (49, 0), (7, 7), (20, 33)):
        assert torch.equal(bias[:, i, j], relative.weight[bucket(j - i, 32, 40)])
    bias.sum().backward()
    distances = torch.arange(50)[None] - torch.arange(50)[:, None]
    counts = torch.bincount(distance_buckets(distances, 32, 40).flatten(), minlength=32)
    assert torch.equal(relative.weight.grad, counts[:, None].expand(32, 3).float())


def test_positions_are_torchs_convolution_with_weight_norm_by_tap() -> None:
    torch.manual_seed(0)
    for kernel in (16, 9):
        positions = ConvPositions(24, kernel, 4)
        nn.init.uniform_(positions.gain, 0.5, 2.0)
        nn.init.normal_(positions.bias)
        conv = nn.utils.parametrizations.weight_norm(nn.Conv1d(24, 24, kernel, padding=kernel // 2, groups=4), dim=2)
        conv.parametrizations.weight.original0.data = positions.gain.data
        conv.parametrizations.weight.original1.data = positions.direction.data
        conv.bias.data = positions.bias.data
        x = torch.randn(2, 30, 24)
        expected = F.gelu(conv(x.transpose(1, 2))[:, :, :30]).transpose(1, 2)
        torch.testing.assert_close(positions(x), expected, rtol=1e-4, atol=1e-5)


def test_a_new_positional_weight_equals_its_direction() -> None:
    positions = ConvPositions(16, 8, 4)
    torch.testing.assert_close(positions.gain, positions.direction.norm(dim=(0, 1), keepdim=True))
