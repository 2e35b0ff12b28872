"""How the layers of encoders are run while a network is trained."""

from __future__ import annotations

from torch import nn

from speechkit.nn.encoder import Encoder
from speechkit.train.settings import TrainSettings


def prepare_encoders(model: nn.Module, settings: TrainSettings) -> None:
    """Set `recompute` and `compile` up for every encoder in a network; names of parameters stay as they are."""
    for encoder in (module for module in model.modules() if isinstance(module, Encoder)):
        encoder.recompute = settings.recompute
        if settings.compile:
            for layer in encoder.layers:
                # lengths vary from batch to batch; dropout is drawn as without it
                layer.compile(dynamic=True, options={"fallback_random": True})
