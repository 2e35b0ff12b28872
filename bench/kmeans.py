"""k-means: learning centers and labeling, against scikit-learn's MiniBatchKMeans, which HuBERT's recipe uses.

Both make the same number of passes over the same frames, of one start each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.case import Group, Settings
from bench.timing import Output, Side, Work, compare
from speechkit import draws

_WITHIN, _WITHIN_QUICK = 0.01, 0.1  # of the inertia; few frames in few clusters end in different places
_BATCH = 10_000  # of HuBERT's recipe


def groups(settings: Settings) -> Iterator[Group]:
    """Frames as wide as a layer of a base model."""
    given: dict[str, Any] = {"frames": 30_000, "dim": 768, "clusters": 500, "passes": 20}
    within = _WITHIN
    if settings.quick:
        within = _WITHIN_QUICK
        given = {"frames": 3000, "dim": 16, "clusters": 10, "passes": 20}
    sides = [
        Side(name="speechkit", make=learn, arguments=given),
        Side(name=f"MiniBatchKMeans, batches of {_BATCH}", make=their_learn, arguments=given, tolerance=within),
    ]
    what = "{frames} × {dim}, {clusters} clusters, {passes} passes; inertia compared".format(**given)
    yield Group(what=what, timings=compare(sides, settings.trials))


def frames_like_features(frames: int, dim: int) -> NDArray[np.float32]:
    """Normal numbers whose directions differ in size, as principal components do: float32 `(N, D)`."""
    words = draws.words(0, draws.EVALUATION, "sample", [f"direction {k}" for k in range(dim)], 2 * frames)
    sizes = 10 * np.arange(1, dim + 1) ** -0.5
    return (draws.normal(words) * sizes[:, None]).T.astype(np.float32, order="C")


def inertia(frames: NDArray[np.float32], centers: NDArray[np.float32], labels: NDArray[np.integer]) -> float:
    """Mean squared distance of a frame to the center it was given."""
    return float(np.square(frames - centers[labels]).sum(1, dtype=np.float64).mean())


def learn(frames: int, dim: int, clusters: int, passes: int) -> Work:
    """Ours."""
    import torch

    from speechkit.tokenizers.kmeans import fit

    numbers = frames_like_features(frames, dim)
    batches = torch.from_numpy(numbers).split(_BATCH)

    def work() -> Output:
        model = fit(lambda: batches, clusters, seed=0, max_iterations=passes, tolerance=0.0)
        labels = torch.cat([model.labels(batch) for batch in batches])
        return [inertia(numbers, model.centers.numpy(), labels.numpy())]

    return work


def their_learn(frames: int, dim: int, clusters: int, passes: int) -> Work:
    """scikit-learn's."""
    from sklearn.cluster import MiniBatchKMeans

    numbers = frames_like_features(frames, dim)

    def work() -> Output:
        model = MiniBatchKMeans(
            clusters, batch_size=_BATCH, max_iter=passes, n_init=1, tol=0.0, max_no_improvement=None,
            reassignment_ratio=0.0, random_state=0,
        ).fit(numbers)  # fmt: skip
        return [inertia(numbers, model.cluster_centers_, model.predict(numbers))]

    return work
