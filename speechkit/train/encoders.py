"""How the layers of encoders are run while a network is trained."""

from __future__ import annotations

from torch import nn

from speechkit.nn.encoder import Encoder
from speechkit.nn.layer import EncoderLayer
from speechkit.train.settings import TrainSettings


def prepare_encoders(model: nn.Module, settings: TrainSettings) -> None:
    """Set `recompute` and `compile` up for every encoder in a network; names of parameters stay as they are."""
    for module in model.modules():
        if isinstance(module, Encoder):
            module.recompute = settings.recompute
    if settings.compile:
        compile_encoders(model)


def compile_encoders(model: nn.Module) -> None:
    """Put every layer of every encoder in a network through `torch.compile`."""
    for module in model.modules():
        if isinstance(module, EncoderLayer):
            # lengths vary from batch to batch; dropout is drawn as without it
            module.compile(dynamic=True, options={"fallback_random": True})
