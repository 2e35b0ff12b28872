"""Hidden units: k-means over MFCC or over a layer of an encoder, and a label for every frame."""

from __future__ import annotations

import functools
import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechkit.config import check_ranges
from speechkit.data.utterance import Utterance
from speechkit.errors import InputError
from speechkit.files import whole
from speechkit.jobs import Piece, cut
from speechkit.recipe.context import Context
from speechkit.stages.corpus import read_lists

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from speechkit.tokenizers.kmeans import KMeans

PIECE_SECONDS = 600.0  # of a corpus, labelled at a time

_BATCH_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitSettings:
    """What units are made of.

    Attributes:
        clusters: of k-means.
        layer: of the encoder, counted from 1 (0 is what enters the first); without an encoder MFCC are used.
        frame_shift_ms: of the MFCC.
        max_frames: frames that k-means keeps in memory.
    """

    clusters: int = 100
    layer: int = 6
    frame_shift_ms: float = 10.0
    max_frames: int = 1_000_000

    def __post_init__(self) -> None:
        check_ranges(self, clusters=(1, math.inf), layer=(0, math.inf))
        check_ranges(self, frame_shift_ms=(1, 1000), max_frames=(1, math.inf))


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitStage:
    """What the stages of units read.

    Attributes:
        units: what they are made of.
        seed: of all draws.
    """

    units: UnitSettings
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Frames:
    """The frames of some utterances, and whose they are.

    Attributes:
        ids: of the utterances.
        counts: frames of each.
        features: float `(N, D)`, all their frames one after the other.
    """

    ids: list[str]
    counts: list[int]
    features: Tensor


class FeatureReader:
    """MFCC, or the states of a layer, of whole utterances in padded batches.

    Args:
        settings: which.
        encoder: a model that `speechkit.load` reads; None: MFCC.
        device: where to compute.
    """

    def __init__(self, settings: UnitStage, encoder: Path | None, device: str) -> None:
        from speechkit.pipelines.features import FeatureExtractor, FeatureSettings

        layers, shift = (settings.units.layer,), settings.units.frame_shift_ms
        features = FeatureSettings(kind="layers" if encoder else "mfcc", layers=layers, frame_shift_ms=shift)
        self.extractor = FeatureExtractor(features, encoder, device=device)
        self.device = self.extractor.device
        self.seed = settings.seed
        self.bad = 0  # utterances that could not be read and count as silence

    @property
    def label_rate(self) -> float:
        """Frames a second."""
        return self.extractor.frame_rate

    def read(self, utterances: Sequence[Utterance]) -> Iterator[Frames]:
        """The frames of all utterances, each once, always in the same order."""
        import torch

        from speechkit.data.loader import Loader
        from speechkit.data.plan import PlanSettings, plan_utterances
        from speechkit.data.transforms import Normalize
        from speechkit.nn.lengths import valid_frames

        packing = PlanSettings(batch_seconds=_BATCH_SECONDS)
        rate, eps = self.extractor.sample_rate, self.extractor.waveform_eps
        plan = plan_utterances(utterances, rate, packing, seed=self.seed)
        transforms = [] if eps is None else [Normalize(eps=eps)]
        loader = Loader(utterances, plan, transforms, sample_rate=rate, device=self.device)
        with torch.inference_mode():
            for batch in loader.once():
                assert batch.waves is not None
                assert batch.lengths is not None
                named, lengths = self.extractor(batch.waves, batch.lengths)
                (features,) = named.values()
                valid = valid_frames(lengths.to(features.device), features.shape[1])
                yield Frames(ids=batch.ids, counts=lengths.tolist(), features=features[valid])
        self.bad = len(loader.bad)


def learn_units(context: Context, settings: UnitStage) -> None:
    """Learn k-means on the utterances of the inputs `lists …`; the input `encoder` is used where there is one."""
    from speechkit.tokenizers.kmeans import fit

    reader = FeatureReader(settings, context.inputs.get("encoder"), context.device)
    utterances = read_lists(context.named("lists").values())
    kmeans = fit(
        lambda: (frames.features for frames in reader.read(utterances)),
        settings.units.clusters,
        settings.seed,
        max_frames=settings.units.max_frames,
    )
    context.log.info("%d clusters of %d frames, inertia %.5g", settings.units.clusters, kmeans.frames, kmeans.inertia)
    kmeans.save(context.outputs["kmeans"])


