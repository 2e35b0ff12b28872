from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from speechkit import draws
from speechkit.data.batch import Batch
from speechkit.nn.states import States
from speechkit.objectives.layer_drop import LayerDrop
from speechkit.objectives.masked_units import MaskedUnits, duplicates, frame_labels, labelled_frames, unit_losses

HOP = 4


def numbers(id: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=draws.generator(0, 0, "diffusion.noise", id), dtype=dtype)


def num_frames(lengths: Tensor) -> Tensor:
    return lengths // HOP


class ToyUnits(nn.Module):
    """Cosines of frames to class embeddings over a temperature of 0.1, as WavLM has them."""

    def __init__(self, classes: tuple[int, ...] = (5,), width: int = 6) -> None:
        super().__init__()
        self.frames = nn.Linear(HOP, width)
        self.projection = nn.Linear(width, width)
        self.embeddings = nn.ParameterList([numbers(f"embeddings{n}", n, width) for n in classes])
        self.dropped: list[frozenset[int]] = []
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(numbers(name, *parameter.shape))

    def encoder(
        self,
        waves: Tensor,
        lengths: Tensor,
        *,
        mask: Tensor,
        channel_mask: Tensor | None,
        dropped_layers: frozenset[int],
    ) -> States:
        self.dropped.append(dropped_layers)
        features = waves.unflatten(1, (-1, HOP))[:, : mask.shape[1]]
        output = self.frames(features.masked_fill(mask[..., None], 0.1)).tanh()
        if channel_mask is not None:
            output = output.masked_fill(channel_mask[:, None], 0.0)
        return States(output=output, lengths=num_frames(lengths), frame_rate=50.0, features=features)

    def logits(self, frames: Tensor) -> list[Tensor]:
        return [F.cosine_similarity(self.projection(frames)[:, None], e, dim=-1) / 0.1 for e in self.embeddings]

    def class_embeddings(self) -> list[Tensor]:
        return list(self.embeddings)


def batch(weights: tuple[float, ...] = (1.0, 1.0), sets: tuple[str, ...] = ("units",)) -> Batch:
    mask = torch.tensor([[0, 1, 1, 0, 0, 1], [1, 1, 0, 0, 1, 1]]).bool()  # the last two of row 1 are padding
    labels = {name: (torch.arange(12).view(2, 6) + k) % (5 - k) for k, name in enumerate(sets)}
    return Batch(
        ids=["a", "b"],
        number=3,
        epoch=0,
        waves=numbers("waves", 2, 24) * (torch.arange(24) < torch.tensor([[24], [16]])),
        lengths=torch.tensor([24, 16]),
        sample_rate=200,
        labels=labels,
        label_lengths={name: torch.tensor([6, 4]) for name in sets},
        weights=torch.tensor(weights),
        draws={"mask.time": mask},
    )


def objective(**options: object) -> MaskedUnits:
    return MaskedUnits(num_frames=num_frames, **options)


