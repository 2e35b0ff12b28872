"""Kaldi archives."""

from __future__ import annotations

import io
import pickle
import struct
import tempfile
from pathlib import Path
from typing import Any

import kaldiio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from speechkit.data.kaldi.ark import header_at, read_ark, read_at, read_scp, write_ark
from speechkit.errors import InputError

ARRAYS = st.one_of(
    arrays.arrays(np.float32, arrays.array_shapes(max_dims=2, max_side=4), elements=st.floats(-9, 9, width=32)),
    arrays.arrays(np.float64, arrays.array_shapes(max_dims=2, max_side=4), elements=st.floats(-9, 9)),
    arrays.arrays(np.int32, st.tuples(st.integers(0, 5)), elements=st.integers(-(2**31), 2**31 - 1)),
)
MATRIX = np.arange(12, dtype=np.float32).reshape(4, 3)


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@given(st.lists(ARRAYS, max_size=4))
def test_what_is_written_is_read_by_us_and_by_kaldiio(items: list[np.ndarray]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ark, scp = Path(folder) / "x.ark", Path(folder) / "x.scp"
        write_ark(ark, ((f"u{i}", array) for i, array in enumerate(items)), scp=scp)
        for found in (read_ark(ark), read_scp(scp), kaldiio.load_ark(str(ark))):
            for (key, value), (number, array) in zip(found, enumerate(items), strict=True):
                assert key == f"u{number}"
                assert value.dtype == array.dtype
                np.testing.assert_array_equal(value, array)


@pytest.mark.parametrize("method", [2, 3, 5])
def test_a_compressed_matrix_is_close_and_its_header_tells_its_shape(tmp_path: Path, method: int) -> None:
    matrix = np.sin(np.arange(60, dtype=np.float32)).reshape(12, 5)
    write_ark(tmp_path / "x.ark", [("u", matrix), ("v", matrix)], scp=tmp_path / "x.scp", compression_method=method)
    for _, value in read_ark(tmp_path / "x.ark"):
        np.testing.assert_allclose(value, matrix, atol=0.02)
    _, last = (tmp_path / "x.scp").read_text().splitlines()
    header = header_at(last.partition(" ")[2])
    assert header.shape == (12, 5)
    assert int(last.rpartition(":")[2]) + (header.num_bytes or 0) == (tmp_path / "x.ark").stat().st_size


def test_a_pickle_is_refused_and_does_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "trapped"
    (tmp_path / "x.ark").write_bytes(b"u PKL" + pickle.dumps(Trap(trap)))
    (tmp_path / "x.scp").write_text(f"u {tmp_path}/x.ark:2\n")
    reads = (lambda: list(read_ark(tmp_path / "x.ark")), lambda: list(read_scp(tmp_path / "x.scp")))
    for read in (*reads, lambda: header_at(f"{tmp_path}/x.ark:2")):
        with pytest.raises(InputError, match=r"x\.ark.*pickle") as caught:
            read()
        assert caught.value.code == "E431"
    assert not trap.exists()


def test_a_numpy_object_is_read_unless_it_holds_a_pickle(tmp_path: Path) -> None:
    trap = tmp_path / "trapped"
    for array in (MATRIX, np.array([Trap(trap)], dtype=object)):
        content = io.BytesIO()
        np.save(content, array)
        size = len(content.getvalue())
        (tmp_path / "x.ark").write_bytes(b"u NPY\x02" + struct.pack("<H", size) + content.getvalue())
        if array is MATRIX:
            np.testing.assert_array_equal(read_at(f"{tmp_path}/x.ark:2"), MATRIX)
        else:
            with pytest.raises(InputError, match="allow_pickle"):
                read_at(f"{tmp_path}/x.ark:2")
    assert not trap.exists()


def test_ranges_include_both_ends(tmp_path: Path) -> None:
    write_ark(tmp_path / "x.ark", [("u", MATRIX)])
    for ranges, part in (("[1:2,0:1]", MATRIX[1:3, 0:2]), ("[:,2:2]", MATRIX[:, 2:3]), ("[0:3]", MATRIX)):
        np.testing.assert_array_equal(read_at(f"x.ark:2{ranges}", root=tmp_path), part)
        assert header_at(f"x.ark:2{ranges}", root=tmp_path).shape == part.shape


@pytest.mark.parametrize("ranges", ["[1:4]", "[0:1,0:3]", "[2:1]", "[0:1,0:1,0:1]", "[1]"])
def test_a_range_outside_the_array_is_an_error(tmp_path: Path, ranges: str) -> None:
    write_ark(tmp_path / "x.ark", [("u", MATRIX)])
    with pytest.raises(InputError) as caught:
        read_at(f"x.ark:2{ranges}", root=tmp_path)
    assert caught.value.code == "E171"


@pytest.mark.parametrize("array", [MATRIX, MATRIX[0], np.arange(5, dtype=np.int32)], ids=["matrix", "vector", "ints"])
def test_an_object_that_is_cut_short_is_an_error(tmp_path: Path, array: np.ndarray) -> None:
    write_ark(tmp_path / "x.ark", [("u", array)])
    content = (tmp_path / "x.ark").read_bytes()
    for size in range(3, len(content)):
        (tmp_path / "x.ark").write_bytes(content[:size])
        with pytest.raises(InputError) as caught:
            list(read_ark(tmp_path / "x.ark"))
        assert caught.value.code == "E171", size


@pytest.mark.parametrize(
    "content",
    [
        b"u \0BFM \4" + struct.pack("<i", -1) + b"\4" + struct.pack("<i", 3),
        b"u \0BFM \4" + struct.pack("<i", 2**30) + b"\4" + struct.pack("<i", 2**30),
        b"u \0BXX \4\0\0\0\0",
        b"u %!@",
        b"u [ 1 2",
        b"u [ 1 x ]\n",
        b"no-space",
    ],
)
def test_what_is_no_object_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.ark").write_bytes(content)
    with pytest.raises(InputError):
        list(read_ark(tmp_path / "x.ark"))


def test_a_short_text_object_at_the_end_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.ark").write_bytes(b"utt1 3 4\nutt2 7\n")
    assert [(key, list(value)) for key, value in read_ark(tmp_path / "x.ark")] == [("utt1", [3, 4]), ("utt2", [7])]


def test_commands_are_not_run_for_archives(tmp_path: Path) -> None:
    (tmp_path / "x.scp").write_text(f"u touch {tmp_path}/ran |\n")
    with pytest.raises(InputError, match="commands are not run"):
        list(read_scp(tmp_path / "x.scp"))
    assert not (tmp_path / "ran").exists()