def label_units(context: Context, settings: UnitStage) -> None:
    """Write the unit of every frame of the inputs `lists …`: a line `id unit unit …` for each utterance.

    Raises:
        InputError: too many utterances cannot be read.
    """
    from speechkit.data.loader import bad_allowed

    utterances = sorted(read_lists(context.named("lists").values()), key=lambda u: u.id)
    pieces = cut(utterances, lambda u: u.duration_s, PIECE_SECONDS)
    label = _Labels(
        settings=settings,
        encoder=context.inputs.get("encoder"),
        kmeans=context.inputs["kmeans"],
        device=context.device,
        key=context.key,
    )
    try:
        labelled = context.walk(label, pieces, ".units")
    finally:
        _open.cache_clear()  # what this process loaded
    bad = sum(done.facts["bad"] for _, done in labelled)
    if bad > bad_allowed(len(utterances)):
        raise InputError(
            f"{bad} of {len(utterances)} utterances cannot be read, at most {bad_allowed(len(utterances))} may be",
            hint="speechkit data validate --check-audio full DIR names every damaged recording",
            code="data.bad",
        )
    _join([path for path, _ in labelled], context.outputs["units"])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Labels:
    """Writes the units of a piece of a corpus.

    Attributes:
        settings: of the units.
        encoder: None: MFCC.
        kmeans: its folder.
        device: where to compute.
        key: of all that it depends on, so that what was loaded under another one is not used.
    """

    settings: UnitStage
    encoder: Path | None
    kmeans: Path
    device: str
    key: str

    def __call__(self, piece: Piece[Utterance], output: Path) -> dict[str, int]:
        from speechkit.pipelines.device import one_thread

        reader, kmeans = _open(self)
        units: dict[str, NDArray[Any]] = {}
        with one_thread():
            for frames in reader.read(piece.items):
                rows = kmeans.labels(frames.features).cpu().split(frames.counts)
                units |= {id: row.numpy() for id, row in zip(frames.ids, rows, strict=True)}
        write_units(output, units, reader.label_rate)
        return {"utterances": len(units), "frames": sum(map(len, units.values())), "bad": reader.bad}


@functools.lru_cache(maxsize=1)
def _open(work: _Labels) -> tuple[FeatureReader, KMeans]:
    """Load the networks once in each process."""
    from speechkit.tokenizers.kmeans import KMeans

    reader = FeatureReader(work.settings, work.encoder, work.device)
    return reader, KMeans.load(work.kmeans, reader.device)


def _join(parts: Sequence[Path], path: Path) -> None:
    """Join files of units, each sorted by id and before the next, to one."""
    with whole(path) as temporary, temporary.open("wb") as joined:
        for number, part in enumerate(parts):
            with part.open("rb") as file:
                rate = file.readline()
                joined.write(b"" if number else rate)
                shutil.copyfileobj(file, joined)


def write_units(path: Path, units: dict[str, NDArray[Any]], rate: float) -> None:
    """Write units as text, sorted by id, with their rate in the first line."""
    with whole(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(f"# units per second: {rate:g}\n")
        for id in sorted(units):
            file.write(f"{id} {' '.join(map(str, units[id].tolist()))}\n")


def read_units(path: Path) -> tuple[dict[str, NDArray[Any]], float]:
    """Read what `write_units` wrote: the units by id, int64, and their rate.

    Raises:
        InputError: it is no such file.
    """
    with path.open(encoding="utf-8") as file:
        rate = _rate(path, file.readline())
        return dict(_rows(file)), rate


def count_units(path: Path) -> NDArray[Any]:
    """How often each unit occurs in what `write_units` wrote, int64 `(K,)`, up to the largest; nothing else is kept.

    Raises:
        InputError: it is no such file.
    """
    import numpy as np

    counts = np.zeros(0, dtype=np.int64)
    with path.open(encoding="utf-8") as file:
        _rate(path, file.readline())
        for _, units in _rows(file):
            more = np.bincount(units, minlength=len(counts))
            more[: len(counts)] += counts
            counts = more
    return counts


def _rate(path: Path, first: str) -> float:
    if not first.startswith("# units per second:"):
        raise InputError(f"{path}:1: expected '# units per second: …'", code="data.units")
    return float(first.partition(":")[2])


def _rows(lines: Iterable[str]) -> Iterator[tuple[str, NDArray[Any]]]:
    import numpy as np

    for line in lines:
        id, _, text = line.partition(" ")
        yield id, np.array(text.split(), dtype=np.int64)