def expanded(logits: Tensor, embeddings: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    """The published form: the true class in column 0, then all classes with rows equal to it at minus infinity."""
    rows = []
    for row, target in zip(logits, targets, strict=True):
        equal = (embeddings == embeddings[target]).all(-1)
        rows.append(torch.cat([row[target : target + 1], row.masked_fill(equal, -torch.inf)]))
    table = torch.stack(rows)
    largest, smallest = table.argmax(-1) == 0, table.argmin(-1) == 0
    correct = int(largest.sum()) - int((largest & smallest).sum())
    return F.cross_entropy(table, torch.zeros_like(targets), reduction="none"), correct


@given(st.integers(1, 9), st.integers(2, 12), st.integers(0, 3), st.integers(0, 99))
def test_one_product_equals_the_expanded_form(num: int, classes: int, copies: int, seed: int) -> None:
    frames, embeddings = numbers(f"f{seed}", num, 3), numbers(f"e{seed}", classes, 3)
    for copy in range(min(copies, classes - 1)):
        embeddings[copy + 1] = embeddings[0]
    targets = (torch.arange(num) * 7 + seed) % classes
    logits = F.cosine_similarity(frames[:, None], embeddings, dim=-1) / 0.1
    losses, correct = unit_losses(logits, targets, duplicates(embeddings))
    expected, expected_correct = expanded(logits, embeddings, targets)
    assert torch.allclose(losses, expected, atol=1e-5)
    assert int(correct.sum()) == expected_correct


def test_equal_directions_that_are_not_equal_rows_count() -> None:
    assert duplicates(torch.tensor([[1.0, 2.0], [2.0, 4.0], [0.0, 1.0]])) is None
    equal = duplicates(torch.tensor([[1.0, 2.0], [0.0, 1.0], [1.0, 2.0]]))
    assert equal is not None
    assert equal.tolist() == [[False, False, True], [False, False, False], [True, False, False]]


def test_logits_that_are_no_numbers_are_not_correct() -> None:
    losses, correct = unit_losses(torch.full((2, 3), torch.nan), torch.tensor([0, 1]), None)
    assert losses.isnan().all()
    assert not correct.any()


def test_gradients_are_those_of_the_numbers() -> None:
    embeddings = numbers("e", 5, 3, dtype=torch.float64)
    embeddings[4] = embeddings[1]
    targets = torch.tensor([0, 1, 4, 2])

    def loss(frames: Tensor) -> Tensor:
        logits = F.cosine_similarity(frames[:, None], embeddings, dim=-1) / 0.1
        return unit_losses(logits, targets, duplicates(embeddings))[0]

    assert torch.autograd.gradcheck(loss, numbers("f", 4, 3, dtype=torch.float64).requires_grad_())


def test_only_masked_frames_that_are_real_are_predicted() -> None:
    model, given = ToyUnits(), batch()
    losses = objective()(model, given, 0)
    selected = [(0, 1), (0, 2), (0, 5), (1, 0), (1, 1)]
    states = model.encoder(
        given.waves, given.lengths, mask=given.draws["mask.time"], channel_mask=None, dropped_layers=frozenset()
    )
    frames = torch.stack([states.output[at] for at in selected])
    targets = torch.tensor([int(given.labels["units"][at]) for at in selected])
    expected, correct = expanded(model.logits(frames)[0], model.embeddings[0], targets)
    assert losses.terms["masked"].sum.item() == pytest.approx(expected.sum().item(), rel=1e-5)
    assert losses.terms["accuracy"].sum.item() == correct
    assert objective().counts(given) == {"masked": 5.0, "predicted": 5.0, "frames": 10.0, "utterances": 2.0}
    assert losses.terms["masked_share"].sum.item() == 5
    assert set(losses.terms) == {"masked", "accuracy", "feature_penalty", "masked_share"}
    assert losses.statistics["units"].tolist() == torch.bincount(targets, minlength=5).tolist()


def test_the_penalty_is_the_mean_square_of_all_features_times_the_count() -> None:
    given = batch()
    losses, counts = objective()(ToyUnits(), given, 0), objective().counts(given)
    mean_square = given.waves.square().mean().item()
    assert losses.terms["feature_penalty"].sum.item() == pytest.approx(mean_square * 5)
    total = losses.total(counts).item()
    assert total == pytest.approx(losses.terms["masked"].sum.item() / 5 + 10 * mean_square, rel=1e-5)


def test_unmasked_frames_have_a_weight_and_divide_too() -> None:
    task, given = objective(unmasked_weight=0.5, feature_penalty=0.0), batch()
    losses, counts = task(ToyUnits(), given, 0), task.counts(given)
    assert counts == {"masked": 5.0, "predicted": 10.0, "frames": 10.0, "utterances": 2.0}
    expected = (losses.terms["masked"].sum + 0.5 * losses.terms["unmasked"].sum) / 10
    assert losses.total(counts).item() == pytest.approx(expected.item())
    assert losses.terms["unmasked"].sum.item() > 0


def test_label_sets_add_up_over_one_count() -> None:
    sets = ("units.0", "units.1")
    task, given = objective(label_sets=sets, feature_penalty=0.0), batch(sets=sets)
    losses, counts = task(ToyUnits((5, 4)), given, 0), task.counts(given)
    assert {"masked.0", "masked.1", "accuracy.0", "accuracy.1"} <= set(losses.terms)
    assert counts["predicted"] == 5
    expected = (losses.terms["masked.0"].sum + losses.terms["masked.1"].sum) / 5
    assert losses.total(counts).item() == pytest.approx(expected.item())


def test_a_bad_utterance_counts_nowhere() -> None:
    task, model, given = objective(feature_penalty=0.0, unmasked_weight=0.5), ToyUnits(), batch()
    bad = replace(given, weights=torch.tensor([0.0, 1.0]))
    alone = one_row(given, 1)
    losses, expected = task(model, bad, 0), task(model, alone, 0)
    for name, term in losses.terms.items():
        assert term.sum.item() == pytest.approx(expected.terms[name].sum.item(), rel=1e-5)
    assert losses.statistics["units"].tolist() == expected.statistics["units"].tolist()
    assert task.counts(bad) == task.counts(alone) == {"masked": 2.0, "predicted": 4.0, "frames": 4.0, "utterances": 1.0}


def test_micro_batches_add_up_to_the_joined_batch() -> None:
    task, given, model = objective(), batch(), ToyUnits()
    counts = task.counts(given)
    task(model, given, 0).total(counts).backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    parts = [one_row(given, row) for row in range(2)]
    assert counts == {k: sum(task.counts(p)[k] for p in parts) for k in counts}
    for part in parts:  # the penalty of a part is its own mean: without it the gradients are equal
        objective(feature_penalty=0.0)(model, part, 0).total(counts).backward()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-5)


