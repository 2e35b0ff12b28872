"""`speechkit features` as a user types it."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file

from speechkit.cli.main import main
from speechkit.data.kaldi.ark import read_scp
from speechkit.files import sha256
from tests.pipelines.test_transcribe import noise

RATE = 16000
NAMES = list("abcdefg")


def features(*words: str) -> int:
    return main(["features", *words, "--device", "cpu"])


def digest(folder: str) -> str:
    return sha256(Path(folder) / "manifest.json")


def test_one_recording_gives_a_file_with_a_tensor_a_layer(seven_recordings: Path, model: str) -> None:
    assert features("rec/a.wav", "-m", model, "--layer", "0-2", "-o", "a.safetensors") == 0
    found = load_file("a.safetensors")
    assert {name: (x.shape, x.dtype.name) for name, x in found.items()} == {
        f"a/layer{n}": ((12, 32), "float32") for n in range(3)
    }
    assert features("rec/a.wav", "-m", model, "--layer", "2", "-o", "a.npy") == 0
    np.testing.assert_allclose(np.load("a.npy"), found["a/layer2"], rtol=1e-4, atol=1e-5)
    assert features("rec/a.wav", "-m", model, "--layer", "2", "-o", "a.npy") == 5
    assert features("rec/a.wav", "--kind", "fbank", "-o", "a.npy", "--overwrite") == 0
    assert np.load("a.npy").shape == (23, 80)


def test_layers_are_stored_in_half_precision_only_when_normalized(
    seven_recordings: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("rec/a.wav", "-m", model, "--layer", "1", "-o", "a.npy", "--dtype", "float16")
    assert features(*words) == 2
    assert "raw layer states do not fit float16" in capsys.readouterr().err
    assert features(*words, "--normalize") == 0
    stored = np.load("a.npy")
    assert stored.dtype == np.float16
    np.testing.assert_allclose(stored.astype(np.float32).std(1), 1, rtol=1e-2)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_any_number_of_shards_gives_one_manifest(
    seven_recordings: Path, model: str, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("rec", "-m", model, "--layer", "1,2", "--piece", "2")
    assert features(*words, "-o", "whole") == 0
    assert "7 recordings · 7 ok" in capsys.readouterr().err
    for index in range(count):
        assert Path("shared/manifest.json").exists() == (index >= 4)  # there are four pieces
        assert features(*words, "-o", "shared", "--shard", f"{index}/{count}") == 0
        left = sum(len(range(i, 4, count)) for i in range(index + 1, count))
        said = capsys.readouterr().err
        assert (f"shard {index}/{count} is done, {left} of 4 pieces are left" in said) == (left > 0)
    assert digest("shared") == digest("whole")
    found = {name: x for file in sorted(Path("shared").glob("*.safetensors")) for name, x in load_file(file).items()}
    assert sorted(found) == [f"{name}/layer{n}" for name in NAMES for n in (1, 2)]
    rows = json.loads(Path("shared/manifest.json").read_text())["pieces"]
    assert [row["recordings"] for row in rows] == [2, 2, 2, 1]
    assert [row["sha256"] for row in rows] == [sha256(Path("shared") / row["file"]) for row in rows]


@pytest.mark.parametrize(
    "executor",
    [["--nj", "2"], pytest.param(["--nj", "2", "--executor", "ray"], marks=pytest.mark.slow)],
    ids=["processes", "ray"],
)
def test_processes_and_ray_give_the_same_manifest(
    seven_recordings: Path, model: str, executor: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "ray" in executor and find_spec("ray") is None:
        pytest.skip("ray is not installed")
    monkeypatch.setenv("RAY_ADDRESS", "local")
    words = ("rec", "-m", model, "--layer", "all", "--piece", "2")
    assert features(*words, "-o", "one") == 0
    assert features(*words, "-o", "many", *executor) == 0
    assert digest("many") == digest("one")


def test_what_is_done_stays_and_what_changed_is_made_anew(
    seven_recordings: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("rec", "-m", model, "--layer", "1", "--piece", "2", "-o", "out")
    assert features(*words) == 0
    before = digest("out"), {p.name: p.stat().st_mtime_ns for p in Path("out").glob("*.safetensors")}
    Path("out/000001.safetensors").write_bytes(Path("out/000001.safetensors").read_bytes()[:-4] + b"oops")
    assert features(*words) == 0
    after = {p.name: p.stat().st_mtime_ns for p in Path("out").glob("*.safetensors")}
    assert digest("out") == before[0]
    assert [name for name in sorted(after) if after[name] != before[1][name]] == ["000001.safetensors"]

    assert features(*(*words[:4], "2", *words[5:])) == 5
    assert "belongs to features with other settings\nhint: another folder, or --overwrite" in capsys.readouterr().err
    assert features(*(*words[:4], "2", *words[5:]), "--overwrite") == 0
    assert "a/layer2" in load_file("out/000000.safetensors")

    soundfile.write("rec/c.wav", noise(9, 3000), RATE)
    Path("rec/g.wav").unlink()
    assert features(*(*words[:4], "2", *words[5:])) == 0
    assert load_file("out/000001.safetensors")["c/layer2"].shape == (9, 32)
    assert sorted(path.name for path in Path("out").glob("*.safetensors")) == [
        f"00000{n}.safetensors" for n in range(3)
    ]


def test_the_features_of_another_corpus_are_not_replaced(
    seven_recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--kind", "fbank", "--piece", "2", "-o", "out")
    assert features("rec", *words) == 0
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    Path("other").mkdir()
    for name in "xy":
        soundfile.write(f"other/{name}.wav", noise(1, 4000), RATE)
    for more in ((), ("--shard", "0/2")):
        assert features("other", *words, *more) == 5
        said = capsys.readouterr().err
        assert "out: has the features of another corpus\nhint: another folder, or --overwrite" in said
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before
    assert features("other", *words, "--overwrite") == 0
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "000000.done.json", "000000.safetensors", "manifest.json"
    ]  # fmt: skip


def test_shards_of_different_settings_are_refused(seven_recordings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("rec", "--piece", "2", "-o", "out", "--shard")
    assert features(*words, "0/2", "--kind", "fbank") == 0
    assert features(*words, "1/2", "--kind", "mfcc") == 5
    assert "belongs to features with other settings" in capsys.readouterr().err


def test_lists_go_while_pieces_are_replaced_and_with_another_format(seven_recordings: Path) -> None:
    words = ("rec", "--kind", "fbank", "--piece", "3", "-o", "out")
    assert features(*words, "-f", "ark") == 0
    soundfile.write("rec/c.wav", noise(9, 3000), RATE)
    assert features(*words, "-f", "ark", "--shard", "1/3") == 0  # not the piece that changed
    assert not Path("out/manifest.json").exists()
    assert not Path("out/feats.scp").exists()
    assert features(*words, "-f", "ark") == 0
    assert list(dict(read_scp("out/feats.scp"))) == NAMES
    assert features(*words, "--overwrite") == 0
    assert {path.suffix for path in Path("out").iterdir()} == {".safetensors", ".json"}


def test_what_could_not_be_read_is_tried_again(seven_recordings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = Path("rec/b.wav").read_bytes()
    Path("list.scp").write_text("".join(f"{name} rec/{name}.wav\n" for name in NAMES))
    Path("rec/b.wav").write_bytes(b"RIFF nothing")
    words = ("list.scp", "--kind", "fbank", "--piece", "2", "-o", "out")
    assert features(*words) == 1
    Path("rec/b.wav").write_bytes(good)
    assert features(*words) == 0
    before = {p.name: p.stat().st_mtime_ns for p in Path("out").glob("*.safetensors")}
    os.utime("rec/c.wav", (0, 0))  # another file, as far as one can see
    assert features(*words) == 0
    after = {p.name: p.stat().st_mtime_ns for p in Path("out").glob("*.safetensors")}
    assert [name for name in sorted(after) if after[name] != before[name]] == ["000001.safetensors"]


def test_pieces_that_come_from_no_process_are_an_error(
    seven_recordings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("speechkit.jobs.pieces.run_jobs", lambda *given, **options: [])
    assert features("rec", "--kind", "fbank", "-o", "out") == 1
    assert "out: 1 of 1 pieces are not there\nhint: do the processes write" in capsys.readouterr().err


def test_an_archive_has_a_sorted_list_of_its_matrices(seven_recordings: Path) -> None:
    assert features("rec", "--kind", "mfcc", "--piece", "3", "-f", "ark", "-o", "out") == 0
    found = dict(read_scp("out/feats.scp"))
    assert list(found) == NAMES
    assert [x.shape for x in found.values()] == [(1 + (4000 + 1000 * n - 400) // 160, 39) for n in range(7)]  # type: ignore[union-attr]


def test_a_bad_recording_is_named_and_the_others_are_computed(
    seven_recordings: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("rec/b.wav").write_bytes(b"RIFF nothing")
    words = ("rec", "gone.wav", "-m", model, "--layer", "1", "--piece", "2", "-o", "out")
    assert features(*words) == 1
    said = capsys.readouterr().err
    assert "speechkit: error: gone.wav: no such file" in said
    assert "speechkit: error: rec/b.wav:" in said
    assert "8 recordings · 6 ok · 2 failed" in said
    manifest = json.loads(Path("out/manifest.json").read_text())
    assert [failure["input"] for row in manifest["pieces"] for failure in row["failed"]] == ["rec/b.wav"]
    for name in NAMES:
        Path(f"rec/{name}.wav").write_bytes(b"")
    assert features(*words[:1], *words[2:8], "-o", "none") == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "x.npy"], "no model given"),
        (["-m", "m", "-o", "x.npy"], "which layer?"),
        (["-m", "m", "--layer", "3-1", "-o", "x.npy"], "'3-1': expected 9, 0-12, 3,9 or all"),
        (["-m", "m", "--layer", "all", "-o", "x.npy"], "npy has one matrix a recording"),
        (["-m", "m", "--layer", "1", "--dtype", "bfloat16", "-o", "x.npy"], "npy is not for bfloat16"),
        (["-m", "m", "--kind", "fbank", "-o", "x.npy"], "takes neither a model nor a layer"),
        (["--kind", "fbank", "--normalize", "-o", "x.npy"], "--normalize is for layers"),
        (["--kind", "fbank", "-o", "-"], "do not go to standard output"),
        (["--kind", "fbank", "-f", "npy,ark", "-o", "x"], "one format at a time"),
        (["--kind", "fbank", "-f", "npy", "-o", "out/"], "npy holds one recording"),
        (["--kind", "fbank", "-o", "x.npy", "--shard", "0/2"], "--shard is for a folder"),
    ],
    ids=lambda value: None if isinstance(value, list) else value[:20],
)
def test_what_cannot_be_is_refused(
    seven_recordings: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert features("rec/a.wav", *words) in (2, 4)
    assert said in capsys.readouterr().err
    assert not Path("x.npy").exists()


def test_overwrite_goes_on_where_it_was_stopped_and_leaves_nothing_of_another_format(seven_recordings: Path) -> None:
    words = ("rec", "--kind", "fbank", "-o", "out", "--overwrite")
    assert features(*words, "--piece", "2", "-f", "ark") == 0
    assert features(*words, "--piece", "5", "--shard", "0/2") == 0
    made = Path("out/000000.safetensors").stat().st_mtime_ns
    assert features(*words, "--piece", "5") == 0
    assert Path("out/000000.safetensors").stat().st_mtime_ns == made
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "000000.done.json", "000000.safetensors", "000001.done.json", "000001.safetensors", "manifest.json"
    ]  # fmt: skip


def test_recordings_that_hold_less_than_they_say_are_named(
    seven_recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Path("rec/c.wav").read_bytes()
    Path("rec/c.wav").write_bytes(whole[: len(whole) // 2])
    soundfile.write("rec/g.wav", noise(1, 50), RATE)
    assert features("rec", "--kind", "fbank", "--piece", "3", "-o", "out") == 0
    said = capsys.readouterr().err
    assert "speechkit: warning: rec/c.wav: the header promises" in said
    assert "speechkit: warning: rec/g.wav: 0.003 s are too short for a frame" in said
    pieces = json.loads(Path("out/manifest.json").read_text())["pieces"]
    assert [w["input"] for piece in pieces for w in piece.get("warnings", [])] == ["rec/c.wav", "rec/g.wav"]
