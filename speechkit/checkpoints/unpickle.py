"""Torch's pickled files, read without running anything that stands in them.

Both formats: the zip of torch 1.6 and later, mapped into memory, and the one before. A pickle names functions and
classes ("globals") to call. Here the few that build tensors and containers are known; classes of foreign packages,
such as fairseq's, become inert records of what was said about them; and whatever belongs to Python, torch or numpy and
is not known is refused by name. Source of the formats: `torch/serialization.py`.
"""

from __future__ import annotations

import collections
import mmap
import pickle
import struct
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from speechkit.errors import ModelError

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
# what pickles of settings and arrays honestly name; kept as records, never called
_RECORDED_MODULES = frozenset({"argparse", "collections", "datetime", "pathlib", "typing"})
_RECORDED = {
    "_codecs": "encode",
    "_operator": "getitem",
    "builtins": "bool bytes complex dict float frozenset getattr int list object str tuple type",
    "copyreg": "_reconstructor",
    "numpy": "dtype ndarray",
    "numpy._core.multiarray": "_reconstruct scalar",
    "numpy.core.multiarray": "_reconstruct scalar",
    "operator": "getitem",
    "torch": "device dtype",
    "types": "NoneType SimpleNamespace",
}
_DAMAGE = (  # what a broken or strange file makes of pickle, zipfile and torch
    *(ArithmeticError, AttributeError, EOFError, LookupError, RuntimeError, TypeError, ValueError),
    *(pickle.UnpicklingError, struct.error, zipfile.BadZipFile),
)
_OWN_PACKAGES = frozenset(sys.stdlib_module_names) | {"numpy", "torch"}


class Record:
    """An inert stand-in for an object: the global it was made with, its arguments, its state and its items."""

    global_name = ""
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    state: Any
    items: dict[Any, Any]
    elements: list[Any]

    def __new__(cls, *arguments: Any, **keywords: Any) -> Record:
        """Take what the pickle calls it with."""
        record = super().__new__(cls)
        record.arguments = arguments
        record.keywords = keywords
        record.state = None
        record.items = {}
        record.elements = []
        return record

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, element: Any) -> None:
        """Take an element, as a pickle adds them to lists."""
        self.elements.append(element)

    def extend(self, elements: list[Any]) -> None:
        """Take several elements."""
        self.elements.extend(elements)

    def __repr__(self) -> str:
        return f"<{self.global_name}>"


def read_pickle(path: str | Path) -> Any:
    """Read a file that `torch.save` wrote: containers, numbers, text and tensors; anything else as a `Record`.

    Raises:
        ModelError: no such file, not torch's, damaged, or it names a function that has no business in it.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            if file.read(4) == b"PK\x03\x04":
                return _ZipFile(path, file).read()
            file.seek(0)
            return _LegacyFile(path, file).read()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}", code="model.missing") from error
    except _DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"{path}: not a readable torch file: {reason}", hint="is the download complete?", code="model.corrupt"
        ) from error


class _Unpickler(pickle.Unpickler):
    """A pickle machine that knows only the globals above."""

    def __init__(self, file: Any, source: _ZipFile | _LegacyFile) -> None:
        super().__init__(file, encoding="utf-8")
        self.source = source

    def find_class(self, module: str, name: str) -> Any:
        """What a global of the file becomes."""
        # old pickles have the names of Python 2
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        if (module, name) == ("collections", "OrderedDict"):
            return _OrderedDict
        if (module, name) == ("builtins", "set"):
            return set
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if module == "torch._utils" and name in _TENSORS:
            return _TENSORS[name]
        harmless = module in _RECORDED_MODULES or name in _RECORDED.get(module, "").split()
        if harmless or module.partition(".")[0] not in _OWN_PACKAGES:
            return type(name.rpartition(".")[2], (Record,), {"global_name": f"{module}.{name}"})
        raise ModelError(
            f"{self.source.path}: the file wants to call {module}.{name}; nothing in a file is run",
            hint="get the model from its publisher, best as .safetensors",
            code="model.unsafe",
        )

    def persistent_load(self, pid: Any) -> Any:
        """A storage, from ("storage", type, key, location, number of elements, …)."""
        kind, dtype, key, _, count = pid[:5]
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(count, int):
            raise pickle.UnpicklingError(f"unknown persistent object {kind!r}")
        storage = self.source.storage(str(key), dtype, count)
        if len(pid) == 6 and pid[5] is not None:  # before torch 1.6 a storage could be part of another
            _, offset, size = pid[5]
            storage = storage[offset : offset + size]
        return storage


class _OrderedDict(collections.OrderedDict[Any, Any]):
    """An ordered dict; what modules hang on their state dicts as attributes is dropped."""

    def __setstate__(self, state: Any) -> None:
        pass


def _tensor(storage: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    """In place of `_rebuild_tensor_v2` and `_rebuild_tensor`; torch checks that it lies within the storage."""
    return storage.as_strided(size, stride, offset)


def _parameter(data: Tensor, *_: Any) -> Tensor:
    """In place of `_rebuild_parameter`."""
    return data


_TENSORS = {
    "_rebuild_tensor": _tensor,
    "_rebuild_tensor_v2": _tensor,
    "_rebuild_parameter": _parameter,
    "_rebuild_parameter_with_state": _parameter,
}


class _ZipFile:
    """Records of a zip that are stored as they are; tensors stay in the mapped file."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self.zip = zipfile.ZipFile(file)
        self.root = next((n.removesuffix("data.pkl") for n in self.zip.namelist() if n.endswith("/data.pkl")), None)
        self.storages: dict[str, Tensor] = {}

    def read(self) -> Any:
        if self.root is None or f"{self.root}constants.pkl" in self.zip.namelist():
            raise ValueError("a zip without data.pkl, or TorchScript, which is a program")
        if self.root + "byteorder" in self.zip.namelist() and self.zip.read(self.root + "byteorder") != b"little":
            raise ValueError("written on a big-endian machine")
        with self.zip.open(self.root + "data.pkl") as data:
            return _Unpickler(data, self).load()

    def storage(self, key: str, dtype: torch.dtype, count: int) -> Tensor:
        if key not in self.storages:
            self.storages[key] = self._mapped(f"{self.root}data/{key}", dtype, count)
        return self.storages[key]

    def _mapped(self, name: str, dtype: torch.dtype, count: int) -> Tensor:
        info = self.zip.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED or info.file_size < count * dtype.itemsize:
            raise ValueError(f"record {name} is compressed or too short")
        names = struct.unpack_from("<HH", self.memory, info.header_offset + 26)
        start = info.header_offset + 30 + sum(names)
        return torch.frombuffer(self.memory, dtype=dtype, count=count, offset=start) if count else torch.empty(0)