def one_row(given: Batch, row: int) -> Batch:
    return replace(
        given,
        ids=[given.ids[row]],
        waves=given.waves[row : row + 1],
        lengths=given.lengths[row : row + 1],
        labels={k: v[row : row + 1] for k, v in given.labels.items()},
        label_lengths={k: v[row : row + 1] for k, v in given.label_lengths.items()},
        weights=given.weights[row : row + 1],
        draws={k: v[row : row + 1] for k, v in given.draws.items()},
    )


def test_frames_without_labels_are_left_out() -> None:
    given = replace(batch(), label_lengths={"units": torch.tensor([4, 2])})
    assert objective().counts(given) == {"masked": 4.0, "predicted": 4.0, "frames": 6.0, "utterances": 2.0}
    assert objective()(ToyUnits(), given, 0).terms["masked_share"].sum.item() == 4


def test_frames_beyond_the_labels_of_the_batch_are_cut_off() -> None:
    given = batch()
    shorter = replace(
        given, labels={"units": given.labels["units"][:, :4]}, label_lengths={"units": torch.tensor([4, 4])}
    )
    losses = objective()(ToyUnits(), shorter, 0)
    assert objective().counts(shorter) == {"masked": 4.0, "predicted": 4.0, "frames": 8.0, "utterances": 2.0}
    mean_square = given.waves[:, :16].square().mean().item()
    assert losses.terms["feature_penalty"].sum.item() == pytest.approx(mean_square * 4)


def test_labels_at_twice_the_frame_rate_take_every_other_one() -> None:
    labels = torch.arange(20).view(2, 10)
    assert frame_labels(labels, 6, 2.0).tolist() == [[0, 2, 4, 6, 8, 9], [10, 12, 14, 16, 18, 19]]
    assert labelled_frames(torch.tensor([6, 4, 5]), torch.tensor([10, 10, 9]), 2.0).tolist() == [5, 4, 4]
    assert labelled_frames(torch.tensor([6]), torch.tensor([7]), 1.0).tolist() == [6]
    assert frame_labels(torch.arange(4)[None], 6, 0.5).tolist() == [[0, 0, 1, 1, 2, 2]]


def test_guessing_is_measured_by_entropy_and_largest_share() -> None:
    measures = objective().measures({"units": torch.tensor([2.0, 2.0, 0.0]), "units.1": torch.tensor([3.0, 1.0])})
    assert measures["entropy"] == pytest.approx(math.log(2))
    assert measures["largest_share"] == 0.5
    assert measures["largest_share.1"] == 0.75
    assert objective().measures({"units": torch.zeros(3)}) == {}


def test_a_batch_without_masked_frames_has_a_loss_of_0() -> None:
    given = replace(batch(), draws={"mask.time": torch.zeros(2, 6, dtype=torch.bool)})
    losses = objective(feature_penalty=0.0)(ToyUnits(), given, 0)
    assert losses.total(objective().counts(given)).item() == 0


def test_twenty_steps_lower_the_loss() -> None:
    model, task, given = ToyUnits(), objective(feature_penalty=0.0), batch()
    adam = torch.optim.Adam(model.parameters(), lr=0.05)
    values = []
    for step in range(20):
        loss = task(model, given, step).total(task.counts(given))
        adam.zero_grad()
        loss.backward()
        adam.step()
        values.append(loss.item())
    assert values[-1] < 0.5 * values[0]


def test_layers_are_dropped_by_micro_batch_in_training_only_and_never_the_first() -> None:
    drop = LayerDrop(num_layers=12, probability=0.3, seed=1)
    sets = [drop(SimpleNamespace(epoch=0, number=n)) for n in range(400)]
    assert not any(0 in dropped for dropped in sets)
    assert sum(map(len, sets)) / (400 * 11) == pytest.approx(0.3, abs=0.03)
    assert sets[7] == drop(SimpleNamespace(epoch=0, number=7))
    assert len(set(sets)) > 100
    model, task = ToyUnits(), objective(layer_drop=drop)
    task(model, batch(), 0)
    task(model.eval(), batch(), 0)
    objective()(model.train(), batch(), 0)
    assert model.dropped == [sets[3], frozenset(), frozenset()]
    assert sets[3]


def test_channels_are_masked_where_they_were_drawn() -> None:
    given = batch()
    with_channels = replace(given, draws={**given.draws, "mask.feat": torch.tensor([[True] * 3 + [False] * 3] * 2)})
    a, b = (objective()(ToyUnits(), g, 0).terms["masked"].sum.item() for g in (given, with_channels))
    assert a != b


def test_the_realized_overlap_is_reported_over_good_utterances() -> None:
    given = batch(weights=(0.0, 1.0))
    mixed = replace(given, draws={**given.draws, "mix.overlap": torch.tensor([0.5, 0.25])})
    overlap = objective()(ToyUnits(), mixed, 0).terms["overlap"]
    assert (overlap.sum.item(), overlap.count, overlap.weight) == (0.25, "utterances", 0.0)
