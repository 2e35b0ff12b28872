"""Padded batches for the property tests of this folder."""

from __future__ import annotations

from collections.abc import Callable

import torch
from hypothesis import strategies as st
from torch import Tensor

from speechkit import draws

Feature = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

# from no sample up, and often about the length of a window, of half an FFT, of one
LENGTHS = st.lists(
    st.one_of(st.integers(0, 40), st.integers(150, 450), st.integers(480, 560), st.integers(0, 3000)),
    min_size=1,
    max_size=4,
)


def noise(length: int, number: int = 0) -> Tensor:
    """A row of noise, the same for the same arguments."""
    return torch.randn(length, generator=draws.generator(0, 0, "test", f"{number} {length}")) * 0.1


def batch(lengths: list[int], extra: int = 0) -> tuple[Tensor, Tensor]:
    """Rows of these lengths, padded with zeros to the longest and `extra` samples more."""
    waves = torch.zeros(len(lengths), max(lengths) + extra)
    for row, length in enumerate(lengths):
        waves[row, :length] = noise(length, row)
    return waves, torch.tensor(lengths)


def check_rows(feature: Feature, lengths: list[int], *, atol: float, extra: int = 77) -> None:
    """Each row of a padded batch is what the row is alone, and what lies behind it is exactly 0."""
    values, counts = feature(*batch(lengths, extra))
    assert counts.shape == (len(lengths),)
    assert values.shape[0] == len(lengths)
    for row, length in enumerate(lengths):
        alone, count = feature(noise(length, row)[None], torch.tensor([length]))
        assert int(count) == int(counts[row]) == alone.shape[1]
        torch.testing.assert_close(values[row, : alone.shape[1]], alone[0], atol=atol, rtol=1e-4)
        assert torch.count_nonzero(values[row, alone.shape[1] :]) == 0
        assert torch.isfinite(values[row]).all()