class _LegacyFile:
    """Several pickles one after the other, then the storages."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.file = file
        self.size = path.stat().st_size
        self.storages: dict[str, Tensor] = {}

    def read(self) -> Any:
        if self._pickle() != _LEGACY_MAGIC:
            raise ValueError("it does not begin as one")
        self._pickle()  # version of the format
        if self._pickle().get("little_endian") is not True:
            raise ValueError("written on a big-endian machine")
        value = self._pickle()
        for key in self._pickle():
            storage = self.storages[str(key)]
            (count,) = struct.unpack("<q", self.file.read(8))
            if count != len(storage):
                raise ValueError(f"storage {key} has {count} elements, {len(storage)} were announced")
            data = self.file.read(count * storage.element_size())
            if count:
                storage.copy_(torch.frombuffer(bytearray(data), dtype=storage.dtype, count=count))
        return value

    def storage(self, key: str, dtype: torch.dtype, count: int) -> Tensor:
        if not 0 <= count * dtype.itemsize <= self.size:
            raise ValueError(f"storage {key} of {count} elements is larger than the file")
        if key not in self.storages:
            self.storages[key] = torch.empty(count, dtype=dtype)
        return self.storages[key]

    def _pickle(self) -> Any:
        return _Unpickler(self.file, self).load()


def plain(value: Any) -> Any:
    """Turn settings out of a pickle into dicts, lists, text and numbers.

    Namespaces and omegaconf's containers become mappings and lists, enums and omegaconf's nodes their values,
    `${a.b}` what stands there, counted from the mapping given here; other records stay.
    """
    root = _plain(value)
    return _resolve(root, root, 0)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_plain(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if not isinstance(value, Record):
        return value
    package, _, name = value.global_name.partition(".")
    state = value.state if isinstance(value.state, dict) else {}
    if value.global_name in ("argparse.Namespace", "types.SimpleNamespace"):
        return _plain(state)
    if package == "omegaconf" and "_content" in state:
        return _plain(state["_content"])
    if package == "omegaconf" and "_val" in state:
        return _plain(state["_val"])
    if name == "getattr" and len(value.arguments) == 2:  # an enum by name, as Python 3.11 writes them
        return value.arguments[1]
    if len(value.arguments) == 1 and isinstance(value.arguments[0], str | int | float) and not value.state:
        return value.arguments[0]  # an enum by value
    return value


def _resolve(value: Any, root: Any, depth: int) -> Any:
    if isinstance(value, dict):
        return {k: _resolve(v, root, depth) for k, v in value.items()}
    if isinstance(value, list):
        return [_resolve(v, root, depth) for v in value]
    if isinstance(value, str) and value.startswith("${") and value.endswith("}") and depth < 8:
        found = root
        for key in value[2:-1].split("."):
            found = found.get(key) if isinstance(found, dict) else None
        return value if found is None else _resolve(found, root, depth + 1)
    return value
