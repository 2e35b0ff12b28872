from __future__ import annotations

import pytest
import torch
from torch import nn

from speechkit.nn.linear import Linear, gelu


@pytest.mark.parametrize("shape", [(1, 1, 8), (1, 96, 256), (4, 299, 64), (2, 700, 48)], ids=str)
def test_linear_equals_torchs_with_its_gradients(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    ours = Linear(shape[-1], 24)
    theirs = nn.Linear(shape[-1], 24)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(shape)
    results = []
    for layer in (ours, theirs):
        given = x.clone().requires_grad_()
        y = layer(given)
        y.square().mean().backward()
        results.append([y.detach(), given.grad, layer.weight.grad, layer.bias.grad])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert results[0][0].is_contiguous()


def test_linear_takes_views_that_are_not_contiguous() -> None:
    layer = Linear(64, 16)
    x = torch.randn(64, 400, 2).permute(2, 1, 0)
    torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias), rtol=1e-4, atol=1e-5)


def test_gelu_keeps_its_input_where_a_gradient_needs_it() -> None:
    x = torch.linspace(-3, 3, 7)
    before = x.clone()
    y = gelu(x)
    assert torch.equal(x, before)
    with torch.no_grad():
        z = gelu(x)
    assert torch.equal(z, y)
    assert z.data_ptr() == x.data_ptr()
