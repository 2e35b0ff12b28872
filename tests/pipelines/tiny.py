"""Networks small enough for tests: one that hears levels, and a random WavLM."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn

from speechkit.decode.vocabulary import Vocabulary
from speechkit.models import save
from speechkit.models.wavlm.config import WavLMConfig
from speechkit.models.wavlm.heads import CTCOutput, WavLMForCTC
from speechkit.nn.encoder_config import EncoderConfig

RATE, HOP, FIELD = 4000, 80, 100
LETTERS = Vocabulary(("-", "|", "a", "b", "c", "d"), blank=0)


class LevelReader(nn.Module):
    """Hears level k/8 as symbol k: what it writes is known from the waveform.

    Each frame also sees `reach` frames on both sides, whose levels change the probabilities and not the symbols.
    """

    def __init__(self, *, reach: int = 2, sample_rate: int = RATE, eps: float | None = None) -> None:
        super().__init__()
        self.vocabulary = LETTERS
        self.reach = reach
        config = SimpleNamespace(sample_rate=sample_rate, waveform_eps=eps, hop_samples=HOP, field_samples=FIELD)
        self.encoder = SimpleNamespace(config=config)
        self.batches: list[tuple[int, int]] = []

    def forward(self, waves: Tensor, lengths: Tensor) -> CTCOutput:
        self.batches.append(tuple(waves.shape))
        levels = waves.double().unfold(1, FIELD, HOP)[..., FIELD // 2 - 2 : FIELD // 2 + 3].mean(-1)
        around = nn.functional.pad(levels, (self.reach, self.reach)).unfold(1, 2 * self.reach + 1, 1).sum(-1)
        distances = (levels[..., None] * 8 - torch.arange(len(LETTERS))).abs()
        logits = -distances * (8 + around[..., None].sin())
        return CTCOutput(logits=logits.float(), lengths=((lengths - FIELD) // HOP + 1).clamp(min=0))


def levels(symbols: str, *, frames: int = 4) -> np.ndarray:
    """A waveform that says these symbols, each for so many frames."""
    rows = [LETTERS.symbols.index(s) for s in symbols]
    return np.repeat(np.array(rows, dtype=np.float32) / 8, HOP * frames)


def tiny_wavlm(*, conv_norm: str = "group", eps: float | None = None, seed: int = 0) -> WavLMForCTC:
    """A random WavLM at 16 kHz with 20 ms frames whose symbols change with the input."""
    torch.manual_seed(seed)
    config = WavLMConfig(
        waveform_eps=eps,
        conv_layers=((16, 10, 5), (16, 3, 2), (16, 3, 2), (16, 3, 2), (16, 3, 2), (16, 2, 2), (16, 2, 2)),
        conv_norm=conv_norm,
        encoder=EncoderConfig(
            dim=32, num_layers=2, ffn_dim=32, num_heads=2, position_kernel=8, position_groups=4, num_buckets=16,
            max_distance=40, init_std=0.4,
        ),
    )  # fmt: skip
    model = WavLMForCTC(config, LETTERS).eval()
    with torch.no_grad():
        model.head.weight.mul_(6)
    return model


def save_tiny(folder: Path) -> Path:
    """A tiny model as a folder, with a name that has a space."""
    save(tiny_wavlm(conv_norm="layer", eps=1e-5), folder / "tiny model")
    return folder / "tiny model"
