from __future__ import annotations

import argparse
import collections
import contextlib
import os
import pickle
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import omegaconf
import pytest
import torch

from speechkit.checkpoints.unpickle import Record, plain, read_pickle
from speechkit.errors import ModelError

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def save(value: Any, path: Path, *, zipped: bool = True) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


@FORMATS
def test_tensors_of_every_type_and_layout_are_read(zipped: bool, tmp_path: Path) -> None:
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    types_ = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool)
    value = {
        **{str(t): base.to(t) for t in types_},
        "transposed": base.t(),
        "part": base[1:3, ::2],
        "again": base,
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(base),
        "state": torch.nn.Linear(2, 3).state_dict(),
        "plain": [1, 2.5, "text", None, True, (1, 2), {3}, b"bytes"],
    }
    found = read_pickle(save(value, tmp_path / "f.pt", zipped=zipped))
    for name, tensor in value.items():
        if isinstance(tensor, torch.Tensor):
            assert found[name].dtype == tensor.dtype, name
            assert torch.equal(found[name], tensor), name
    assert found["plain"][:7] == value["plain"][:7]
    assert all(torch.equal(t, value["state"][n]) for n, t in found["state"].items())
    assert found["again"].data_ptr() == found["part"].data_ptr() - found["part"].storage_offset() * 4


def test_changing_what_was_read_leaves_the_file_alone(tmp_path: Path) -> None:
    path = save({"w": torch.ones(1000)}, tmp_path / "f.pt")
    before = path.read_bytes()
    read_pickle(path)["w"].zero_()
    assert path.read_bytes() == before


class Runs:
    """Would make a file when unpickled by a trusting program."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@FORMATS
@pytest.mark.parametrize("where", ["alone", "in settings", "beside weights"])
@pytest.mark.parametrize(
    "function", [os.system, eval, exec, subprocess.check_call, os.mkdir, torch.load, np.save], ids=lambda f: f.__name__
)
def test_nothing_in_a_file_runs(function: Any, where: str, zipped: bool, tmp_path: Path) -> None:
    marker = tmp_path / "it ran"
    command = {
        os.system: f"touch '{marker}'",
        eval: f"open({str(marker)!r}, 'w')",
        exec: f"open({str(marker)!r}, 'w')",
        subprocess.check_call: ["touch", str(marker)],
        os.mkdir: str(marker),
        torch.load: str(marker),
        np.save: str(marker),
    }[function]
    attack = Runs(function, command)
    value = {
        "alone": attack,
        "in settings": {"cfg": {"layers": attack}, "model": {"w": torch.ones(2)}},
        "beside weights": {"cfg": {}, "model": {"w": torch.ones(2), "v": attack}},
    }[where]
    path = save(value, tmp_path / "f.pt", zipped=zipped)
    with pytest.raises(ModelError) as refused:
        read_pickle(path)
    assert not marker.exists()
    assert refused.value.code == "model.unsafe"
    assert function.__name__ in str(refused.value) or function.__module__ in str(refused.value)


def test_whole_modules_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"torch\.nn\.modules"):
        read_pickle(save(torch.nn.Linear(2, 2), tmp_path / "f.pt"))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_torchscript_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.pt"
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(path)
    with pytest.raises(ModelError, match="TorchScript"):
        read_pickle(path)


@pytest.fixture
def foreign() -> types.ModuleType:
    """A package that is here when the file is written and gone when it is read."""
    module = types.ModuleType("fairseq_of_somebody")
    code = "from enum import Enum\nclass Dictionary:\n    pass\nclass Mode(Enum):\n    layer_norm = 'layer_norm'\n"
    code += "class Symbols(list):\n    pass\nclass Table(dict):\n    pass\n"
    exec(code, module.__dict__)
    for name in ("Dictionary", "Mode", "Symbols", "Table"):
        module.__dict__[name].__module__ = module.__name__
    sys.modules[module.__name__] = module
    return module


@FORMATS
def test_foreign_classes_become_inert_records(foreign: types.ModuleType, zipped: bool, tmp_path: Path) -> None:
    dictionary = foreign.Dictionary()
    dictionary.symbols = ["<s>", "a"]
    value = {
        "dictionary": dictionary,
        "mode": foreign.Mode.layer_norm,
        "symbols": foreign.Symbols(["a", "b"]),
        "table": foreign.Table(a=1),
    }
    path = save(value, tmp_path / "f.pt", zipped=zipped)
    del sys.modules[foreign.__name__]
    found = read_pickle(path)
    assert isinstance(found["dictionary"], Record)
    assert found["dictionary"].state == {"symbols": ["<s>", "a"]}
    assert repr(found["dictionary"]) == "<fairseq_of_somebody.Dictionary>"
    assert found["symbols"].elements == ["a", "b"]
    assert found["table"].items == {"a": 1}
    assert plain(found["mode"]) == "layer_norm"


def test_settings_become_plain_values(tmp_path: Path) -> None:
    tree = {"task": {"normalize": True, "rate": 50}, "model": {"rate": "${task.rate}", "list": [1, [2]], "no": None}}
    value = {
        "config": omegaconf.OmegaConf.create(tree),
        "namespace": argparse.Namespace(a=1, b=argparse.Namespace(c=(1, 2))),
        "default": collections.defaultdict(list, a=1),
        "path": Path("a/b"),
        "number": np.float64(0.5),
        "dtype": torch.float32,
    }
    found = read_pickle(save(value, tmp_path / "f.pt"))
    assert plain(found["config"]) == {**tree, "model": {**tree["model"], "rate": 50}}
    assert plain(found["namespace"]) == {"a": 1, "b": {"c": [1, 2]}}
    assert found["dtype"] == torch.float32
    assert {type(found[name]).__mro__[1] for name in ("default", "path", "number")} == {Record}


def test_references_in_settings_end(tmp_path: Path) -> None:
    assert plain({"a": "${b}", "b": "${a}", "c": "${x.y}", "d": "${a"})["c"] == "${x.y}"


@FORMATS
def test_damaged_files_are_a_model_error(zipped: bool, tmp_path: Path) -> None:
    path = save({"model": {"w": torch.randn(50, 50)}, "cfg": {"a": 1}}, tmp_path / "f.pt", zipped=zipped)
    whole = path.read_bytes()
    for size in (0, 1, 10, 100, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelError) as refused:
            read_pickle(path)
        assert refused.value.exit_code == 4
    for text in (b"hello", pickle.dumps({"a": 1}), b"PK\x03\x04" + b"\0" * 50, b"<html></html>"):
        path.write_bytes(text)
        with pytest.raises(ModelError):
            read_pickle(path)
    with pytest.raises(ModelError, match="No such file"):
        read_pickle(tmp_path / "nothing.pt")
    with pytest.raises(ModelError, match="directory"):
        read_pickle(tmp_path)


def test_random_damage_never_ends_in_anything_else(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    for zipped in (True, False):
        path = save({"model": {"w": torch.randn(4)}, "cfg": {"a": [1, "b"]}}, tmp_path / "f.pt", zipped=zipped)
        whole = bytearray(path.read_bytes())
        for _ in range(150):
            where, byte = (
                torch.randint(0, len(whole), (1,), generator=generator),
                torch.randint(0, 256, (1,), generator=generator),
            )
            damaged = bytearray(whole)
            damaged[int(where)] = int(byte)
            path.write_bytes(damaged)
            with contextlib.suppress(ModelError):
                read_pickle(path)
