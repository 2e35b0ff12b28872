from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from speechkit import draws
from speechkit.data.batch import Batch
from speechkit.decode.vocabulary import Vocabulary
from speechkit.objectives.ctc import CTC, ctc_losses
from speechkit.objectives.layer_drop import LayerDrop

HOP = 4


def numbers(id: str, *shape: int) -> Tensor:
    return torch.randn(shape, generator=draws.generator(0, 0, "diffusion.noise", id))


def num_frames(lengths: Tensor) -> Tensor:
    return lengths // HOP


@dataclass
class Output:
    logits: Tensor
    lengths: Tensor


class ToyCTC(nn.Module):
    vocabulary = Vocabulary(symbols=("<s>", "a", "b", "|"), blank=0)

    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(HOP, 4)
        self.given: dict[str, object] = {}
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(numbers(name, *parameter.shape))

    def forward(self, waves: Tensor, lengths: Tensor, **given: object) -> Output:
        self.given = given
        return Output(self.output(waves.unflatten(1, (-1, HOP))), num_frames(lengths))


def batch(weights: tuple[float, ...] = (1.0, 1.0)) -> Batch:
    return Batch(
        ids=["x", "y"],
        number=5,
        epoch=0,
        waves=numbers("waves", 2, 24) * (torch.arange(24) < torch.tensor([[24], [16]])),
        lengths=torch.tensor([24, 16]),
        sample_rate=200,
        labels={"tokens": torch.tensor([[1, 3, 2], [2, 0, 0]])},
        label_lengths={"tokens": torch.tensor([3, 1])},
        weights=torch.tensor(weights),
    )


def objective(layer_drop: LayerDrop | None = None) -> CTC:
    return CTC(num_frames=num_frames, layer_drop=layer_drop)


def collapsed(path: tuple[int, ...]) -> list[int]:
    return [symbol for symbol, _ in itertools.groupby(path) if symbol]


def test_the_loss_is_the_sum_over_all_alignments() -> None:
    logits = numbers("logits", 2, 5, 3)
    tokens, lengths = torch.tensor([[1, 1, 2], [2, 0, 0]]), torch.tensor([5, 3])
    losses = ctc_losses(logits, lengths, tokens, torch.tensor([3, 1]), 0)
    for row, wanted in ((0, [1, 1, 2]), (1, [2])):
        probs = logits[row, : lengths[row]].softmax(-1)
        paths = [p for p in itertools.product(range(3), repeat=int(lengths[row])) if collapsed(p) == wanted]
        total = sum(torch.stack([probs[f, s] for f, s in enumerate(path)]).prod() for path in paths)
        assert losses[row].item() == pytest.approx(-total.log().item(), rel=1e-5)


def test_losses_are_computed_in_float32() -> None:
    logits = numbers("logits", 1, 5, 3).bfloat16()
    arguments = torch.tensor([5]), torch.tensor([[1, 2]]), torch.tensor([2]), 0
    losses = ctc_losses(logits, *arguments)
    assert losses.dtype == torch.float32
    assert torch.equal(losses, ctc_losses(logits.float(), *arguments))


def test_what_cannot_be_aligned_costs_nothing_and_has_no_gradient() -> None:
    logits = numbers("logits", 1, 2, 3).requires_grad_()
    losses = ctc_losses(logits, torch.tensor([2]), torch.tensor([[1, 1]]), torch.tensor([2]), 0)
    losses.sum().backward()
    assert losses.item() == 0
    assert not logits.grad.any()


def test_the_sum_is_divided_by_sentences() -> None:
    model, given = ToyCTC(), batch()
    losses, counts = objective()(model, given, 0), objective().counts(given)
    single = ctc_losses(model(given.waves, given.lengths).logits, num_frames(given.lengths),
                        given.labels["tokens"], given.label_lengths["tokens"], 0)  # fmt: skip
    assert counts == {"sentences": 2.0, "frames": 10.0}
    assert losses.total(counts).item() == pytest.approx(single.mean().item())


def test_padding_does_not_change_the_loss_or_the_blanks() -> None:
    model, given = ToyCTC(), batch()
    longer = replace(
        given,
        waves=torch.cat([given.waves, torch.zeros(2, 8)], 1),
        labels={"tokens": torch.cat([given.labels["tokens"], torch.full((2, 2), 3)], 1)},
    )
    a, b = objective()(model, given, 0), objective()(model, longer, 0)
    for name, term in a.terms.items():
        assert term.sum.item() == pytest.approx(b.terms[name].sum.item())


def test_the_share_of_blanks_counts_real_frames_of_good_utterances() -> None:
    model, given = ToyCTC(), batch(weights=(0.0, 1.0))
    best = model(given.waves, given.lengths).logits.argmax(-1)
    blanks = objective()(model, given, 0).terms["blank_share"]
    assert blanks.sum.item() == int((best[1, :4] == 0).sum())
    assert (blanks.count, blanks.weight) == ("frames", 0.0)
    assert objective().counts(given) == {"sentences": 1.0, "frames": 4.0}


def test_a_bad_utterance_has_no_gradient() -> None:
    gradients = []
    for noise in (0.0, 1.0):
        model, given = ToyCTC(), batch(weights=(1.0, 0.0))
        given = replace(given, waves=given.waves + torch.tensor([[0.0], [noise]]))
        objective()(model, given, 0).total(objective().counts(given)).backward()
        gradients.append(model.output.weight.grad)
    assert torch.equal(*gradients)


def test_masks_and_dropped_layers_reach_the_model() -> None:
    model, drop = ToyCTC(), LayerDrop(num_layers=12, probability=0.5, seed=0)
    masks = {"mask.time": torch.ones(2, 6, dtype=torch.bool), "mask.feat": torch.zeros(2, 8, dtype=torch.bool)}
    given = replace(batch(), draws=masks)
    objective(drop)(model, given, 0)
    assert model.given == {
        "mask": masks["mask.time"], "channel_mask": masks["mask.feat"], "dropped_layers": drop(given),
    }  # fmt: skip
    objective(drop)(model.eval(), batch(), 0)
    assert model.given == {"mask": None, "channel_mask": None, "dropped_layers": frozenset()}


def test_the_example_shows_the_text_and_what_is_read() -> None:
    model = ToyCTC().eval()
    with torch.no_grad():
        model.output.weight.copy_(torch.eye(4))
        model.output.bias.zero_()
    heard = torch.eye(4)[[1, 1, 0, 3, 2, 2]].reshape(1, 24)
    given = replace(batch(), waves=torch.cat([heard, torch.zeros(1, 24)]))
    assert objective().example(model, given) == "a b → a b"
    shorter = replace(given, lengths=torch.tensor([8, 16]))
    assert objective().example(model, shorter) == "a b → a"


def test_twenty_steps_lower_the_loss() -> None:
    model, task, given = ToyCTC(), objective(), batch()
    adam = torch.optim.Adam(model.parameters(), lr=0.1)
    values = []
    for step in range(20):
        loss = task(model, given, step).total(task.counts(given))
        adam.zero_grad()
        loss.backward()
        adam.step()
        values.append(loss.item())
    assert values[-1] < 0.7 * values[0]
