from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from speechkit.models.wavlm.heads import UnitHead
from speechkit.objectives.ctc import ctc_losses
from tests.models.wavlm import tiny


@pytest.mark.parametrize("own", [True, False], ids=["own projections", "one projection"])
@pytest.mark.parametrize("glu", [True, False], ids=["glu", "plain"])
def test_unit_logits_are_cosines_over_the_temperature(own: bool, glu: bool) -> None:
    model = tiny.predictor(head=UnitHead(embedding_dim=12, own_projections=own, target_glu=glu, temperature=0.2))
    frames = torch.randn(5, 32)
    logits = model.logits(frames)
    assert [tuple(part.shape) for part in logits] == [(5, 11), (5, 7)]
    projected = model.projection(frames).chunk(2, -1) if own else [model.projection(frames)] * 2
    for k, part in enumerate(logits):
        embeddings = model.class_embeddings()[k]
        expected = F.cosine_similarity(projected[k][:, None], embeddings[None], dim=-1) / 0.2
        torch.testing.assert_close(part, expected)
    weights = model.class_weights[11:]
    second = F.glu(model.target_glu(weights), dim=-1) if glu else weights
    torch.testing.assert_close(model.class_embeddings()[1], second)


def test_class_embeddings_have_the_width_of_the_encoder_where_none_is_given() -> None:
    model = tiny.predictor(head=UnitHead(embedding_dim=None))
    assert model.class_weights.shape == (18, 32)


def test_a_recognizer_learns_one_batch_by_heart() -> None:
    torch.manual_seed(0)
    model = tiny.recognizer().train()
    waves, lengths = torch.randn(2, 6000), torch.tensor([6000, 5000])
    tokens, counts = torch.tensor([[5, 6, 5], [7, 8, 0]]), torch.tensor([3, 2])
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        output = model(waves, lengths)
        loss = ctc_losses(output.logits, output.lengths, tokens, counts, blank=0).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
