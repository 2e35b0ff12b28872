from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speechkit.errors import InputError
from speechkit.recipe import Context
from speechkit.stages.unit_quality import quality_of, score_units
from speechkit.stages.units import write_units

PHONES = "u1 1 0.00 0.04 aa\nu1 1 0.04 0.04 sil\nu2 1 0.00 0.04 aa\nu3 1 0.00 9.00 iy\n"


def units(**rows: list[int]) -> dict[str, Any]:
    return {id: np.array(row) for id, row in rows.items()}


@pytest.fixture
def phones(tmp_path: Path) -> Path:
    path = tmp_path / "data/heard/phones"
    path.parent.mkdir(parents=True)
    path.write_text(PHONES)
    return path


class Console:
    def __init__(self) -> None:
        self.results: list[str] = []

    def line(self, text: str) -> None:
        raise AssertionError(text)

    def result(self, text: str) -> None:
        self.results.append(text)

    def bar(self, label: str, unit: str) -> Any:
        raise AssertionError(label)


def context(tmp_path: Path, console: Console, sets: list[str]) -> Context:
    for name in sets:
        (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
    write_units(tmp_path / "units", units(u1=[1, 1, 2, 1], u2=[1, 1, 2]), 50.0)
    return Context(
        inputs={"units": tmp_path / "units"} | {f"set {name}": tmp_path / "data" / name for name in sets},
        outputs={"scores": tmp_path / "scores.json"},
        work=None,
        exp=tmp_path,
        egs=tmp_path,
        corpus_dir=None,
        device="cpu",
        nj=1,
        log=logging.getLogger("speechkit.test"),
        log_file=tmp_path / "log",
        console=console,
        note=lambda text: None,
        should_stop=lambda: False,
    )


def test_units_are_compared_where_there_is_a_phone_and_a_unit(phones: Path) -> None:
    # at 50 a second u1 is aa aa sil sil, u2 aa aa and then nothing; u3 has no units, u4 no phones
    quality, num_phones = quality_of(phones, units(u1=[1, 1, 2, 1], u2=[1, 1, 0], u4=[0]), 50.0, 3)
    assert (quality.frames, num_phones) == (6, 3)
    assert quality.phone_purity == 5 / 6  # unit 1 is aa four times of five, unit 2 is sil
    assert quality.cluster_purity == 5 / 6  # aa is always 1, sil is 1 or 2


def test_phones_of_other_utterances_are_refused(phones: Path) -> None:
    with pytest.raises(InputError, match="phones: no frame has both a phone and a unit"):
        quality_of(phones, units(other=[0, 1]), 50.0, 2)


def test_a_set_with_phones_is_scored_and_said_and_one_without_is_left_out(phones: Path, tmp_path: Path) -> None:
    console = Console()
    score_units(33, lambda c: ()).run(context(tmp_path, console, ["silent", "heard"]), 3)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert list(scores) == ["heard"]
    assert scores["heard"] | {"pnmi": 0} == {
        "frames": 6,
        "phone_purity": 5 / 6,
        "cluster_purity": 5 / 6,
        "pnmi": 0,
        "phones": 3,
        "units": 3,
        "units_per_second": 50.0,
    }
    assert console.results == [
        f"heard: phone purity 0.833, cluster purity 0.833, PNMI {scores['heard']['pnmi']:.3f} (6 frames, 3 phones)"
    ]


def test_a_corpus_without_phones_is_said_to_have_none(tmp_path: Path) -> None:
    console = Console()
    score_units(33, lambda c: ()).run(context(tmp_path, console, ["silent"]), 3)
    assert console.results == ["no set has a file `phones`: there is nothing to compare the units with"]
    assert json.loads((tmp_path / "scores.json").read_text()) == {}
