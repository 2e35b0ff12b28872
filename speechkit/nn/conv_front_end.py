"""The strided convolutions that turn waveforms into frames: wav2vec 2.0's, HuBERT's and WavLM's.

Source: Baevski et al., "wav2vec 2.0" (2020), section 2; `ConvFeatureExtractionModel` of fairseq.
B utterances, T samples, F frames (of the layer at hand), C channels, W taps of the first kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

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
            nn.Conv1d(i, channels, kernel, stride, bias=bias)
            for i, (channels, kernel, stride) in zip(inputs, layers, strict=False)
        )
        if norm == "group":
            self.norms = nn.ModuleList([nn.GroupNorm(layers[0][0], layers[0][0])])
        else:
            self.norms = nn.ModuleList(nn.LayerNorm(channels) for channels, _, _ in layers)
        self.layers = tuple(layers)
        self.norm = norm
        self.published_group_norm = published_group_norm
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as fairseq does (biases keep torch's default)."""
        for conv in self.convs:
            nn.init.kaiming_normal_(conv.weight)

    def forward(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """Float `(B, T)` to features `(B, F, C)`; what padding becomes is not defined."""
        if self.norm == "group":
            x = self._first_normalized(waves, lengths)
        else:
            first = self.convs[0]
            windows = self._windows(waves).to(first.weight.dtype)
            x = self._layer_norm(F.linear(windows, first.weight[:, 0], first.bias), 0)
        x = gelu(x)
        for number in range(1, len(self.convs)):
            x = self._convolve(x, number)
            x = gelu(self._layer_norm(x, number) if self.norm == "layer" else x)
        return x

    def num_frames(self, lengths: Tensor) -> Tensor:
        """How many frames each of `(B,)` lengths in samples gives; 0 below the receptive field."""
        for _, kernel, stride in self.layers:
            lengths = ((lengths - kernel).div(stride, rounding_mode="floor") + 1).clamp(min=0)
        return lengths

    def _windows(self, waves: Tensor) -> Tensor:
        """What each frame of the first convolution sees, `(B, F, W)`."""
        _, kernel, stride = self.layers[0]
        return waves.unfold(1, kernel, stride)

    def _convolve(self, x: Tensor, number: int) -> Tensor:
        conv = self.convs[number]
        rows = x.to(conv.weight.dtype).transpose(1, 2).unsqueeze(2)  # an image of one line: channels last is its layout
        y = F.conv2d(rows, conv.weight.unsqueeze(2), conv.bias, stride=(1, conv.stride[0]))
        return y.squeeze(2).transpose(1, 2)

    def _layer_norm(self, x: Tensor, number: int) -> Tensor:
        norm = self.norms[number]
        y = F.layer_norm(x.float(), norm.normalized_shape, norm.weight.float(), norm.bias.float(), norm.eps)
        return y.to(x.dtype)

    def _first_normalized(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """The first convolution and its group norm as one product, in float32.

        The convolution is linear: mean and variance of its output over time follow from mean and covariance of its
        windows, so the normalization is folded into weights and bias of each row. (A bias of the convolution cancels.)
        """
        conv, norm = self.convs[0], self.norms[0]
        exact = torch.float32 if waves.device.type == "mps" else torch.float64  # small variances of large windows
        with torch.autocast(waves.device.type, enabled=False):
            windows = self._windows(waves.float())
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
