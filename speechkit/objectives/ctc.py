"""Connectionist temporal classification: the probability of a text, summed over all its alignments to the frames.

Source: Graves et al., "Connectionist Temporal Classification" (ICML 2006).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from speechkit.data.batch import Batch
from speechkit.decode.ctc import greedy
from speechkit.decode.vocabulary import Vocabulary
from speechkit.nn.lengths import valid_frames
from speechkit.objectives.layer_drop import LayerDrop
from speechkit.objectives.losses import Losses, Term


class CTCModel(Protocol):
    """A network from waves to logits `(B, F, V)` with `lengths` `(B,)` in frames."""

    training: bool

    @property
    def vocabulary(self) -> Vocabulary:
        """What the V columns of the logits stand for."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Waves and lengths to logits; takes `mask`, `channel_mask` and `dropped_layers` too."""


class CTC:
    """The negative log likelihood of each sentence, summed and divided by the number of sentences.

    A batch holds `labels["tokens"]`, int64 `(B, S)`, and, where frames and channels are masked, `draws["mask.time"]`
    and `draws["mask.feat"]`. A sentence with more tokens than frames can hold counts as 0.

    Args:
        num_frames: samples `(B,)` to frames `(B,)`, of the model.
        layer_drop: drops layers in training.
    """

    def __init__(self, *, num_frames: Callable[[Tensor], Tensor], layer_drop: LayerDrop | None = None) -> None:
        self.num_frames = num_frames
        self.layer_drop = layer_drop

    def counts(self, batch: Batch) -> dict[str, float]:
        """Good `sentences` and their `frames`."""
        assert batch.lengths is not None
        frames = self.num_frames(batch.lengths).to(batch.weights)
        return {"sentences": float(batch.weights.sum()), "frames": float((frames * batch.weights).sum())}

    def __call__(self, model: CTCModel, batch: Batch, step: int) -> Losses:  # noqa: ARG002 the same at every step
        """The sum of the losses, and the number of frames whose best symbol is the blank."""
        output = model(
            batch.waves,
            batch.lengths,
            mask=batch.draws.get("mask.time"),
            channel_mask=batch.draws.get("mask.feat"),
            dropped_layers=self.layer_drop(batch) if self.layer_drop and model.training else frozenset(),
        )
        tokens, blank = batch.labels["tokens"], model.vocabulary.blank
        assert isinstance(tokens, Tensor)
        losses = ctc_losses(output.logits, output.lengths, tokens, batch.label_lengths["tokens"], blank)
        valid = valid_frames(output.lengths, output.logits.shape[1])
        blanks = ((output.logits.detach().argmax(-1) == blank) & valid).sum(1)
        return Losses(
            terms={
                "ctc": Term(sum=(losses * batch.weights).sum(), count="sentences"),
                "blank_share": Term(sum=(blanks * batch.weights).sum(), count="frames", weight=0.0),
            }
        )

    def measures(self, statistics: Mapping[str, Tensor]) -> dict[str, float]:  # noqa: ARG002 there are none
        """Nothing."""
        return {}

    @torch.no_grad()
    def example(self, model: CTCModel, batch: Batch) -> str:
        """The text of the first utterance and what the model reads in it: `reference → hypothesis`."""
        assert batch.waves is not None
        assert batch.lengths is not None
        tokens = batch.labels["tokens"]
        assert isinstance(tokens, Tensor)
        output = model(batch.waves[:1, : int(batch.lengths[0])], batch.lengths[:1])
        hypothesis = greedy(output.logits, output.lengths, blank=model.vocabulary.blank)[0]
        reference = tokens[0, : int(batch.label_lengths["tokens"][0])].tolist()
        return f"{model.vocabulary.text(reference)} → {model.vocabulary.text(hypothesis)}"


def ctc_losses(logits: Tensor, lengths: Tensor, tokens: Tensor, token_lengths: Tensor, blank: int) -> Tensor:
    """The CTC loss of every sentence in float32, `(B,)`; 0 where no alignment exists.

    Args:
        logits: float `(B, F, V)`.
        lengths: int64 `(B,)` frames.
        tokens: int64 `(B, S)`; what lies beyond a row's length does not matter.
        token_lengths: int64 `(B,)`.
        blank: the column of the blank.
    """
    log_probs = logits.float().log_softmax(-1).transpose(0, 1)
    return F.ctc_loss(log_probs, tokens, lengths, token_lengths, blank, reduction="none", zero_infinity=True)
