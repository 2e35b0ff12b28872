"""The network of transformers in ONNX Runtime, float32 and int8."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.networks import batches, their_model
from bench.timing import Output, Work

FLOAT32, INT8 = "float32.onnx", "int8.onnx"
_FEWEST, _MOST = 4000, 960_000  # samples


def export(folder: Path) -> None:
    """Write the network of transformers as ONNX, for any batch and length, and with its products in int8.

    Weights are quantized once, inputs as they come: dynamic quantization, which needs no recordings to calibrate.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    waves = batches([1.0, 1.0])[0][0]
    any_shape = {"waves": {0: torch.export.Dim("batch"), 1: torch.export.Dim("samples", min=_FEWEST, max=_MOST)}}
    logging.disable(logging.WARNING)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _LastState(their_model(folder)).eval(), (waves,), folder / FLOAT32,
            dynamo=True, input_names=["waves"], dynamic_shapes=any_shape, verbose=False,
        )  # fmt: skip
        quantize_dynamic(
            folder / FLOAT32, folder / INT8, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"]
        )
    logging.disable(logging.NOTSET)


def onnx_forward(path: Path, seconds: list[float], *, alone: bool = False) -> Work:
    """Forward of one batch, or of each utterance alone; rows of a batch must be equally long."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = [waves.numpy() for waves, _ in batches(seconds, alone=alone)]

    def work() -> Output:
        return [row for waves in given for row in session.run(None, {"waves": waves})[0]]

    return work


class _LastState(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, waves: Tensor) -> Tensor:
        states: Tensor = self.model(waves).last_hidden_state
        return states
