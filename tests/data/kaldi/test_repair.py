"""Repair of data directories."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechkit.data.kaldi.repair import apply_repair, plan_repair
from speechkit.data.kaldi.validate import ValidateOptions, validate
from speechkit.errors import InputError, SpeechkitError
from tests.data.datadirs import PLAIN, SEGMENTED, contents, make

IDS = [f"s{s}-u{u}" for s in range(1, 5) for u in range(1, 5)]


def good(segmented: bool) -> dict[str, list[str]]:
    """The lines of a directory without problems, by file."""
    speakers = sorted({id[:2] for id in IDS})
    files = {
        "utt2spk": [f"{id} {id[:2]}" for id in IDS],
        "spk2utt": [" ".join([s, *(id for id in IDS if id.startswith(s))]) for s in speakers],
        "text": [f"{id} hello {id} again" for id in IDS],
        "utt2lang": [f"{id} en" for id in IDS],
        "utt2dur": [f"{id} 1.5" for id in IDS],
        "spk2gender": [f"{s} f" for s in speakers],
    }
    if segmented:
        files["wav.scp"] = [f"r{s} r{s}.wav" for s in speakers]
        files["segments"] = [f"{id} r{id[:2]} {1.5 * n:.2f} {1.5 * (n + 1):.2f}" for n, id in enumerate(IDS)]
        files["reco2dur"] = [f"r{s} 60.0" for s in speakers]
    else:
        files["wav.scp"] = [f"{id} {id}.wav" for id in IDS]
    return files


def written(files: dict[str, list[str]]) -> dict[str, str | bytes]:
    return {name: "".join(f"{line}\n" for line in lines) for name, lines in files.items()}


def shuffle_line(lines: list[str], at: int) -> None:
    lines.append(lines.pop(at))


def drop_line(lines: list[str], at: int) -> None:
    del lines[at]


def repeat_line(lines: list[str], at: int) -> None:
    lines.insert(0, lines[at])


def add_stranger(lines: list[str], at: int) -> None:
    lines.append("zz" + lines[at])


def between(what: str) -> Any:
    """White space other than one space after the key of a line."""

    def damage(lines: list[str], at: int) -> None:
        lines[at] = lines[at].replace(" ", what, 1)

    return damage


def at_end(what: str) -> Any:
    """White space at the end of a line."""

    def damage(lines: list[str], at: int) -> None:
        lines[at] += what

    return damage


FAULTS = [
    *(shuffle_line, drop_line, repeat_line, add_stranger),
    *map(between, ("\t", "  ", "\u00a0", "\u3000 ", " \u2003")),
    *map(at_end, (" ", "\t", "\r", "\n", " \n \n", "\u00a0")),
]


@given(st.booleans(), st.lists(st.tuples(st.sampled_from(FAULTS), st.integers(0, 99), st.integers(0, 99)), max_size=4))
def test_what_is_repaired_validates_and_a_second_repair_does_nothing(segmented: bool, faults: list[Any]) -> None:
    files = good(segmented)
    for fault, file, line in faults:
        lines = files[sorted(files)[file % len(files)]]
        fault(lines, line % len(lines))
    with tempfile.TemporaryDirectory() as folder:
        path = make(Path(folder), written(files))
        repair = plan_repair(path)
        apply_repair(path, repair, max_drop_percent=90)
        problems = validate(path, ValidateOptions())
        assert [p for p in problems if p.code != "W182"] == []
        assert not plan_repair(path).contents
        assert len((path / "utt2spk").read_text().splitlines()) == repair.num_after


REPAIRABLE = {
    "E102": {"spk2utt": "", "utt2lang": ""},
    "E104": {"text": "s01-u1 hello world\r\ns01-u2 good day\r\ns02-u1 yes"},
    "E105": {"text": "s01-u1 hello\u00a0world\ns01-u2 good\u3000day\ns02-u1 yes\n"},
    "E106": {"utt2spk": "s01-u1\ts01\n s01-u2 s01\ns02-u1  s02 \n"},
    "E108": {"wav.scp": "s02-u1 c.wav\ns01-u2 b.wav\ns01-u1 a.wav\n"},
    "E109": {"text": PLAIN["text"] + "s01-u1 hello world\n"},
    "E110": {"text": "\ufeff" + PLAIN["text"]},
    "E121": {"spk2utt": "s01 s01-u1\ns02 s01-u2 s02-u1\n"},
}


@pytest.mark.parametrize(("code", "files"), REPAIRABLE.items(), ids=REPAIRABLE)
def test_faults_of_form_are_repaired_to_the_very_bytes(tmp_path: Path, code: str, files: dict[str, str]) -> None:
    make(tmp_path, {**PLAIN, **files})
    before = contents(tmp_path)
    assert code in {p.code for p in validate(tmp_path, ValidateOptions())}
    backup = apply_repair(tmp_path, plan_repair(tmp_path))
    assert contents(tmp_path) == {name: content.encode() for name, content in PLAIN.items()}
    assert backup is not None
    assert backup.parent == tmp_path / ".backup"
    assert contents(backup) == {name: before[name] for name in files}


def test_an_utterance_that_a_table_lacks_goes_from_all_and_is_named(tmp_path: Path) -> None:
    make(
        tmp_path,
        {**SEGMENTED, "text": "s01-u1 a\ns01-u2 b\ns03-u1 c\n", "utt2dur": "s01-u1 1.5\n", "reco2dur": "r1 3\n"},
    )
    repair = plan_repair(tmp_path)
    assert (repair.num_before, repair.num_after) == (3, 2)
    apply_repair(tmp_path, repair, max_drop_percent=40)
    assert (tmp_path / "dropped.tsv").read_text().splitlines() == [
        "utt\treason\tfile",
        "s02-u1\tnot in text\ttext",
        "s03-u1\tnot in utt2spk\ttext",
        "r2\trecording without segments\twav.scp",
    ]
    assert {name: content.decode() for name, content in contents(tmp_path).items() if name != "dropped.tsv"} == {
        "utt2spk": "s01-u1 s01\ns01-u2 s01\n",
        "spk2utt": "s01 s01-u1 s01-u2\n",
        "text": "s01-u1 a\ns01-u2 b\n",
        "wav.scp": "r1 a.wav\n",
        "segments": "s01-u1 r1 0.00 1.50\ns01-u2 r1 1.50 3.00\n",
        "reco2dur": "r1 3\n",
    }
    assert repair.notes == ["utt2dur: lacks 1 of 2, such as 's01-u2'; removed, it can be made again"]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"segments": "s01-u1 r1 0 1\ns01-u2 r7 1 2\ns02-u1 r2 0 1\n"}, "recording not in wav.scp"),
        ({"reco2file_and_channel": "r2 b A\n"}, "recording not in reco2file_and_channel"),
        ({"spk2gender": "s02 f\n"}, "speaker not in spk2gender"),
    ],
)
def test_the_reason_for_a_drop_is_the_table_that_lacks_something(
    tmp_path: Path, files: dict[str, str], reason: str
) -> None:
    repair = plan_repair(make(tmp_path, {**SEGMENTED, **files}))
    assert {drop.reason for drop in repair.utterances} == {reason}
    assert "s01-u2" in {drop.utterance for drop in repair.utterances}
    apply_repair(tmp_path, repair, max_drop_percent=90)
    assert [p for p in validate(tmp_path, ValidateOptions()) if not p.is_warning] == []


def test_too_many_drops_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    make(tmp_path, {**PLAIN, "text": "s01-u1 a\ns01-u2 b\n"})
    before = contents(tmp_path)
    repair = plan_repair(tmp_path)
    with pytest.raises(SpeechkitError, match=r"1 of 3 utterances \(33.3 %\) would be dropped; --max-drop is 5 %"):
        apply_repair(tmp_path, repair)
    assert contents(tmp_path) == before
    assert not (tmp_path / ".backup").exists()


@pytest.mark.parametrize("text", ["", "x a\n"], ids=["empty", "others only"])
def test_all_utterances_are_never_dropped(tmp_path: Path, text: str) -> None:
    repair = plan_repair(make(tmp_path, {**PLAIN, "text": text}))
    assert repair.num_after == 0
    with pytest.raises(SpeechkitError, match="never all"):
        apply_repair(tmp_path, repair, max_drop_percent=100)


def test_a_key_with_two_values_keeps_both(tmp_path: Path) -> None:
    make(tmp_path, {**PLAIN, "text": "s02-u1 yes\ns01-u1 one\ns01-u1 two\ns01-u2 three\n"})
    repair = plan_repair(tmp_path)
    assert [(p.file, p.line, p.code) for p in repair.conflicts] == [("text", 3, "E109")]
    apply_repair(tmp_path, repair)
    assert (tmp_path / "text").read_text() == "s01-u1 one\ns01-u1 two\ns01-u2 three\ns02-u1 yes\n"
    assert [p.code for p in validate(tmp_path, ValidateOptions())] == ["E109"]


def test_bytes_that_are_not_text_stay_as_they_are(tmp_path: Path) -> None:
    make(tmp_path, {**PLAIN, "text": b"s01-u2 b \xe4\r\ns01-u1 a\ns02-u1 c\n"})
    apply_repair(tmp_path, plan_repair(tmp_path))
    assert (tmp_path / "text").read_bytes() == b"s01-u1 a\ns01-u2 b \xe4\ns02-u1 c\n"


def test_a_good_directory_is_left_alone(tmp_path: Path) -> None:
    repair = plan_repair(make(tmp_path, SEGMENTED))
    assert repair == replace(repair, num_before=3, num_after=3, utterances=[], records=[], contents={}, notes=[])
    assert apply_repair(tmp_path, repair) is None
    assert not (tmp_path / ".backup").exists()


def test_without_utt2spk_there_is_nothing_to_repair_from(tmp_path: Path) -> None:
    make(tmp_path, {"text": "a b\n", "utt2spk": ""})
    with pytest.raises(InputError, match="utt2spk: E101"):
        plan_repair(tmp_path)
