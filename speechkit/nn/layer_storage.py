"""States of layers, made ready to be written to a file."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def storable(layers: Sequence[Tensor], dtype: torch.dtype, *, normalize: bool = False) -> list[Tensor]:
    """Cast the states of layers to the number type of a file.

    The last raw layers of large models with pre-norm grow beyond all bounds on what is no speech: float16, which ends
    at 65504, would store infinities. Whether it does depends on the recording, so raw states in float16 are refused.

    Args:
        layers: float `(…, D)` each.
        dtype: of the file.
        normalize: bring every frame to mean 0 and variance 1 first.

    Raises:
        ValueError: raw states in float16.
    """
    if dtype == torch.float16 and not normalize:
        raise ValueError("raw layer states do not fit float16: normalize them, or store bfloat16 or float32")
    ready = [F.layer_norm(x.float(), x.shape[-1:]) if normalize else x for x in layers]
    return [x.to(dtype) for x in ready]
