"""Hidden units: k-means over frames, learned and labeled in batches on the device the frames lie on.

N is the number of frames, D their width, K the number of clusters. Distances are Euclidean, in float32.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from speechkit import draws
from speechkit.checkpoints.weights import write_safetensors
from speechkit.errors import InputError, ModelError
from speechkit.files import whole, write_json

Batches = Callable[[], Iterable[Tensor]]

_CHUNK = 1 << 24  # distances held at once: 64 MiB of float32
_ADDED = 2048  # frames that are float64 at once


@dataclass(frozen=True, kw_only=True, slots=True)
class KMeans:
    """Cluster centers.

    Attributes:
        centers: float32 `(K, D)`.
        frames: the number of frames they were learned from.
        inertia: mean squared distance of a frame to its center, over the frames kept in memory.
    """

    centers: Tensor
    frames: int
    inertia: float

    def labels(self, features: Tensor) -> Tensor:
        """The nearest center of every frame: float `(…, D)` → int64 `(…)`, the same inside autocast."""
        origin = self.centers.mean(0)
        flat = features.reshape(-1, features.shape[-1]).float() - origin
        return _nearest(flat, self.centers - origin)[0].reshape(features.shape[:-1])

    def save(self, folder: str | Path) -> None:
        """Write a folder with config.json and model.safetensors, whole or not at all."""
        clusters, dim = self.centers.shape
        with whole(folder) as temporary:
            temporary.mkdir()
            config = {"kind": "kmeans", "clusters": clusters, "dim": dim, "frames": self.frames}
            write_json(temporary / "config.json", config | {"inertia": self.inertia})
            write_safetensors(temporary / "model.safetensors", {"centers": self.centers.cpu()})

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device = "cpu") -> KMeans:
        """Read what `save` wrote.

        Raises:
            ModelError: the folder is not there, or is not of k-means.
        """
        folder = Path(folder)
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ModelError(f"{folder}: no config.json", code="ckpt.missing") from error
        if config.get("kind") != "kmeans":
            raise ModelError(f"{folder}: kind is {config.get('kind')!r}, expected 'kmeans'", code="ckpt.kind")
        centers = load_file(folder / "model.safetensors", device=str(device))["centers"]
        shape = (config["clusters"], config["dim"])
        if tuple(centers.shape) != shape:
            raise ModelError(f"{folder}: centers are {tuple(centers.shape)}, config says {shape}", code="ckpt.shape")
        return cls(centers=centers, frames=config["frames"], inertia=config["inertia"])


def fit(
    batches: Batches,
    clusters: int,
    seed: int,
    *,
    max_frames: int = 1_000_000,
    max_iterations: int = 100,
    tolerance: float = 1e-4,
) -> KMeans:
    """Learn centers: greedy k-means++, then Lloyd's iterations on the frames that fit in memory.

    When there are more than `max_frames`, a keyed sample of that size is kept in memory, and one more pass over all
    batches moves each center to the running mean of the frames assigned to it (mini-batch k-means with per-center
    counts). The same batches and seed give the same centers.

    Args:
        batches: called for each pass; yields float `(N, D)`, the same every time.
        clusters: K.
        seed: of the draws (purpose `kmeans`).
        max_frames: frames kept in memory.
        max_iterations: of Lloyd.
        tolerance: Lloyd stops when the inertia falls by less than this share.

    Raises:
        InputError: there are fewer frames than clusters, or a frame is not finite.
    """
    frames, total = _sample(batches, max_frames, seed)
    if total < clusters:
        raise InputError(
            f"k-means: {total} frames for {clusters} clusters", hint="give more audio, or fewer clusters", code="kmeans"
        )
    origin = frames.mean(0)
    frames = frames - origin
    centers, counts, inertia = _lloyd(frames, _first_centers(frames, clusters, seed), max_iterations, tolerance)
    if total > len(frames):
        centers = _running_means((batch.float() - origin for batch in batches()), centers, counts)
    return KMeans(centers=centers + origin, frames=total, inertia=inertia)


def _sample(batches: Batches, count: int, seed: int) -> tuple[Tensor, int]:
    """The `count` frames with the smallest keys, in their order, and how many frames there are."""
    kept: list[Tensor] = []
    keys: list[np.ndarray] = []
    total = held = 0
    for number, batch in enumerate(batches()):
        if not bool(torch.isfinite(batch).all()):
            raise InputError(f"k-means: batch {number} has frames that are not finite", code="kmeans")
        kept.append(batch.float())
        keys.append(
            draws.uniform53(draws.words(seed, draws.EVALUATION, "kmeans", [f"batch:{number}"], 2 * len(batch)))[0]
        )
        total, held = total + len(batch), held + len(batch)
        if held > 2 * count:
            kept, keys, held = *_smallest(kept, keys, count), count
    if not kept:
        return torch.zeros(0, 0), 0
    kept, keys = _smallest(kept, keys, count)
    return kept[0], total


def _smallest(frames: list[Tensor], keys: list[np.ndarray], count: int) -> tuple[list[Tensor], list[np.ndarray]]:
    frame, key = torch.cat(frames), np.concatenate(keys)
    chosen = np.sort(np.argsort(key, kind="stable")[:count])
    return [frame[torch.from_numpy(chosen).to(frame.device)]], [key[chosen]]


def _first_centers(frames: Tensor, clusters: int, seed: int) -> Tensor:
    """Greedy k-means++: of several frames drawn by squared distance, the one that lowers the inertia most.

    Source: Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding" (SODA 2007), section 2 and
    conclusion; the number of candidates is that of scikit-learn. Drawn from at most 100 frames a cluster.
    """
    trials = 2 + int(math.log(clusters))
    words = draws.words(seed, draws.EVALUATION, "kmeans", ["centers"], 2 * (clusters + 1) * trials)
    draw = torch.from_numpy(draws.uniform53(words)[0].reshape(clusters + 1, trials)).to(frames.device)
    if len(frames) > 100 * clusters:
        order = draws.words(seed, draws.EVALUATION, "kmeans", ["subset"], 2 * len(frames))[0]
        frames = frames[torch.from_numpy(draws.choose(order, 100 * clusters, len(frames))).to(frames.device)]
    squares = frames.square().sum(1)
    centers = frames[(draw[0, :1] * len(frames)).long()]
    distances = _distances(frames, squares, centers)[:, 0]
    for k in range(1, clusters):
        cumulative = distances.double().cumsum(0)
        picks = torch.searchsorted(cumulative, draw[k] * cumulative[-1]).clamp(max=len(frames) - 1)
        candidates = torch.minimum(distances[:, None], _distances(frames, squares, frames[picks]))
        best = candidates.sum(0).argmin()
        distances = candidates[:, best]
        centers = torch.cat([centers, frames[picks[best]][None]])
    return centers


def _distances(frames: Tensor, squares: Tensor, centers: Tensor) -> Tensor:
    """Squared distances `(N, K)` of float32 frames with known squared norms.

    Frames and centers lie around zero: far from it, |x|² - 2xc + |c|² would lose digits.
    """
    return _without_squares(frames, centers).add_(squares[:, None]).clamp_min_(0)


def _without_squares(frames: Tensor, centers: Tensor) -> Tensor:
    """Squared distances `(N, K)` less the squared norms of the frames, in one product."""
    with torch.autocast(frames.device.type, enabled=False):
        return torch.addmm(centers.square().sum(1), frames, centers.T, alpha=-2)


def _nearest(frames: Tensor, centers: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest center `(N,)`, and the squared distance to it less the squared norm of the frame `(N,)`."""
    labels, distances = [frames.new_zeros(0, dtype=torch.long)], [frames.new_zeros(0)]
    for chunk in frames.split(max(1, _CHUNK // len(centers))):
        nearest = _without_squares(chunk, centers).min(1)
        labels.append(nearest.indices)
        distances.append(nearest.values)
    return torch.cat(labels), torch.cat(distances)


def _sums(frames: Tensor, labels: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """float64 sums `(K, D)` and counts `(K,)`, always added in the same order."""
    counts = torch.bincount(labels, minlength=clusters)
    if frames.is_cuda:  # where index_add_ adds in any order
        ordered = frames[labels.argsort(stable=True)].double()
        return torch.segment_reduce(ordered, "sum", lengths=counts, axis=0, initial=0.0, unsafe=True), counts
    sums = frames.new_zeros(clusters, frames.shape[1], dtype=torch.float64)
    for chunk, chosen in zip(frames.split(_ADDED), labels.split(_ADDED), strict=True):
        sums.index_add_(0, chosen, chunk.double())
    return sums, counts


def _lloyd(frames: Tensor, centers: Tensor, max_iterations: int, tolerance: float) -> tuple[Tensor, Tensor, float]:
    """The centers, the number of frames of each, and the inertia."""
    clusters, before = len(centers), math.inf
    squares = frames.square().sum(1)

    def nearest() -> tuple[Tensor, Tensor]:
        labels, distances = _nearest(frames, centers)
        return labels, distances.add_(squares).clamp_min_(0)

    for _ in range(max_iterations):
        labels, distances = nearest()
        inertia = distances.double().mean().item()
        if inertia >= before * (1 - tolerance):
            break
        before = inertia
        sums, counts = _sums(frames, labels, clusters)
        centers = (sums / counts.clamp_min(1)[:, None]).float()
        empty = (counts == 0).nonzero()[:, 0]
        centers[empty] = frames[distances.topk(len(empty)).indices]
    labels, distances = nearest()
    return centers, torch.bincount(labels, minlength=clusters), distances.double().mean().item()


def _running_means(batches: Iterable[Tensor], centers: Tensor, counts: Tensor) -> Tensor:
    """One pass of mini-batch k-means: every center is the mean of all frames that it was ever given.

    Source: Sculley, "Web-scale k-means clustering" (WWW 2010), algorithm 1, a batch at a time.
    """
    means, seen = centers.double(), counts.clone()
    for batch in batches:
        sums, found = _sums(batch, _nearest(batch, means.float())[0], len(means))
        seen += found
        means += (sums - found[:, None] * means) / seen.clamp_min(1)[:, None]
    return means.float()
