from __future__ import annotations

import pytest
import torch
from torch import Tensor

from speechkit.nn.attention import Attention
from speechkit.nn.encoder import Encoder
from speechkit.nn.encoder_config import EncoderConfig
from speechkit.nn.layer_storage import storable

TINY = {"dim": 24, "num_layers": 3, "ffn_dim": 40, "num_heads": 3, "position_kernel": 8, "position_groups": 4}


def tiny(**settings: object) -> Encoder:
    torch.manual_seed(0)
    return Encoder(EncoderConfig(**(TINY | {"num_buckets": 32, "max_distance": 40, "init_std": 0.3} | settings))).eval()


def plain_attention(attention: Attention, x: Tensor, bias: Tensor, valid: Tensor) -> Tensor:
    """Attention as the paper writes it, head by head and query by query."""
    num_rows, num_frames, dim = x.shape
    size = dim // attention.num_heads
    q, k, v = attention.query(x), attention.key(x), attention.value(x)
    y = torch.zeros_like(x)
    for b in range(num_rows):
        for h in range(attention.num_heads):
            part = slice(h * size, (h + 1) * size)
            for i in range(num_frames):
                rows = (attention.gate.weight @ x[b, i, part] + attention.gate.bias).view(2, 4).sum(1).sigmoid()
                gate = rows[0] * (rows[1] * attention.gate_scale[0, h, 0, 0] - 1) + 2
                scores = k[b, :, part] @ q[b, i, part] / size**0.5 + gate * bias[h, i]
                y[b, i, part] = scores.masked_fill(~valid[b], -torch.inf).softmax(0) @ v[b, :, part]
    return attention.output(y)


def test_attention_is_the_papers_formula_with_the_gate_on_its_input() -> None:
    torch.manual_seed(0)
    attention = Attention(24, 3, dropout=0.0, gated=True)
    torch.nn.init.normal_(attention.gate_scale)
    x, bias = torch.randn(2, 7, 24), torch.randn(3, 7, 7)
    valid = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    with torch.no_grad():
        torch.testing.assert_close(attention(x, bias, valid), plain_attention(attention, x, bias, valid))


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_stopping_early_returns_the_raw_state_of_that_layer(norm: str) -> None:
    encoder = tiny(norm=norm)
    x, lengths = torch.randn(2, 9, 24), torch.tensor([9, 6])
    output, states = encoder(x, lengths, layers=True)
    assert len(states) == 4
    for k in range(4):
        raw, none = encoder(x, lengths, last_layer=k)
        assert none == []
        assert torch.equal(raw, states[k])
    final = encoder.norm(states[-1]) if norm == "pre" else states[-1]
    assert torch.equal(output, final)


def test_a_dropped_layer_is_passed_over_and_the_relative_bias_stays() -> None:
    encoder = tiny()
    x, lengths = torch.randn(2, 9, 24), torch.tensor([9, 6])
    _, states = encoder(x, lengths, layers=True, dropped_layers=frozenset({1}))
    assert torch.equal(states[2], states[1])
    short = tiny(num_layers=2)
    keys = short.state_dict().keys()
    renamed = {k.replace("layers.2", "layers.1"): v for k, v in encoder.state_dict().items() if "layers.1" not in k}
    short.load_state_dict({k: renamed[k] for k in keys})
    torch.testing.assert_close(states[3], short(x, lengths)[0])


def test_layer_zero_cannot_be_dropped_and_layers_beyond_the_last_cannot_be_asked_for() -> None:
    encoder = tiny()
    x, lengths = torch.randn(1, 4, 24), torch.tensor([4])
    with pytest.raises(ValueError, match="layer 0"):
        encoder(x, lengths, dropped_layers=frozenset({0, 1}))
    with pytest.raises(ValueError, match="layer 4"):
        encoder(x, lengths, last_layer=4)


def test_a_row_without_frames_disturbs_nobody_and_stays_finite() -> None:
    encoder = tiny(norm="pre")
    x = torch.randn(2, 9, 24)
    output, _ = encoder(x, torch.tensor([9, 0]))
    alone, _ = encoder(x[:1], torch.tensor([9]))
    torch.testing.assert_close(output[:1], alone)
    assert output.isfinite().all()


def test_every_parameter_learns_in_a_padded_batch() -> None:
    for norm in ("post", "pre"):
        encoder = tiny(norm=norm, dropout=0.1, attention_dropout=0.1, activation_dropout=0.1).train()
        output, _ = encoder(torch.randn(2, 12, 24), torch.tensor([12, 7]))
        output.square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
        assert encoder.relative_bias is not None
        assert encoder.relative_bias.weight.grad.abs().sum() > 0


def test_sizes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple"):
        EncoderConfig(dim=30, num_heads=4, position_groups=3)


def test_raw_states_are_not_stored_in_float16() -> None:
    states = [torch.full((1, 3, 8), 1e6) * torch.randn(8)]
    with pytest.raises(ValueError, match="float16"):
        storable(states, torch.float16)
    assert storable(states, torch.float16, normalize=True)[0].isfinite().all()
    assert storable(states, torch.bfloat16)[0].isfinite().all()
    assert storable(states, torch.float32)[0].dtype == torch.float32
