"""torchaudio whose compiled part loads, is missing, cannot be loaded, or belongs to another CUDA: each in a process."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LOADS = """
import torch, types, unittest.mock
torch.ops.load_library = lambda path: None
torch.ops._torchaudio = types.SimpleNamespace(cuda_version=lambda: {cuda}, is_align_available=lambda: True)
torch.ops.torchaudio = unittest.mock.MagicMock()
torch.version.cuda = "12.4"
"""

REPORT = """
import logging, sys
logging.basicConfig(level=logging.INFO, format="%(name)s %(message)s", stream=sys.stdout)
from speechkit.compat import load_torchaudio
torchaudio = load_torchaudio()
import torchaudio as again
from torchaudio import _extension
from torchaudio._extension import utils
assert again is torchaudio and load_torchaudio() is torchaudio
print("file", torchaudio.__file__)
print("available", _extension._IS_TORCHAUDIO_EXT_AVAILABLE)
print("untouched", utils._load_lib.__code__.co_filename == utils.__file__)
"""


def copy_of_torchaudio(folder: Path, libraries: list[str]) -> Path:
    """A folder for PYTHONPATH with torchaudio as installed, but for its compiled part: empty files of these names."""
    spec = importlib.util.find_spec("torchaudio")  # finds, does not import
    assert spec is not None
    package = folder / "torchaudio"
    (package / "lib").mkdir(parents=True)
    for entry in Path(str(spec.origin)).parent.iterdir():
        if entry.name not in ("lib", "__pycache__"):
            (package / entry.name).symlink_to(entry)
    for name in libraries:
        (package / "lib" / name).touch()
    return folder


def run(code: str, path: Path | None = None) -> str:
    paths = [str(p) for p in (path, ROOT) if p]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=300)
    assert process.returncode == 0, process.stderr
    return process.stdout


LIBRARIES = ["_torchaudio.abi3.so", "libtorchaudio.abi3.so"]


def test_nothing_is_touched_where_the_compiled_part_loads(tmp_path: Path) -> None:
    out = run(LOADS.format(cuda="12040") + REPORT, copy_of_torchaudio(tmp_path, LIBRARIES))
    assert f"file {tmp_path}" in out
    assert "available True" in out
    assert "untouched True" in out
    assert "unavailable" not in out


def test_nothing_is_touched_where_the_compiled_part_is_missing(tmp_path: Path) -> None:
    out = run(REPORT, copy_of_torchaudio(tmp_path, []))
    assert "available False" in out
    assert "untouched True" in out


@pytest.mark.parametrize(
    "before", ["", LOADS.format(cuda="13000")], ids=["cannot be loaded", "was compiled for another CUDA"]
)
def test_the_python_part_works_and_is_said_once_where_the_compiled_part(before: str, tmp_path: Path) -> None:
    use = """
import torch
from torchaudio.compliance import kaldi
print("frames", kaldi.fbank(torch.ones(1, 800)).shape[0])
print("resampled", torchaudio.functional.resample(torch.ones(1, 800), 16000, 8000).shape[1])
try:
    torchaudio.functional.forced_align(torch.zeros(1, 4, 3), torch.ones(1, 2, dtype=torch.int32))
except RuntimeError as error:
    print("align:", error)
"""
    out = run(before + REPORT + use, copy_of_torchaudio(tmp_path, LIBRARIES))
    assert "available False" in out
    assert "untouched False" in out
    assert out.count("torchaudio's compiled extension is unavailable (") == 1
    assert "frames 3" in out
    assert "resampled 400" in out
    assert "Requires alignment extension" in out.partition("align:")[2]


def test_transformers_finds_torchaudio_usable_afterwards(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    code = """
from speechkit.compat import load_torchaudio
load_torchaudio()
import numpy
from transformers import ASTFeatureExtractor
print("shape", ASTFeatureExtractor()(numpy.zeros(16000, "float32"), sampling_rate=16000)["input_values"][0].shape)
"""
    assert "shape (1024, 128)" in run(code, copy_of_torchaudio(tmp_path, LIBRARIES))


def test_the_installed_torchaudio_can_be_used() -> None:
    assert "available" in run(REPORT)


def test_a_torchaudio_that_cannot_be_helped_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "torchaudio.py").write_text("raise OSError('no such library')")
    code = """
from speechkit.compat import load_torchaudio
from speechkit.errors import MissingDependency
try:
    load_torchaudio()
except MissingDependency as error:
    print(error.message, "|", error.hint)
"""
    out = run(code, tmp_path)
    assert "torchaudio cannot be loaded: no such library" in out
    assert "pip install torchaudio" in out


def test_an_error_of_another_kind_is_not_swallowed(tmp_path: Path) -> None:
    (tmp_path / "torchaudio.py").write_text("raise RuntimeError('something else')")
    code = """
from speechkit.compat import load_torchaudio
try:
    load_torchaudio()
except RuntimeError as error:
    print("raised", error)
"""
    assert "raised something else" in run(code, tmp_path)


def test_importing_speechkit_imports_neither_torch_nor_torchaudio() -> None:
    code = "import sys, speechkit, speechkit.compat; print({'torch', 'torchaudio'} & set(sys.modules))"
    assert "set()" in run(code)
