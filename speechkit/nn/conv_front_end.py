"""The strided convolutions that turn waveforms into frames: wav2vec 2.0's, HuBERT's and WavLM's.

Source: Baevski et al., "wav2vec 2.0" (2020), section 2; `ConvFeatureExtractionModel` of fairseq.
B utterances, T samples, F frames (of the layer at hand), C channels, W taps of the first kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechkit.nn.lengths import valid_frames
from speechkit.nn.linear import gelu

ConvLayers = Sequence[tuple[int, int, int]]


class ConvFrontEnd(nn.Module):
    """Convolutions without padding, each followed by GELU, channels last throughout.

    Args:
        layers: (channels, kernel, stride) of each.
        norm: `group`: each channel of the first convolution is normalized over time, over the utterance's own frames;
            `layer`: every convolution is followed by a LayerNorm over channels.
        bias: whether the convolutions have biases.
        published_group_norm: count the padding among the frames of the group norm, as published code does; what a row
            becomes then depends on the batch it is in.
    """

    def __init__(
        self, layers: ConvLayers, norm: Literal["group", "layer"], *, bias: bool, published_group_norm: bool = False
    ) -> None:
        super().__init__()
        inputs = [1, *(channels for channels, _, _ in layers)]
        self.convs = nn.ModuleList(
            _FrameConv(i, channels, kernel, stride, bias=bias)
            for i, (channels, kernel, stride) in zip(inputs, layers, strict=False)
        )
        if norm == "group":
            self.norms = nn.ModuleList([nn.GroupNorm(layers[0][0], layers[0][0])])
        else:
            self.norms = nn.ModuleList(_Float32LayerNorm(channels) for channels, _, _ in layers)
        self.layers = tuple(layers)
        self.norm = norm
        self.published_group_norm = published_group_norm

    def forward(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """Float `(B, T)` to features `(B, F, C)`; what padding becomes is not defined."""
        if self.norm == "group":
            x = gelu(self._first_normalized(waves, lengths))
            for conv in self.convs[1:]:
                x = gelu(conv(x))
            return x
        x = waves[:, :, None]
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = gelu(norm(conv(x)))
        return x

    def num_frames(self, lengths: Tensor) -> Tensor:
        """How many frames each of `(B,)` lengths in samples gives; 0 below the receptive field."""
        for _, kernel, stride in self.layers:
            lengths = ((lengths - kernel).div(stride, rounding_mode="floor") + 1).clamp(min=0)
        return lengths

    def _first_normalized(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """The first convolution and its group norm as one product, in float32.

        The convolution is linear: mean and variance of its output over time follow from mean and covariance of its
        windows, so the normalization is folded into weights and bias of each row. (A bias of the convolution cancels.)
        """
        conv, norm = cast("nn.Conv1d", self.convs[0]), cast("nn.GroupNorm", self.norms[0])
        exact = torch.float32 if waves.device.type == "mps" else torch.float64  # small variances of large windows
        with torch.autocast(waves.device.type, enabled=False):
            windows = waves.float().unfold(1, conv.kernel_size[0], conv.stride[0])  # (B, F, W)
            mean, covariance = self._moments(windows.to(exact), lengths)
            weight = conv.weight[:, 0].to(exact)
            variance = (weight @ covariance * weight).sum(-1)
            scale = norm.weight * (variance + norm.eps).rsqrt()
            shift = norm.bias - (mean @ weight.t()) * scale
            weights = weight.t() * scale[:, None]
            return torch.baddbmm(shift[:, None].float(), windows, weights.float())

    def _moments(self, windows: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Mean `(B, W)` and covariance `(B, W, W)` of the windows that lie within each row."""
        num_frames = windows.shape[1]
        _, kernel, stride = self.layers[0]
        counts = ((lengths - kernel).div(stride, rounding_mode="floor") + 1).clamp(min=1)
        if self.published_group_norm:
            counts = torch.full_like(counts, num_frames)
        valid = valid_frames(counts, num_frames)[:, :, None]
        mean = (windows * valid).sum(1) / counts[:, None]
        centered = (windows - mean[:, None]) * valid
        return mean, centered.transpose(1, 2) @ centered / counts[:, None, None]


class _FrameConv(nn.Conv1d):
    """A strided convolution over frames `(B, F, C)`, drawn as fairseq does (its bias as torch does)."""

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.kaiming_normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.weight.dtype)
        if self.in_channels == 1:
            return F.linear(x[:, :, 0].unfold(1, self.kernel_size[0], self.stride[0]), self.weight[:, 0], self.bias)
        image = x.transpose(1, 2).unsqueeze(2)  # of one line, and channels last already
        y = F.conv2d(image, self.weight.unsqueeze(2), self.bias, stride=(1, self.stride[0]))
        return y.squeeze(2).transpose(1, 2)


class _Float32LayerNorm(nn.LayerNorm):
    """LayerNorm in float32, whatever comes in and whatever autocast says."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            y = F.layer_norm(x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps)
        return y.to(x.dtype)
