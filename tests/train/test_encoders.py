from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from speechkit.nn.encoder import Encoder
from speechkit.nn.encoder_config import EncoderConfig
from speechkit.train.encoders import prepare_encoders
from speechkit.train.settings import TrainSettings

CONFIG = EncoderConfig(
    dim=16, num_layers=3, ffn_dim=32, num_heads=2, norm="pre", position_kernel=8, position_groups=2, num_buckets=16,
    max_distance=40, dropout=0.2, attention_dropout=0.1, init_std=0.3,
)  # fmt: skip


def gradients(config: EncoderConfig = CONFIG, **changes: bool) -> Iterator[Tensor]:
    """The output of a training forward of two batches of different sizes, and the gradient of every parameter."""
    torch.manual_seed(0)
    encoder = Encoder(config)
    names = [name for name, _ in encoder.named_parameters()]
    prepare_encoders(encoder, TrainSettings(max_steps=1, **changes))
    assert [name for name, _ in encoder.named_parameters()] == names
    for frames in (23, 41):
        torch.manual_seed(frames)
        x, lengths = torch.randn(2, frames, 16), torch.tensor([frames, frames - 7])
        output, _ = encoder(x, lengths, dropped_layers=frozenset({1}))
        output.square().sum().backward()
        yield output.detach()
    yield from (p.grad for p in encoder.parameters() if p.grad is not None)


def test_layers_that_are_computed_again_give_the_same_bits() -> None:
    pairs = list(zip(gradients(recompute=False), gradients(recompute=True), strict=True))
    assert len(pairs) > 20
    assert all(torch.equal(a, b) for a, b in pairs)


def test_computing_again_keeps_fewer_tensors() -> None:
    def kept(recompute: bool) -> int:
        sizes: list[int] = []
        encoder = Encoder(CONFIG)
        encoder.recompute = recompute
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            encoder(torch.randn(2, 50, 16), torch.tensor([50, 50]))
        return sum(sizes)

    assert kept(True) < 0.5 * kept(False)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.skipif(" " in torch.__file__, reason="torch.compile cannot link where torch's path has a space in it")
def test_compiled_layers_give_the_same_numbers_dropout_included() -> None:
    config = replace(CONFIG, num_layers=1)
    for plain, compiled in zip(gradients(config), gradients(config, compile=True), strict=True):
        torch.testing.assert_close(
            compiled, plain, rtol=1e-4, atol=1e-3
        )  # that of the keys' bias is 0 but for rounding
