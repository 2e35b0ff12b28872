"""Every cut read through the index is the one that is read in order."""

from __future__ import annotations

import io
import json
import logging
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechkit.audio.files import encode, read_int16
from speechkit.data.lhotse.forms import as_line, cut_json, recording_json
from speechkit.data.lhotse.index import Index
from speechkit.data.lhotse.shar import SharUtterances, index_shar
from speechkit.data.utterance import Utterance
from tests.data.corpora import noise, samples

IDS = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=150)  # a long name has a header of its own
CUTS = st.tuples(IDS, st.integers(1, 300), st.sampled_from([8000, 16000, 44100]), st.sampled_from(["flac", "wav", ""]))
SHARDS = st.lists(st.lists(CUTS, min_size=1, max_size=4), min_size=1, max_size=3)


def write(folder: Path, shards: list[list[tuple[str, int, int, str]]]) -> None:
    """Shards as anybody may write them, some cuts without audio, every other file of cuts zipped."""
    import gzip

    for number, cuts in enumerate(shards):
        lines = []
        with tarfile.open(folder / f"recording.{number:06}.tar", "w") as tar:
            for id, num_samples, rate, ending in cuts:
                stored = recording_json(id, "shar", "", num_samples=num_samples, sample_rate=rate, channels=1)
                utterance = Utterance(id=id, path="", num_samples=num_samples, sample_rate=rate, text=f"text {id}")
                lines.append(as_line(cut_json(utterance, stored, {})))
                audio = bytes(encode(id, noise(id, num_samples), rate, ending)) if ending else b""
                for name, content in (
                    (f"{id}.{ending or 'nodata'}", audio),
                    (f"{id}.{'json' if ending else 'nometa'}", as_line(stored) if ending else b""),
                ):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        name, content = f"cuts.{number:06}.jsonl", b"".join(lines)
        if number % 2:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


def in_order(folder: Path) -> list[tuple[str, bytes]]:
    """Ids and samples of the cuts that have audio, read from the beginning of every tar to its end."""
    found = []
    for path in sorted(folder.glob("recording.*.tar")):
        with tarfile.open(path, "r|") as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                if not member.name.endswith((".json", ".nodata", ".nometa")):
                    content, _ = read_int16(io.BytesIO(file.read()))
                    found.append((member.name.rpartition(".")[0], content.tobytes()))
    return found


@given(SHARDS)
def test_a_cut_read_through_the_index_is_the_one_read_in_order(shards: list[list[tuple[str, int, int, str]]]) -> None:
    unique = {cut[0]: cut for shard in shards for cut in shard}
    shards = [[cut for cut in shard if unique[cut[0]] is cut] for shard in shards]
    shards = [shard for shard in shards if shard]
    cuts = [cut for shard in shards for cut in shard]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, shards)
        expected = in_order(folder)
        made = index_shar(folder)
        made.save(folder)
        index = Index.load(folder)
        assert index is not None
        assert [index.id(k) for k in range(len(index))] == [id for id, *_ in cuts]
        assert index.shard.tolist() == [n for n, shard in enumerate(shards) for _ in shard]
        for field in ("num_samples", "sr", "cut_offset", "data_offset", "data_size", "id_hash", "flags", "id_ends"):
            np.testing.assert_array_equal(getattr(index, field), getattr(made, field))
        assert json.loads((folder / "cuts.index/index.json").read_text())["count"] == len(cuts)
        with_audio = [cut for cut in cuts if cut[3]]
        lazy = SharUtterances(folder)
        order = sorted(range(len(lazy)), key=lambda k: noise(lazy[k].id, 1).tolist())  # not that of the files
        found = {k: lazy[k] for k in order}
        for k, (id, num_samples, rate, _) in enumerate(with_audio):
            utterance = found[k]
            assert (utterance.id, utterance.num_samples, utterance.sample_rate) == (id, num_samples, rate)
            assert utterance.text == f"text {id}"
            assert (utterance.id, samples(utterance).tobytes()) == expected[k]
        assert len(expected) == len(lazy) == len(with_audio)


def test_an_index_takes_46_bytes_a_cut_and_the_ids(tmp_path: Path) -> None:
    write(tmp_path, [[(f"{n:05}", 10, 8000, "wav") for n in range(100)]])
    index = index_shar(tmp_path)
    out = index.save(tmp_path)
    arrays = [np.load(path, mmap_mode="r") for path in sorted(out.glob("*.npy"))]
    assert all(isinstance(array, np.memmap) for array in arrays)
    assert sum(array.nbytes for array in arrays) == 100 * 46
    assert (out / "ids.txt").read_text() == "".join(f"{n:05}\n" for n in range(100))


def test_cuts_without_audio_are_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, [[("a", 10, 8000, ""), ("b", 10, 8000, "wav"), ("c", 10, 8000, "")]])
    with caplog.at_level(logging.WARNING):
        assert [u.id for u in SharUtterances(tmp_path)] == ["b"]
    assert caplog.messages == [f"{tmp_path}: 2 cuts have no audio and are left out"]
