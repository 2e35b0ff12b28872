"""Predict the hidden unit of every masked frame: HuBERT's and WavLM's pre-training loss.

Source: Hsu et al., "HuBERT" (2021), section II; Chen et al., "WavLM" (2022), section III. Letters: B utterances,
F frames, L labels, C classes of a label set, N selected frames, E width of a class embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from speechkit.data.batch import Batch
from speechkit.metrics.units import entropy
from speechkit.nn.lengths import valid_frames
from speechkit.nn.states import States
from speechkit.objectives.layer_drop import LayerDrop
from speechkit.objectives.losses import Losses, Term


class UnitModel(Protocol):
    """An encoder with a prediction head: cosines to class embeddings over a temperature."""

    training: bool

    @property
    def encoder(self) -> Callable[..., States]:
        """Waves and lengths to states; takes `mask`, `channel_mask` and `dropped_layers` too."""

    def logits(self, frames: Tensor) -> Sequence[Tensor]:
        """Logits float32 `(N, C)` of every label set for encoder outputs `(N, D)`."""

    def class_embeddings(self) -> Sequence[Tensor]:
        """Class embeddings `(C, E)` of every label set, as the logits use them."""


class MaskedUnits:
    """Cross entropy over the classes of each label set at masked frames, and a penalty on the features.

    A batch holds the mask as `draws["mask.time"]`, bool `(B, F)`, and its labels under `label_sets`, int64 `(B, L)`.
    Frames beyond the labels of the batch are cut off, those beyond the labels of their row are not predicted. Where
    utterances were mixed, `draws["mix.overlap"]` `(B,)` is the share of each that was overlapped, to be reported.

    Args:
        num_frames: samples `(B,)` to frames `(B,)`, of the model.
        labels_per_frame: label rate over frame rate; frame t is given label floor(t · labels_per_frame).
        label_sets: keys of the labels, in the order of the model's label sets.
        masked_weight: weight of the masked frames.
        unmasked_weight: weight of the other frames; at 0 they are not computed.
        feature_penalty: weight of the mean square of the front end's output.
        layer_drop: drops layers in training.
    """

    def __init__(
        self,
        *,
        num_frames: Callable[[Tensor], Tensor],
        labels_per_frame: float = 1.0,
        label_sets: Sequence[str] = ("units",),
        masked_weight: float = 1.0,
        unmasked_weight: float = 0.0,
        feature_penalty: float = 10.0,
        layer_drop: LayerDrop | None = None,
    ) -> None:
        self.num_frames = num_frames
        self.labels_per_frame = labels_per_frame
        self.label_sets = tuple(label_sets)
        self.masked_weight = masked_weight
        self.unmasked_weight = unmasked_weight
        self.feature_penalty = feature_penalty
        self.layer_drop = layer_drop

    def counts(self, batch: Batch) -> dict[str, float]:
        """Frames of good utterances: `masked`, `predicted` (what divides the loss), all `frames`; and `utterances`."""
        masked, unmasked = (float((m.sum(1) * batch.weights).sum()) for m in self._select(batch))
        predicted = masked + unmasked if self.unmasked_weight else masked
        utterances = float(batch.weights.sum())
        return {"masked": masked, "predicted": predicted, "frames": masked + unmasked, "utterances": utterances}

    def __call__(self, model: UnitModel, batch: Batch, step: int) -> Losses:  # noqa: ARG002 the same at every step
        """Sums of the losses, of correct predictions and of masked frames; unit histograms as statistics."""
        states = model.encoder(
            batch.waves,
            batch.lengths,
            mask=self._mask(batch),
            channel_mask=batch.draws.get("mask.feat"),
            dropped_layers=self.layer_drop(batch) if self.layer_drop and model.training else frozenset(),
        )
        masked, unmasked = self._select(batch)
        terms, statistics = self._predict(model, batch, states.output, masked, "masked", self.masked_weight)
        count = (masked.sum(1) * batch.weights).sum()
        if self.unmasked_weight:
            more, _ = self._predict(model, batch, states.output, unmasked, "unmasked", self.unmasked_weight)
            terms |= more
            count = count + (unmasked.sum(1) * batch.weights).sum()
        if self.feature_penalty:
            assert states.features is not None
            mean_square = states.features.float().square().mean()
            terms["feature_penalty"] = Term(sum=mean_square * count, count="predicted", weight=self.feature_penalty)
        terms["masked_share"] = Term(sum=(masked.sum(1) * batch.weights).sum(), count="frames", weight=0.0)
        if "mix.overlap" in batch.draws:
            overlap = (batch.draws["mix.overlap"] * batch.weights).sum()
            terms["overlap"] = Term(sum=overlap, count="utterances", weight=0.0)
        return Losses(terms=terms, statistics=statistics)

    def measures(self, statistics: Mapping[str, Tensor]) -> dict[str, float]:
        """What guessing would reach: the entropy of the masked units in nats and the share of the commonest one."""
        measures = {}
        for name, histogram in statistics.items():
            counts = histogram.long().cpu().numpy()
            if not counts.any():
                continue
            measures["entropy" + name.removeprefix("units")] = entropy(counts)
            measures["largest_share" + name.removeprefix("units")] = float(counts.max() / counts.sum())
        return measures

    def example(self, model: UnitModel, batch: Batch) -> str:  # noqa: ARG002 units are nothing to read
        """Nothing."""
        return ""

    def _mask(self, batch: Batch) -> Tensor:
        """The mask without the frames for which no row can have a label."""
        mask = batch.draws["mask.time"]
        labels = [batch.labels[name] for name in self.label_sets]
        num_labels = min(row.shape[1] for row in labels if isinstance(row, Tensor))
        return mask[:, : int(num_labels / self.labels_per_frame)]

    def _select(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The masked and the other frames that have labels, bool `(B, F)` each."""
        assert batch.lengths is not None
        mask = self._mask(batch)
        frames = self.num_frames(batch.lengths)
        for name in self.label_sets:
            frames = labelled_frames(frames, batch.label_lengths[name], self.labels_per_frame)
        valid = valid_frames(frames.to(mask.device), mask.shape[1])
        return mask & valid, ~mask & valid

    def _predict(
        self, model: UnitModel, batch: Batch, output: Tensor, selected: Tensor, name: str, weight: float
    ) -> tuple[dict[str, Term], dict[str, Tensor]]:
        """Loss and accuracy of the selected frames for every label set, and how often each unit was to be found."""
        terms, histograms = {}, {}
        row_weights = batch.weights[:, None].expand(selected.shape)[selected]
        all_logits, all_embeddings = model.logits(output[selected]), model.class_embeddings()
        for key, logits, embeddings in zip(self.label_sets, all_logits, all_embeddings, strict=True):
            labels = batch.labels[key]
            assert isinstance(labels, Tensor)
            targets = frame_labels(labels, selected.shape[1], self.labels_per_frame)[selected]
            losses, correct = unit_losses(logits, targets, duplicates(embeddings))
            label_set = key.removeprefix("units")
            terms[name + label_set] = Term(sum=(losses * row_weights).sum(), count="predicted", weight=weight)
            if name == "masked":
                terms["accuracy" + label_set] = Term(sum=(correct * row_weights).sum(), count="masked", weight=0.0)
                histograms[key] = torch.bincount(targets, weights=row_weights, minlength=logits.shape[1])
        return terms, histograms


