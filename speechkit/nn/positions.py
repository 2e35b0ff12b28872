"""Where a frame stands: a convolution over its neighbors, and a bias by distance in bucket steps.

Sources: Baevski et al., "wav2vec 2.0" (2020), section 2; Chen et al., "WavLM" (2022), section III-A, after
Raffel et al., "T5" (2020). B utterances, F frames, D width, H heads, W taps.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechkit.nn.linear import gelu


class ConvPositions(nn.Module):
    """GELU of a grouped convolution over time, to be added to its input.

    The weight has a norm per tap: weight[:, :, t] = gain[t] · direction[:, :, t] / ‖direction[:, :, t]‖.
    """

    def __init__(self, dim: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.empty(1, 1, kernel))
        self.direction = nn.Parameter(torch.empty(dim, dim // groups, kernel))
        self.bias = nn.Parameter(torch.empty(dim))
        self.groups = groups
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight from N(0, 4 / (W · D)), as fairseq does."""
        dim, _, kernel = self.direction.shape
        nn.init.normal_(self.direction, std=math.sqrt(4 / (kernel * dim)))
        with torch.no_grad():
            self.gain.copy_(self._norm())
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Float `(B, F, D)` to what is added to it, `(B, F, D)`; padded frames must be zero."""
        kernel = self.gain.shape[2]
        weight = self.direction * (self.gain / self._norm())
        y = F.conv1d(x.transpose(1, 2), weight, self.bias, padding=kernel // 2, groups=self.groups)
        return gelu(y[:, :, : x.shape[1]]).transpose(1, 2)  # an even kernel gives one frame too many

    def _norm(self) -> Tensor:
        return self.direction.square().sum((0, 1), keepdim=True).sqrt()  # ten times as fast as vector_norm


class RelativeBias(nn.Module):
    """A learned bias `(H, F, F)` for attention by the distance from query to key."""

    def __init__(self, num_buckets: int, max_distance: int, num_heads: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_buckets, num_heads))
        self.max_distance = max_distance

    def forward(self, num_frames: int) -> Tensor:
        """The bias of query i and key j, `(H, F, F)`; it depends on j − i alone."""
        distances = torch.arange(1 - num_frames, num_frames, device=self.weight.device)
        by_distance = self.weight[distance_buckets(distances, len(self.weight), self.max_distance)].t()
        return by_distance.unfold(1, num_frames, 1).flip(1)


def distance_buckets(distances: Tensor, num_buckets: int, max_distance: int) -> Tensor:
    """The bucket of each distance (key − query).

    Half of the buckets are for keys that come later. Near distances have a bucket each, farther ones share buckets that
    grow with the logarithm, and all from about `max_distance` on share the last.
    """
    half = num_buckets // 2
    exact = half // 2
    size = distances.abs()
    growth = torch.log(size.clamp(min=1) / exact) / math.log(max_distance / exact) * (half - exact)
    far = (exact + growth.long()).clamp(max=half - 1)
    return torch.where(size < exact, size, far) + half * (distances > 0)
