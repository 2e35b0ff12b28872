"""Linear layers and activations where a CPU has faster kernels than the obvious ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MIN_FRAMES = 96  # below, oneDNN's set-up costs more than its kernels save
_MIN_NUMBERS = 20481  # torch itself does not hand smaller inputs to oneDNN


class Linear(nn.Linear):
    """A linear map of frames `(B, F, C)`, the same numbers as `nn.Linear` to rounding.

    On a CPU many frames go through a 1×1 convolution: that is oneDNN, which uses AVX-512 on every processor, while the
    BLAS of torch's wheels does so on Intel's only (measured on an AMD EPYC: 220 against 105 GFLOP/s, backward too).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map float `(B, F, C)` to `(B, F, C')`."""
        if x.device.type != "cpu" or x.numel() < max(_MIN_NUMBERS, _MIN_FRAMES * self.in_features):
            return super().forward(x)
        pixels = x.transpose(1, 2).unsqueeze(2)  # channels last already
        # dilation means nothing to one tap, but makes torch choose oneDNN with a single thread as well
        y = F.conv2d(pixels, self.weight[:, :, None, None], self.bias, dilation=2)
        return y.squeeze(2).transpose(1, 2)


def gelu(x: Tensor) -> Tensor:
    """Exact (erf) GELU; in place where no gradient needs the input, which must belong to the caller."""
    return F.gelu(x) if torch.is_grad_enabled() else torch.ops.aten.gelu_(x)