def labelled_frames(num_frames: Tensor, num_labels: Tensor, labels_per_frame: float) -> Tensor:
    """How many of the frames `(B,)` have a label, for rows of `num_labels` `(B,)` labels."""
    reached = (num_labels / labels_per_frame).long().to(num_frames.device)
    return torch.where(labels_per_frame * num_frames > num_labels.to(num_frames.device), reached, num_frames)


def frame_labels(labels: Tensor, num_frames: int, labels_per_frame: float) -> Tensor:
    """The label of every frame, `(B, L)` to `(B, num_frames)`; beyond the last label it repeats."""
    index = (torch.arange(num_frames, device=labels.device) * labels_per_frame).long()
    return labels[:, index.clamp(max=labels.shape[1] - 1)]


def unit_losses(logits: Tensor, targets: Tensor, equal: Tensor | None) -> tuple[Tensor, Tensor]:
    """Cross entropy of every frame and whether its unit has the largest logit.

    Args:
        logits: float `(N, C)`.
        targets: int64 `(N,)`.
        equal: bool `(C, C)` of `duplicates`: the classes that must not count against a target.

    Returns:
        float `(N,)` and bool `(N,)`. A frame whose logits are NaN is not correct.
    """
    if equal is not None:
        logits = logits.masked_fill(equal[targets], -torch.inf)
    losses = F.cross_entropy(logits, targets, reduction="none")
    return losses, logits.gather(1, targets[:, None])[:, 0] >= logits.amax(1)


def duplicates(embeddings: Tensor) -> Tensor | None:
    """For each class the others whose embedding is exactly equal, bool `(C, C)`; None when all `(C, E)` differ."""
    _, group, sizes = torch.unique(embeddings.detach(), dim=0, return_inverse=True, return_counts=True)
    if len(sizes) == len(embeddings):
        return None
    return (group[:, None] == group).fill_diagonal_(False)
