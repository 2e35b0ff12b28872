"""The index of a Shar folder: where every cut lies and how long it is, so that no audio is ever scanned again.

It is a folder of memory-mapped arrays beside the shards, 46 bytes a cut and the ids. N cuts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speechkit.errors import InputError
from speechkit.files import sha256, whole, write_json

FOLDER = "cuts.index"  # lhotse takes a file or folder of any other beginning for a field of the cuts
NO_RECORDING = 1  # of `flags`: the cut came without audio
PART = 2  # of `flags`: the cut is not all of the audio that came with it

_VERSION = 1
_INFO = "index.json"
_IDS, _ID_ENDS = "ids.txt", "ids.off"
_ARRAYS = {  # little-endian, as files are everywhere
    "num_samples": "<i4",
    "sr": "u1",
    "shard": "<i4",
    "cut_offset": "<i8",
    "data_offset": "<i8",
    "data_size": "<i4",
    "id_hash": "<u4",
    "flags": "u1",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class FileState:
    """A file of a shard as it was when the index was made."""

    name: str
    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path, *, digest: bool) -> FileState:
        """Look at a file; at all of it for its digest, which is "" otherwise."""
        return cls(name=path.name, size=path.stat().st_size, sha256=sha256(path) if digest else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """The two files of a shard."""

    cuts: FileState
    recording: FileState


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A cut and the bytes of its audio; field by field what `Index` holds of it."""

    id: str
    num_samples: int
    sample_rate: int
    cut_offset: int
    data_offset: int
    data_size: int
    flags: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """All cuts of a Shar folder, in the order of its shards.

    Attributes:
        num_samples: int32 `(N,)`, the length of each cut.
        sr: uint8 `(N,)`, which of `sample_rates` it has.
        shard: int32 `(N,)`, which of `shards` it is in.
        cut_offset: int64 `(N,)`, where its line begins in the file of cuts, once that is unzipped.
        data_offset: int64 `(N,)`, where its audio file begins in the tar.
        data_size: int32 `(N,)`, bytes of its audio file.
        id_hash: uint32 `(N, 4)`, BLAKE2b of its id.
        flags: uint8 `(N,)`, the sum of `NO_RECORDING` and `PART`, where they hold.
        ids: uint8, the ids in UTF-8, a newline after each.
        id_ends: int64 `(N,)`, where the next id begins.
        sample_rates: Hz.
        shards: the files.
    """

    num_samples: NDArray[np.int32]
    sr: NDArray[np.uint8]
    shard: NDArray[np.int32]
    cut_offset: NDArray[np.int64]
    data_offset: NDArray[np.int64]
    data_size: NDArray[np.int32]
    id_hash: NDArray[np.uint32]
    flags: NDArray[np.uint8]
    ids: NDArray[np.uint8]
    id_ends: NDArray[np.int64]
    sample_rates: tuple[int, ...]
    shards: tuple[Shard, ...]

    def __len__(self) -> int:
        return len(self.num_samples)

    def id(self, position: int) -> str:
        """The id of a cut."""
        start = self.id_ends[position - 1] if position else 0
        return self.ids[start : self.id_ends[position] - 1].tobytes().decode("utf-8")

    @property
    def seconds(self) -> float:
        """Length of all cuts together."""
        rates = np.array(self.sample_rates, dtype=np.float64)
        return float((self.num_samples / np.maximum(rates, 1)[self.sr]).sum())

    @classmethod
    def of_shard(cls, shard: Shard, entries: Sequence[Entry]) -> Index:
        """The index of a single shard.

        Raises:
            InputError: a cut is longer, or its file larger, than 31 bits can say.
        """
        for entry in entries:
            if max(entry.num_samples, entry.data_size) >= 1 << 31:
                what = f"{entry.num_samples} samples in {entry.data_size} bytes"
                raise InputError(f"{shard.recording.name}: cut '{entry.id}' is too long: {what}", code="shar.size")
        rates = sorted({entry.sample_rate for entry in entries})
        ids = [entry.id.encode("utf-8") for entry in entries]
        hashes = b"".join(blake2b(id, digest_size=16).digest() for id in ids)
        columns = {
            name: np.array([getattr(entry, name) for entry in entries], dtype=_ARRAYS[name])
            for name in ("num_samples", "cut_offset", "data_offset", "data_size", "flags")
        }
        return cls(
            **columns,
            sr=np.array([rates.index(entry.sample_rate) for entry in entries], dtype=np.uint8),
            shard=np.zeros(len(entries), dtype=np.int32),
            id_hash=np.frombuffer(hashes, dtype="<u4").reshape(-1, 4),
            ids=np.frombuffer(b"".join(id + b"\n" for id in ids), dtype=np.uint8),
            id_ends=np.cumsum([len(id) + 1 for id in ids], dtype=np.int64),
            sample_rates=tuple(rates),
            shards=(shard,),
        )

    @classmethod
    def merge(cls, parts: Sequence[Index], folder: Path) -> Index:
        """One index of several, one after the other; the folder is for messages.

        Raises:
            InputError: there is no cut, or two have the same id.
        """
        if not any(map(len, parts)):
            raise InputError(f"{folder}: there is no cut in it", code="shar.empty")
        rates = sorted({rate for part in parts for rate in part.sample_rates})
        shifted = []
        num_shards = num_bytes = 0
        for part in parts:
            codes = np.array([rates.index(rate) for rate in part.sample_rates], dtype=np.uint8)
            moved = replace(part, sr=codes[part.sr], shard=part.shard + num_shards, id_ends=part.id_ends + num_bytes)
            shifted.append(moved)
            num_shards += len(part.shards)
            num_bytes += len(part.ids)
        merged = cls(
            **{name: np.concatenate([getattr(p, name) for p in shifted]) for name in (*_ARRAYS, "ids", "id_ends")},
            sample_rates=tuple(rates),
            shards=tuple(shard for part in parts for shard in part.shards),
        )
        merged._check_ids(folder)
        return merged

    def _check_ids(self, folder: Path) -> None:
        _, first, counts = np.unique(self.id_hash, axis=0, return_index=True, return_counts=True)
        if (counts > 1).any():
            twice = self.id(int(first[counts > 1].min()))
            raise InputError(f"{folder}: two cuts have the id '{twice}'", code="shar.twice")

    def save(self, folder: Path) -> Path:
        """Write the index into its Shar folder, whole or not at all; gives the folder of the arrays."""
        out = folder / FOLDER
        with whole(out) as temporary:
            temporary.mkdir()
            for name in _ARRAYS:
                np.save(temporary / f"{name}.npy", getattr(self, name))
            (temporary / _IDS).write_bytes(self.ids.tobytes())
            with (temporary / _ID_ENDS).open("wb") as file:
                np.save(file, self.id_ends)
            info = {
                "version": _VERSION,
                "count": len(self),
                "seconds": self.seconds,
                "sample_rates": self.sample_rates,
                "shards": [asdict(shard) for shard in self.shards],
            }
            write_json(temporary / _INFO, info)
        return out

    @classmethod
    def load(cls, folder: Path) -> Index | None:
        """The index that lies in a Shar folder, memory-mapped; None when there is none.

        Raises:
            InputError: it is damaged, or was made when the shards were others.
        """
        path = folder / FOLDER
        if not path.is_dir():
            return None
        again = f"make it again: speechkit data index {folder}"
        try:
            info = json.loads((path / _INFO).read_text(encoding="utf-8"))
            shards = tuple(
                Shard(cuts=FileState(**s["cuts"]), recording=FileState(**s["recording"])) for s in info["shards"]
            )
            if info["version"] != _VERSION:
                raise ValueError(f"version {info['version']}, readable is {_VERSION}")
            arrays = {name: np.load(path / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
            index = cls(
                **arrays,
                ids=np.memmap(path / _IDS, dtype=np.uint8, mode="r"),
                id_ends=np.load(path / _ID_ENDS, mmap_mode="r"),
                sample_rates=tuple(info["sample_rates"]),
                shards=shards,
            )
            lengths = {name: len(array) for name, array in [*arrays.items(), (_ID_ENDS, index.id_ends)]}
            wrong = [f"{name} has {n} of {info['count']} entries" for name, n in lengths.items() if n != info["count"]]
            if wrong or len(index.ids) != index.id_ends[-1]:
                raise ValueError(wrong[0] if wrong else f"{_IDS} has {len(index.ids)} of {index.id_ends[-1]} bytes")
        except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError) as error:
            raise InputError(f"{path}: damaged: {error}", hint=again, code="shar.index") from error
        for shard in shards:
            for state in (shard.cuts, shard.recording):
                _check_unchanged(folder / state.name, state, again)
        return index


def _check_unchanged(file: Path, state: FileState, hint: str) -> None:
    if not file.is_file():
        raise InputError(f"{file}: the index names it, but it is not there", hint=hint, code="shar.index")
    if (size := file.stat().st_size) != state.size:
        raise InputError(f"{file}: {size} bytes, the index says {state.size}", hint=hint, code="shar.index")
