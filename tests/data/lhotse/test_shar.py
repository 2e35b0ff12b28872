"""Shar folders: written, indexed, read, and what is said of damaged ones."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechkit.audio.files import save
from speechkit.data.kaldi.tables import DataDir
from speechkit.data.kaldi.utterances import utterances
from speechkit.data.lhotse.forms import supervision_fields
from speechkit.data.lhotse.index import FOLDER, Index
from speechkit.data.lhotse.manifests import data_dir
from speechkit.data.lhotse.shar import FORMATS, Format, SharUtterances, index_shar, is_shar, write_shar
from speechkit.data.reader import Request, read_ahead, read_waves
from speechkit.data.utterance import Utterance, read_utterances
from speechkit.errors import InputError
from tests.data.corpora import TABLES, assert_same, corpus, noise, samples


@pytest.fixture
def kaldi(tmp_path: Path) -> Path:
    return corpus(tmp_path)


@pytest.fixture
def found(kaldi: Path, tmp_path: Path) -> list[Utterance]:
    return utterances(kaldi, root=tmp_path)


def write(out: Path, found: list[Utterance], **options: object) -> Path:
    write_shar(out, found, {}, **options)  # type: ignore[arg-type]
    return out


@pytest.fixture
def shar(tmp_path: Path, found: list[Utterance]) -> Path:
    return write(tmp_path / "shar", found, shard_size=3)


@pytest.mark.parametrize("format", FORMATS)
def test_utterances_come_back_with_the_same_samples(tmp_path: Path, found: list[Utterance], format: Format) -> None:
    out = write(tmp_path / "shar", found, shard_size=3, format=format)
    assert {p.name for p in out.iterdir()} == {
        *(f"cuts.00000{n}.jsonl" for n in (0, 1)),
        *(f"recording.00000{n}.tar" for n in (0, 1)),
        FOLDER,
    }
    assert_same(read_utterances(out), found)
    shutil.rmtree(out / FOLDER)
    assert_same(read_utterances(out), found)  # by going through the shards


def test_a_cut_of_a_long_recording_has_its_own_samples_only(shar: Path) -> None:
    assert [(u.start, u.num_samples) for u in SharUtterances(shar)] == [(0, 24000), (0, 23968), (0, 28000), (0, 8000)]
    with tarfile.open(shar / "recording.000000.tar") as tar:
        assert tar.getnames()[:2] == ["s1-u1.flac", "s1-u1.json"]
        assert {(m.mtime, m.uid, m.uname) for m in tar} == {(0, 0, "")}


def test_a_data_directory_comes_back_with_its_tables(tmp_path: Path, kaldi: Path, found: list[Utterance]) -> None:
    tables = DataDir.read(kaldi)
    fields, left = supervision_fields(tables)
    assert left == []
    write_shar(tmp_path / "shar", found, fields, shard_size=3)
    back, notes = data_dir(SharUtterances(tmp_path / "shar").cuts())
    assert notes == []
    kept = ("text", "utt2spk", "utt2lang", "spk2gender", "text.tc.en")
    assert {name: back.tables()[name] for name in kept} == {name: tables.tables()[name] for name in kept}
    back.write(tmp_path / "back")
    assert_same(utterances(tmp_path / "back", root=tmp_path), found)
    assert "segments" not in back.tables()


def test_the_bytes_are_the_same_for_any_number_of_processes(tmp_path: Path, found: list[Utterance]) -> None:
    one, two = (write(tmp_path / f"n{n}", found, shard_size=1, nj=n) for n in (1, 2))
    files = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert len(files) == 2 * 4 + 11
    assert [(one / f).read_bytes() for f in files] == [(two / f).read_bytes() for f in files]
    shutil.rmtree(two / FOLDER)
    index_shar(two, nj=2).save(two)
    assert [(one / f).read_bytes() for f in files] == [(two / f).read_bytes() for f in files]


def test_original_keeps_files_and_their_channels(tmp_path: Path) -> None:
    save(tmp_path / "a.mp3", noise("a", 16000), 16000)
    save(tmp_path / "b.wav", np.stack([noise("b", 900), noise("c", 900)]), 16000)
    whole = Utterance(id="a", path=str(tmp_path / "a.mp3"), num_samples=16000, sample_rate=16000)
    stereo = Utterance(id="b", path=str(tmp_path / "b.wav"), num_samples=900, sample_rate=16000)
    right = Utterance(id="c", path=str(tmp_path / "b.wav"), num_samples=900, sample_rate=16000, channel=1)
    part = Utterance(id="d", path=str(tmp_path / "a.mp3"), num_samples=1000, start=70, sample_rate=16000)
    out = write(tmp_path / "shar", [whole, stereo, right, part], format="original")
    with tarfile.open(out / "recording.000000.tar") as tar:
        assert tar.getnames()[::2] == ["a.mp3", "b.wav", "c.flac", "d.flac"]
        kept = tar.extractfile("a.mp3")
        assert kept is not None
        assert kept.read() == (tmp_path / "a.mp3").read_bytes()
    lines = [json.loads(line) for line in (out / "cuts.000000.jsonl").read_text().splitlines()]
    assert [line["channel"] for line in lines] == [0, [0, 1], 0, 0]
    assert_same(read_utterances(out), [whole, stereo, right, part])
    again = write(tmp_path / "again", read_utterances(out), format="original")  # from tar to tar
    with tarfile.open(again / "recording.000000.tar") as tar:
        assert tar.getnames()[::2] == [f"{id}.original" for id in "abcd"]
    assert_same(read_utterances(again), [whole, stereo, right, part])


def test_an_utterance_is_made_when_it_is_asked_for(shar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = SharUtterances(shar)
    assert len(lazy) == 4
    assert lazy[-1].id == "s2-u2"
    assert [u.id for u in lazy[1:3]] == ["s1-u2", "s2-u1"]
    with pytest.raises(IndexError):
        lazy[4]
    assert lazy.index(lazy[2]) == 2


def test_reading_processes_read_out_of_tars(shar: Path, found: list[Utterance]) -> None:
    stored = read_utterances(shar)
    (waves,) = read_ahead(iter([Request(number=0, utterances=tuple(stored))]), workers=1, prefetch=1)
    assert not waves.bad
    for one, utterance in zip(waves.samples, found, strict=True):
        np.testing.assert_array_equal(one, samples(utterance))


def test_what_cannot_be_read_is_named_and_nothing_is_written(tmp_path: Path, found: list[Utterance]) -> None:
    (tmp_path / "b.wav").write_bytes((tmp_path / "b.wav").read_bytes()[:5000])
    with pytest.raises(InputError, match=r"^utterance 's2-u1': .*b\.wav: .* samples at 16000 Hz, its list says 28000"):
        write(tmp_path / "shar", found)
    with pytest.raises(InputError, match=r"^1 / 4 failed, the first: utterance 's2-u1'|^utterance 's2-u1'"):
        write(tmp_path / "shar", found, shard_size=1)
    assert not [p for p in tmp_path.iterdir() if "shar" in p.name]


def test_a_tar_that_is_cut_short_is_named_with_the_cut(shar: Path) -> None:
    tar = shar / "recording.000000.tar"
    whole = read_utterances(shar)
    tar.write_bytes(tar.read_bytes()[:90_000])  # in the audio of s1-u2
    with pytest.raises(InputError, match=r"000000\.tar: 90000 bytes, the index says \d+") as caught:
        read_utterances(shar)
    assert caught.value.hint == f"make it again: speechkit data index {shar}"
    with pytest.raises(InputError, match=r"recording\.000000\.tar: damaged after 's1-u2\.flac'"):
        index_shar(shar)
    bad = read_waves(whole).bad
    assert sorted(bad) == [1, 2]
    assert bad[1].id == "s1-u2"
    assert "recording.000000.tar: cut short: " in bad[1].error


@given(st.data())
def test_a_tar_cut_short_anywhere_is_an_error_or_lacks_nothing(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save(folder / "a.wav", noise("a", 400), 8000)
        span = [Utterance(id=f"u{n}", path=f"{name}/a.wav", start=n, num_samples=200, sample_rate=8000) for n in (1, 2)]
        write_shar(folder / "shar", span, {})
        whole = index_shar(folder / "shar")
        tar = folder / "shar/recording.000000.tar"
        content = tar.read_bytes()
        tar.write_bytes(content[: data.draw(st.integers(0, 4 * 1024 + 512))])
        damage = ""
        try:
            index = index_shar(folder / "shar")
        except InputError as error:
            damage = error.message
        if damage:
            assert damage.startswith(str(tar))
        else:
            assert index.data_offset.tolist() == whole.data_offset.tolist()
            shutil.rmtree(folder / "shar" / FOLDER)
            assert not read_waves(read_utterances(folder / "shar")).bad


def test_damaged_audio_is_named_by_its_place(shar: Path) -> None:
    utterance = read_utterances(shar)[0]
    tar = shar / "recording.000000.tar"
    content = bytearray(tar.read_bytes())
    content[512:600] = bytes(88)
    tar.write_bytes(content)
    bad = read_waves([utterance]).bad
    assert bad[0].id == "s1-u1"
    assert "recording.000000.tar:512: not audio" in bad[0].error


def drop_last_line(shar: Path) -> None:
    cuts = shar / "cuts.000000.jsonl"
    cuts.write_bytes(b"".join(cuts.read_bytes().splitlines(keepends=True)[:-1]))


def swap_lines(shar: Path) -> None:
    cuts = shar / "cuts.000000.jsonl"
    cuts.write_bytes(b"".join(reversed(cuts.read_bytes().splitlines(keepends=True))))


def repeat_shard(shar: Path) -> None:
    for name in ("cuts.{}.jsonl", "recording.{}.tar"):
        shutil.copy(shar / name.format("000000"), shar / name.format("000002"))


def break_line(shar: Path) -> None:
    cuts = shar / "cuts.000001.jsonl"
    cuts.write_bytes(cuts.read_bytes()[:50])


def describe(shar: Path, **changes: object) -> None:
    """Change what the tar says of its first recording."""
    path = shar / "recording.000000.tar"
    with tarfile.open(path) as tar:
        members = [(m, tar.extractfile(m).read()) for m in tar]  # type: ignore[union-attr]
    said = json.loads(members[1][1]) | changes
    members[1] = (members[1][0], json.dumps({k: v for k, v in said.items() if v is not None}).encode())
    with tarfile.open(path, "w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "cuts.000000.jsonl.gz").touch(), r"cuts\.000000\.jsonl\.gz: there is cuts.000000.jsonl too"),
        (lambda d: (d / "recording.000000.tar").rename(d / "recording.000000.tar.gz"), r"0\.tar: no such file"),
        (lambda d: (d / "recording.000000.tar").write_bytes(b""), r"recording\.000000\.tar: damaged: empty file"),
        (lambda d: (d / "recording.000000.tar").write_bytes(bytes(10240)), r"ends before the audio of cut 's1-u1'"),
        (lambda d: describe(d, sampling_rate=None), r"jsonl:1: cut 's1-u1': s1-u1.json does not describe a recording"),
        (lambda d: describe(d, channel_ids=[0, 1]), r"cut 's1-u1' takes one channel, its audio has 2"),
        (lambda d: describe(d, num_samples=20000), r"'s1-u1' takes samples 0 to 24000 of a recording of 20000"),
        (drop_last_line, r"recording\.000000\.tar: 's2-u1\.flac' belongs to no cut of cuts\.000000\.jsonl"),
        (swap_lines, r"000000\.tar: has 's1-u1' where .*/cuts\.000000\.jsonl:1 has cut 's2-u1'"),
        (repeat_shard, r"shar: two cuts have the id 's1-u1'"),
        (break_line, r"cuts\.000001\.jsonl:1: not a cut of lhotse"),
        (lambda d: (d / "recording.000001.tar").unlink(), r"recording\.000001\.tar: no such file"),
        (lambda d: (d / "cuts.000001.jsonl").unlink(), r"cuts\.000001\.jsonl: no such file"),
        (lambda d: shutil.rmtree(d), r"shar: no such Shar folder"),
        (lambda d: [p.unlink() for p in d.glob("*.*") if p.is_file()], r"shar: no Shar folder"),
    ],
)
def test_shards_that_do_not_fit_are_refused(shar: Path, damage: object, message: str) -> None:
    damage(shar)  # type: ignore[operator]
    with pytest.raises(InputError, match=message) as caught:
        index_shar(shar)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("index.json", b"{", "cuts.index: damaged"),
        ("index.json", b'{"version": 2, "shards": []}', "damaged: version 2, readable is 1"),
        ("flags.npy", b"", "cuts.index: damaged"),
        ("ids.txt", b"s1-u1\n", "damaged: ids.txt has 6 of 24 bytes"),
    ],
)
def test_a_damaged_index_is_refused(shar: Path, name: str, content: bytes, message: str) -> None:
    (shar / FOLDER / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        SharUtterances(shar)
    assert "speechkit data index" in caught.value.hint


def test_an_index_that_went_stale_is_noticed(shar: Path) -> None:
    cuts = shar / "cuts.000000.jsonl"
    cuts.write_bytes(cuts.read_bytes().replace(b'"id": "s1-u2"', b'"id": "s1-u9"'))
    with pytest.raises(InputError, match=r"jsonl: byte \d+: cut 's1-u9', the index says 's1-u2'"):
        read_utterances(shar)


def test_a_folder_with_cuts_is_shar(shar: Path, kaldi: Path) -> None:
    assert is_shar(shar)
    assert not is_shar(kaldi)
    assert not is_shar(kaldi / "nowhere")


def test_the_index_says_what_it_was_made_of(shar: Path) -> None:
    said = json.loads((shar / FOLDER / "index.json").read_text())
    assert (said["version"], said["count"], said["sample_rates"]) == (1, 4, [8000, 16000])
    assert said["seconds"] == pytest.approx(1.5 + 1.498 + 1.75 + 1.0)
    assert [s["recording"]["name"] for s in said["shards"]] == ["recording.000000.tar", "recording.000001.tar"]
    assert {len(s[kind]["sha256"]) for s in said["shards"] for kind in ("cuts", "recording")} == {64}


def test_files_that_others_put_there_do_no_harm(shar: Path, found: list[Utterance]) -> None:
    for name in ("cuts.000000.jsonl.idx", "recording.000000.tar.idx", "codes.000000.tar", "README"):
        (shar / name).write_bytes(b"x")
    assert_same(read_utterances(shar), found)
    index_shar(shar).save(shar)
    assert isinstance(Index.load(shar), Index)


def test_a_shard_may_be_empty_but_not_all(tmp_path: Path, shar: Path, found: list[Utterance]) -> None:
    (shar / "cuts.000007.jsonl").touch()
    tarfile.open(shar / "recording.000007.tar", "w").close()
    index_shar(shar).save(shar)
    assert_same(read_utterances(shar), found)
    for name in ("cuts.000007.jsonl", "recording.000007.tar"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        (shar / name).rename(tmp_path / "empty" / name)
    with pytest.raises(InputError, match="empty: there is no cut in it"):
        index_shar(tmp_path / "empty")
    with pytest.raises(InputError, match="none: there is no cut in it"):
        write(tmp_path / "none", [])
    assert not (tmp_path / "none").exists()


def test_transcripts_may_be_missing(tmp_path: Path) -> None:
    tables = {k: v for k, v in TABLES.items() if k in ("wav.scp", "segments", "utt2spk", "reco2file_and_channel")}
    found = utterances(corpus(tmp_path, tables), root=tmp_path)
    assert_same(read_utterances(write(tmp_path / "shar", found)), found)
