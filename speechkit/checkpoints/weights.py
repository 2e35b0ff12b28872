"""Named tensors in files, and networks filled from them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from speechkit.checkpoints.unpickle import read_pickle
from speechkit.errors import ModelError, OutputError

_MAX_JSON_BYTES = 50 << 20
_FORMS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict, mapped into memory: safetensors, torch's pickle, or the index of a sharded one.

    Raises:
        ModelError: missing, damaged, or something else than named tensors.
    """
    path = Path(path)
    if path.name.endswith(".index.json"):
        return _read_shards(path)
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    tensors = read_pickle(path)
    if not is_state_dict(tensors):
        raise ModelError(f"{path}: not a state dict (names to tensors)", code="model.corrupt")
    return dict(tensors)


def find_weights(folder: Path) -> Path:
    """The weights in a folder, under the names that transformers uses.

    Raises:
        ModelError: there are none.
    """
    for name in _FORMS:
        if (folder / name).exists():
            return folder / name
    raise ModelError(f"{folder}: no weights: none of {', '.join(_FORMS)}", code="model.missing")


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, mapped into memory.

    Raises:
        ModelError: missing or damaged.
    """
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file", code="model.missing") from error
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelError(
            f"{path}: not a readable safetensors file: {error}", hint="is the download complete?", code="model.corrupt"
        ) from error


def write_safetensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file (not whole or not at all: that is the caller's), readable as its neighbors are.

    Raises:
        OutputError: no space, or no permission.
    """
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file({n: t.detach().contiguous() for n, t in tensors.items()}, path, metadata={"format": "pt"})
    except SafetensorError as error:  # also what the system refused
        raise OutputError(f"{path.parent}: cannot write {path.name}: {error}", code="output.write") from error
    path.chmod(mode)  # safetensors makes files that only their owner may read


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that belongs to a model.

    Raises:
        ModelError: missing, too large, or no JSON object.
    """
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise ModelError(f"{path}: {path.stat().st_size} bytes of JSON; at most {_MAX_JSON_BYTES} are read")
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}", code="model.missing") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not JSON: {error}", code="model.corrupt") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path}: a JSON object is expected", code="model.corrupt")
    return values


class Hollow(TorchFunctionMode):
    """Entered where networks are made to be filled from a file: no initial weights are drawn.

    Memory that is never written to costs nothing. torch's meta device would cost a second: it draws and adds in Python.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in (Tensor.normal_, Tensor.uniform_) or getattr(function, "__module__", "") == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


def fill(
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    source: str | Path,
    names: Mapping[str, str] | None = None,
    optional: Iterable[str] = (),
) -> None:
    """Give a network (best one made under `Hollow`) the tensors of a file as its own, in float32.

    Args:
        network: what to fill.
        tensors: by the names of the file.
        source: the file, for messages.
        names: from every name of the network to that of the file; None: they are the same.
        optional: names of the network that become zero where the file has none.

    Raises:
        ModelError: a tensor is missing, one is left over, or a shape differs.
    """
    expected = network.state_dict()
    names = {n: n for n in expected} if names is None else names
    optional = set(optional)
    _refuse(source, "missing", [f for n, f in names.items() if f not in tensors and n not in optional])
    _refuse(source, "unknown", sorted(set(tensors) - set(names.values())))
    state = {}
    for name, wanted in expected.items():
        found = tensors[names[name]] if names[name] in tensors else torch.zeros(wanted.shape)
        if found.shape != wanted.shape:
            raise ModelError(
                f"{source}: {names[name]} has shape {list(found.shape)}, expected {list(wanted.shape)}",
                hint="its settings belong to another network",
                code="model.shape",
            )
        state[name] = found.float() if found.is_floating_point() else found
    network.load_state_dict(state, assign=True)


def is_state_dict(value: Any) -> bool:
    """Whether a value is a mapping of names to tensors."""
    return isinstance(value, Mapping) and bool(value) and all(isinstance(v, Tensor) for v in value.values())


def _refuse(source: str | Path, what: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise ModelError(f"{source}: {what} weights: {', '.join(names[:3])}{more}", code="model.keys")


def _read_shards(index: Path) -> dict[str, Tensor]:
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or any(Path(str(s)).name != s for s in shards.values()):
        raise ModelError(f"{index}: weight_map is to name files beside it", code="model.corrupt")
    files = {shard: read_weights(index.parent / shard) for shard in sorted(set(shards.values()))}
    missing = [n for n, shard in shards.items() if n not in files[shard]]
    _refuse(index, "missing", missing)
    return {n: files[shard][n] for n, shard in shards.items()}
