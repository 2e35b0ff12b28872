from __future__ import annotations

import json
import os
import resource
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import nn

from speechkit.checkpoints.folder import read_settings, write_folder
from speechkit.checkpoints.weights import fill, find_weights, read_json, read_weights, write_safetensors
from speechkit.errors import ModelError, OutputError


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    kind: Literal["toy"] = "toy"
    sizes: tuple[tuple[int, int], ...] = ((1, 2), (3, 4))
    eps: float | None = None


def tensors() -> dict[str, torch.Tensor]:
    return {"a": torch.arange(6.0).reshape(2, 3), "b": torch.arange(4).t()}


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == tensors().keys() and all(torch.equal(found[n], t) for n, t in tensors().items())


def test_weights_are_read_in_every_form(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model.safetensors", tensors())
    assert same(read_weights(find_weights(tmp_path)))
    (tmp_path / "model.safetensors").unlink()
    torch.save(tensors(), tmp_path / "pytorch_model.bin")
    assert same(read_weights(find_weights(tmp_path)))
    write_safetensors(tmp_path / "one.safetensors", {"a": tensors()["a"]})
    torch.save({"b": tensors()["b"]}, tmp_path / "two.bin")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.bin"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert same(read_weights(find_weights(tmp_path)))


def test_transposed_tensors_are_written_as_they_look(tmp_path: Path) -> None:
    x = torch.arange(6.0).reshape(2, 3).t()
    write_safetensors(tmp_path / "f.safetensors", {"x": x, "part": x[1:, :1]})
    found = read_weights(tmp_path / "f.safetensors")
    assert torch.equal(found["x"], x)
    assert torch.equal(found["part"], x[1:, :1])


def test_changing_what_was_read_leaves_the_file_alone(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "f.safetensors", tensors())
    read_weights(tmp_path / "f.safetensors")["a"].zero_()
    assert same(read_weights(tmp_path / "f.safetensors"))


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002], ids=oct)
def test_file_modes_follow_the_umask(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_folder(tmp_path / "model", Settings(), tensors(), "# toy\n")
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "model").iterdir()}
    assert modes == {0o666 & ~umask}


def test_settings_come_back_with_their_types(tmp_path: Path) -> None:
    settings = Settings(sizes=((5, 6),), eps=1e-7)
    write_folder(tmp_path / "model", settings, tensors(), "# toy\n")
    assert read_settings(tmp_path / "model", Settings) == settings
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["card.md", "config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"siezs": 1}, "siezs"),
        ({"eps": "small"}, "eps"),
        ({"sizes": [[1, 2, 3]]}, "sizes"),
        ({"kind": "other"}, "kind"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_wrong_settings_are_named_with_their_line(change: dict[str, object], said: str, tmp_path: Path) -> None:
    write_folder(tmp_path / "model", Settings(), tensors(), "# toy\n")
    path = tmp_path / "model/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change, indent=1))
    with pytest.raises(ModelError, match=said) as refused:
        read_settings(tmp_path / "model", Settings)
    assert f"{path}:" in str(refused.value)


def test_a_folder_with_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="no model folder"):
        write_folder(tmp_path, Settings(), tensors(), "")
    assert (tmp_path / "thesis.tex").exists()
    (tmp_path / "empty").mkdir()
    write_folder(tmp_path / "empty", Settings(), tensors(), "")
    write_folder(tmp_path / "empty", Settings(eps=1.0), tensors(), "")
    assert read_settings(tmp_path / "empty", Settings).eps == 1.0


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import resource, signal, torch\n"
        "from pathlib import Path\n"
        "from speechkit.checkpoints.folder import write_folder\n"
        "from speechkit.errors import OutputError\n"
        "from tests.checkpoints.test_weights import Settings\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, {resource.RLIM_INFINITY}))\n"
        "try:\n"
        f"    write_folder(Path({str(tmp_path)!r}) / 'model', Settings(), {{'w': torch.zeros(100_000)}}, '')\n"
        "except OutputError as error:\n"
        "    print('said:', error)\n"
    )
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert "said:" in run.stdout
    assert str(tmp_path) in run.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"not safetensors at all", b"\xff" * 64])
def test_damaged_safetensors_are_a_model_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "f.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"f\.safetensors"):
        read_weights(tmp_path / "f.safetensors")


def test_truncated_and_missing_weights_are_a_model_error(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_safetensors(path, {"w": torch.randn(100)})
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ModelError, match="not a readable safetensors"):
        read_weights(path)
    path.unlink()
    with pytest.raises(ModelError, match="no such file"):
        read_weights(path)
    with pytest.raises(ModelError, match="no weights"):
        find_weights(tmp_path)


def test_an_index_stays_within_its_folder(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../other.safetensors"}}))
    with pytest.raises(ModelError, match="beside it"):
        read_weights(index)
    write_safetensors(tmp_path / "one.safetensors", {"b": torch.ones(1)})
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
    with pytest.raises(ModelError, match="missing weights: a"):
        read_weights(index)


def test_json_that_is_none_is_a_model_error(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for text in ("{", "[1]", '{"a": NaN'):
        path.write_text(text)
        with pytest.raises(ModelError, match="JSON"):
            read_json(path)


def test_networks_are_filled_under_other_names_and_say_what_is_wrong() -> None:
    with torch.device("meta"):
        network = nn.Linear(3, 2)
    names = {"weight": "w", "bias": "b"}
    fill(network, {"w": torch.ones(2, 3).half(), "b": torch.ones(2)}, source="file", names=names)
    assert network.weight.dtype == torch.float32
    assert network.weight.requires_grad
    assert torch.equal(network(torch.ones(1, 3)), torch.full((1, 2), 4.0))
    fill(network, {"w": torch.ones(2, 3)}, source="file", names=names, optional=["bias"])
    assert not network.bias.any()
    with pytest.raises(ModelError, match="file: missing weights: b"):
        fill(network, {"w": torch.ones(2, 3)}, source="file", names=names)
    with pytest.raises(ModelError, match="file: unknown weights: c"):
        fill(network, {"w": torch.ones(2, 3), "b": torch.ones(2), "c": torch.ones(1)}, source="file", names=names)
    with pytest.raises(ModelError, match=r"file: w has shape \[3, 2\], expected \[2, 3\]"):
        fill(network, {"w": torch.ones(3, 2), "b": torch.ones(2)}, source="file", names=names)
