"""Files of features: of one recording, or of a piece of a corpus."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from speechkit.audio.files import Channel
from speechkit.checkpoints.weights import write_safetensors
from speechkit.data.kaldi.ark import write_ark
from speechkit.errors import InputError, UsageError
from speechkit.jobs import Piece
from speechkit.nn.layer_storage import storable
from speechkit.pipelines.device import one_thread
from speechkit.pipelines.features import FeatureExtractor, FeatureSettings, extract
from speechkit.pipelines.sources import Failure, Source

Format = Literal["safetensors", "npy", "ark"]
Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreSettings:
    """How features are stored.

    Attributes:
        format: `safetensors` has a tensor `KEY/NAME` for each recording and feature; `npy` is one array; `ark` a Kaldi
            archive with a matrix a recording.
        dtype: number type; npy has no bfloat16, ark float32 alone.
        normalize: bring every frame of a layer to mean 0 and variance 1.
    """

    format: Format = "safetensors"
    dtype: Dtype = "float32"
    normalize: bool = False

    def check(self, features: FeatureSettings) -> None:
        """See that these features can be stored so.

        Raises:
            UsageError: they cannot.
        """
        single = features.kind != "layers" or (features.layers is not None and len(features.layers) == 1)
        if self.format != "safetensors" and not single:
            raise UsageError(
                f"{self.format} has one matrix a recording, not one a layer",
                hint="--layer N, or -f safetensors",
                code="features.format",
            )
        held = {"npy": ("float32", "float16"), "ark": ("float32",)}.get(self.format, (self.dtype,))
        if self.dtype not in held:
            raise UsageError(f"{self.format} is not for {self.dtype}", hint="-f safetensors", code="features.format")
        if self.normalize and features.kind != "layers":
            raise UsageError("--normalize is for layers", code="features.normalize")
        if features.kind == "layers":
            try:
                storable([], getattr(torch, self.dtype), normalize=self.normalize)
            except ValueError as error:
                raise UsageError(str(error), hint="--normalize, or --dtype bfloat16", code="features.dtype") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusRecording:
    """A recording of a corpus, in plain values.

    Attributes:
        key: in the outputs.
        name: as the user knows it.
        path: a file, or what Kaldi's wav.scp may hold.
        is_file: which of both.
        start: first sample, at the file's rate.
        num_samples: length; None is all of it.
        channel: see `Source`.
        state: size and time of a file, so that another one is noticed.
    """

    key: str
    name: str
    path: str
    is_file: bool
    start: int = 0
    num_samples: int | None = None
    channel: Channel = "mix"
    state: tuple[int, int] = (0, 0)

    @property
    def source(self) -> Source:
        """What to read."""
        path: str | Path = Path(self.path) if self.is_file else self.path
        return Source(name=self.name, path=path, start=self.start, num_samples=self.num_samples, channel=self.channel)


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureWork:
    """Writes the features of a piece of a corpus.

    Attributes:
        features: which.
        store: how.
        encoder: what `speechkit.load` takes; empty without one.
        identity: of its content, so that what was loaded before it changed is not used.
        device: where to compute.
        offline: no network to find the encoder.
        batch_seconds: of audio in a batch.
    """

    features: FeatureSettings
    store: StoreSettings
    encoder: str = ""
    identity: str = ""
    device: str = "auto"
    offline: bool = False
    batch_seconds: float = 120.0

    def __call__(self, piece: Piece[CorpusRecording], output: Path) -> dict[str, Any]:
        """Write the piece; tells its ends, numbers of recordings and frames, failures, warnings and places."""
        found: dict[str, dict[str, Tensor]] = {}
        failed: list[dict[str, Any]] = []
        warnings: list[dict[str, str]] = []

        def warn(source: Source, warning: str) -> None:
            warnings.append({"input": source.name, "message": warning})

        with one_thread():
            sources = [item.source for item in piece.items]
            results = extract(sources, open_extractor(self), self.batch_seconds, warn=warn)
            for item, result in zip(piece.items, results, strict=True):
                if isinstance(result, Failure):
                    error = result.error
                    why = {"message": error.message, "hint": error.hint, "code": error.code, "exit": error.exit_code}
                    failed.append({"input": item.name, **why})
                else:
                    found[item.key] = result
        frames = sum(len(next(iter(named.values()))) for named in found.values())
        offsets = write_features(output, found, self.features, self.store)
        ends = {"first": piece.items[0].key, "last": piece.items[-1].key}
        facts: dict[str, Any] = {**ends, "recordings": len(found), "frames": frames, "failed": failed}
        return facts | ({"warnings": warnings} if warnings else {}) | ({"offsets": offsets} if offsets else {})


@functools.lru_cache(maxsize=1)
def open_extractor(work: FeatureWork) -> FeatureExtractor:
    """Load the encoder of some work, once in each process."""
    return FeatureExtractor(work.features, work.encoder or None, device=work.device, offline=work.offline)


def write_features(
    path: Path, found: Mapping[str, Mapping[str, Tensor]], features: FeatureSettings, store: StoreSettings
) -> dict[str, int]:
    """Write the features of recordings.

    Args:
        path: of the file.
        found: by key and name, float `(F, D)` each; npy takes one recording.
        features: which these are.
        store: how.

    Returns:
        Of an archive, the byte at which each recording's matrix begins.

    Raises:
        InputError: a key has a space in it, which an archive has no place for.
    """
    dtype = getattr(torch, store.dtype)
    rows: dict[str, Tensor] = {}
    for key, named in found.items():
        ready: Sequence[Tensor] = list(named.values())
        ready = (
            storable(ready, dtype, normalize=store.normalize)
            if features.kind == "layers"
            else [x.to(dtype) for x in ready]
        )
        rows |= {f"{key}/{name}": x.contiguous() for name, x in zip(named, ready, strict=True)}
    if store.format == "safetensors":
        write_safetensors(path, rows)
        return {}
    if store.format == "npy":
        (array,) = rows.values()
        with path.open("wb") as file:
            np.save(file, array.numpy())
        return {}
    for key in found:
        if key.split() != [key]:
            raise InputError(f"{key!r}: an archive has no keys with spaces", hint="-f safetensors", code="features.key")
    return write_ark(path, zip(found, (x.numpy() for x in rows.values()), strict=True))
