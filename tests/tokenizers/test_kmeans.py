from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans as Reference
from torch import Tensor

from speechkit import draws
from speechkit.errors import InputError, ModelError
from speechkit.tokenizers.kmeans import KMeans, _lloyd, fit


def frames(count: int, dim: int, blobs: int, name: str, *, offset: float = 0.0) -> Tensor:
    """Overlapping blobs of unequal size: what k-means of speech looks like, only smaller."""
    generator = draws.generator(0, draws.EVALUATION, "sample", name)
    centers = 3 * torch.randn(blobs, dim, generator=generator)
    weights = torch.rand(blobs, generator=generator) + 0.1
    which = torch.multinomial(weights, count, replacement=True, generator=generator)
    return centers[which] + torch.randn(count, dim, generator=generator) + offset


def in_batches(data: Tensor, size: int) -> Callable[[], Iterable[Tensor]]:
    return lambda: data.split(size)


def inertia(model: KMeans, data: Tensor) -> float:
    return (data - model.centers[model.labels(data)]).double().square().sum(1).mean().item()


def test_inertia_is_within_one_percent_of_scikit_learn() -> None:
    data = frames(6000, 13, 5, "quality")
    reference = Reference(50, n_init=3, random_state=0).fit(data.numpy()).inertia_ / len(data)
    model = fit(in_batches(data, 1000), 50, seed=0)
    assert inertia(model, data) < 1.01 * reference
    assert model.inertia == pytest.approx(inertia(model, data), rel=1e-5)
    assert model.frames == 6000


def test_a_sample_and_one_pass_come_within_two_percent_of_all_frames_in_memory() -> None:
    data = frames(12000, 8, 4, "minibatch")
    whole = inertia(fit(in_batches(data, 500), 16, seed=0), data)
    part = fit(in_batches(data, 500), 16, seed=0, max_frames=1500)
    assert part.frames == 12000
    assert inertia(part, data) < 1.02 * whole


def test_the_pass_over_all_frames_improves_on_the_sample() -> None:
    data = frames(12000, 8, 20, "pass")
    part = fit(in_batches(data, 500), 16, seed=0, max_frames=600)
    keys = np.concatenate(
        [draws.uniform53(draws.words(0, draws.EVALUATION, "kmeans", [f"batch:{i}"], 1000))[0] for i in range(24)]
    )
    sample = data[torch.from_numpy(np.sort(np.argsort(keys)[:600]))]
    only = Reference(16, n_init=1, random_state=0, init=part.centers.numpy()).fit(sample.numpy())
    centers = torch.from_numpy(only.cluster_centers_).float()
    assert inertia(part, data) < inertia(KMeans(centers=centers, frames=600, inertia=0.0), data)


def test_the_same_batches_and_seed_give_the_same_centers_and_another_seed_others() -> None:
    data = frames(2000, 5, 10, "repeat")
    first, second, other = (fit(in_batches(data, 300), 8, seed=s, max_frames=1000) for s in (1, 1, 2))
    assert torch.equal(first.centers, second.centers)
    assert not torch.equal(first.centers, other.centers)


def test_frames_far_from_zero_are_clustered_as_well_as_those_near_it() -> None:
    near, far = frames(2000, 5, 3, "offset"), frames(2000, 5, 3, "offset", offset=3000.0)
    assert inertia(fit(in_batches(far, 500), 20, seed=0), far) < 1.02 * inertia(fit(in_batches(near, 500), 20, 0), near)


def test_labels_are_the_nearest_centers_for_any_shape_and_inside_autocast() -> None:
    model = KMeans(centers=torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]]), frames=3, inertia=0.0)
    features = torch.tensor([[[3.0, 0.5], [0.1, 0.2]], [[1.0, 3.0], [1.996, 0.0]]])
    expected = [[1, 0], [2, 0]]
    assert model.labels(features).tolist() == expected
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.labels(features).tolist() == expected
    assert model.labels(features[:0]).shape == (0, 2)


def test_as_many_clusters_as_different_frames_leave_no_inertia() -> None:
    data = torch.tensor([[0.0], [1.0], [5.0]]).repeat(4, 1)
    model = fit(in_batches(data, 5), 3, seed=0)
    assert sorted(model.centers[:, 0].tolist()) == [0.0, 1.0, 5.0]
    assert model.inertia == 0


def test_more_clusters_than_different_frames_still_give_finite_centers() -> None:
    model = fit(in_batches(torch.zeros(10, 3), 10), 4, seed=0)
    assert torch.equal(model.centers, torch.zeros(4, 3))


def test_a_center_without_frames_moves_to_the_frame_farthest_from_its_own() -> None:
    data = torch.tensor([[-1.0], [1.0], [9.0]])
    _, counts, inertia = _lloyd(data, torch.tensor([[9.0], [-40.0]]), max_iterations=9, tolerance=0.0)
    assert counts.min() == 1
    assert inertia == pytest.approx(2 / 3)  # of -1 and 1 around 0; without the move all three stay around 3


def test_a_folder_gives_back_the_same_centers(tmp_path: Path) -> None:
    model = fit(in_batches(frames(200, 4, 3, "save"), 50), 5, seed=0)
    model.save(tmp_path / "units")
    loaded = KMeans.load(tmp_path / "units")
    assert torch.equal(loaded.centers, model.centers)
    assert (loaded.frames, loaded.inertia) == (model.frames, model.inertia)


@pytest.mark.parametrize(
    ("config", "message"),
    [(None, "no config.json"), ('{"kind": "wavlm"}', "kind is 'wavlm'"), ("", "centers are")],
    ids=["missing", "kind", "shape"],
)
def test_a_folder_of_something_else_is_refused(tmp_path: Path, config: str | None, message: str) -> None:
    folder = tmp_path / "units"
    if config is not None:
        KMeans(centers=torch.zeros(2, 3), frames=2, inertia=0.0).save(folder)
        text = config or (folder / "config.json").read_text().replace('"clusters": 2', '"clusters": 4')
        (folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match=message):
        KMeans.load(folder)


def test_too_few_frames_and_frames_that_are_not_finite_are_input_errors() -> None:
    with pytest.raises(InputError, match="3 frames for 4 clusters"):
        fit(in_batches(torch.zeros(3, 2), 2), 4, seed=0)
    with pytest.raises(InputError, match="0 frames for 4 clusters"):
        fit(lambda: [], 4, seed=0)
    with pytest.raises(InputError, match="batch 1 has frames that are not finite"):
        fit(in_batches(torch.tensor([[0.0], [1.0], [float("nan")]]), 2), 1, seed=0)


@pytest.mark.gpu
def test_centers_learned_on_an_accelerator_repeat_and_are_as_good() -> None:
    data = frames(6000, 13, 40, "device")
    first, second = (fit(in_batches(data.cuda(), 1000), 30, seed=0) for _ in range(2))
    assert torch.equal(first.centers, second.centers)
    assert inertia(first, data.cuda()) < 1.01 * inertia(fit(in_batches(data, 1000), 30, seed=0), data)
