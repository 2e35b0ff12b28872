from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechkit.files import lock
from speechkit.recipe import Context, Input, Places, Recipe, Resources, Selection, Stage, execute, plan
from speechkit.recipe import record as records

from .conftest import Bench, Lines

Make = Callable[..., Bench]


def copy(context: Context, setting: object) -> None:
    """Write the setting and all inputs to the one output."""
    texts = [path.read_text() for path in context.inputs.values()]
    context.outputs["out"].write_text(f"{setting} {texts}")


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: int = 16000
    lr: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Config:
    kind: str = "flac"
    words: int = 3
    use_lm: bool = False
    undeclared: int = 0
    train: Inner = Inner()


def stage(number: int, name: str, inputs: Any, out: str, **changes: Any) -> Stage[Config, Any]:
    plain: dict[str, Any] = {"run": copy, "group": "data", "settings": lambda c: None}
    return Stage(number=number, name=name, inputs=inputs, outputs={"out": out}, **{**plain, **changes})


RECIPE = Recipe(
    name="toy",
    config=Config,
    stages=(
        stage(1, "prepare", {}, "data/text", settings=lambda c: c.words),
        stage(3, "format", {"text": "data/text"}, "dump/{kind}/index", settings=lambda c: (c.kind, c.train.rate)),
        stage(8, "train_lm", {"text": "data/text"}, "exp/lm", when=lambda c: c.use_lm),
        stage(10, "train", {"index": "dump/{kind}/index"}, "exp/model", settings=lambda c: c.train, group="train"),
        stage(12, "decode", {"model": "exp/model"}, "exp/text", group="eval"),
        stage(16, "publish", {"text": "exp/text"}, "exp/published", group="upload"),
    ),
)


@st.composite
def graphs(draw: st.DrawFn) -> list[tuple[list[int], str]]:
    """Stages as the numbers of those whose output they read, and where theirs lies."""
    count = draw(st.integers(1, 6))
    places = st.sampled_from(["data", "dump/x", "exp"])
    return [([j for j in range(i) if draw(st.booleans())], draw(places)) for i in range(count)]


def dependants(graph: list[tuple[list[int], str]], changed: int) -> set[int]:
    found = {changed}
    for i, (inputs, _) in enumerate(graph):
        if found & set(inputs):
            found.add(i)
    return found


@given(graphs(), st.data())
def test_after_a_run_all_is_done_and_a_changed_setting_makes_stale_what_depends_on_it_and_no_other(
    graph: list[tuple[list[int], str]], data: st.DataObject
) -> None:
    names = [f"{place}/out{i}" for i, (_, place) in enumerate(graph)]
    config_type = make_dataclass("Config", [(f"s{i}", int, 0) for i in range(len(graph))] + [("undeclared", int, 0)])
    recipe = Recipe(
        name="toy",
        config=config_type,
        stages=tuple(
            stage(
                i + 1,
                f"stage_{i}",
                {f"in{j}": names[j] for j in inputs},
                names[i],
                settings=lambda c, name=f"s{i}": getattr(c, name),
            )
            for i, (inputs, _) in enumerate(graph)
        ),
    )
    with TemporaryDirectory() as folder:
        places = Places(system=Path(folder) / "toy", tag="base")
        execute(recipe, config_type(), places, Selection(), Lines(), Resources())

        def states(**changes: int) -> list[str]:
            return [p.state for p in plan(recipe, config_type(**changes), places)]

        assert states() == ["done"] * len(graph)
        assert states(undeclared=5) == ["done"] * len(graph)
        changed = data.draw(st.integers(0, len(graph) - 1))
        stale = dependants(graph, changed)
        assert states(**{f"s{changed}": 1}) == ["stale" if i in stale else "done" for i in range(len(graph))]
        assert states() == ["done"] * len(graph)  # planning changes nothing
        report = execute(recipe, config_type(**{f"s{changed}": 1}), places, Selection(), Lines(), Resources())
        assert set(report.ran) == {i + 1 for i in stale}
        assert states(**{f"s{changed}": 1}) == ["done"] * len(graph)


def test_in_an_empty_folder_each_stage_names_what_it_needs(bench: Make) -> None:
    b = bench(RECIPE)
    assert b.states(Config()) == ["missing", "missing", "skipped", "missing", "missing", "missing"]
    assert b.whys(Config())[:5] == [
        "not run yet",
        "needs data/text (stage 1)",
        "skipped: use_lm is false",
        "needs dump/flac/index (stage 3)",
        "needs exp/base/model (stage 10)",
    ]
    assert not b.places.exp.exists()


def test_a_changed_setting_is_named_with_both_values(bench: Make) -> None:
    b = bench(RECIPE)
    b.run(Config())
    assert b.whys(Config(train=Inner(rate=24000)))[1] == "setting train.rate 16000 -> 24000"
    assert b.whys(Config(words=4))[0] == "setting words 3 -> 4"
    assert b.whys(Config(train=Inner(lr=0.2)))[3] == "setting train.lr 0.1 -> 0.2"
    assert b.plan(Config(train=Inner(rate=8000, lr=0.2)))[3].changes == (
        "setting train.lr 0.1 -> 0.2",
        "setting train.rate 16000 -> 8000",
    )


def test_a_changed_pattern_is_a_changed_setting(bench: Make) -> None:
    recipe = replace(RECIPE, stages=(stage(1, "format", {}, "dump/{kind}/index"),))
    b = bench(recipe)
    b.run(Config())
    assert b.whys(Config(kind="wav")) == ['outputs.out "dump/flac/index" -> "dump/wav/index"']


def test_an_output_that_is_gone_or_altered_makes_its_stage_stale(bench: Make) -> None:
    b = bench(RECIPE)
    b.run(Config())
    model = b.places.exp / "model"
    model.write_text("by hand")
    assert b.whys(Config())[3:5] == ["output exp/base/model changed since", "input exp/base/model changed"]
    model.unlink()
    assert b.whys(Config())[3:5] == ["output exp/base/model is gone", "needs exp/base/model (stage 10)"]


def test_touching_an_input_changes_nothing(bench: Make) -> None:
    b = bench(RECIPE)
    b.run(Config())
    os.utime(b.places.egs / "data/text", (0, 0))
    assert set(b.states(Config())) == {"done", "skipped", "missing"}


def test_a_stage_that_is_not_selected_makes_nothing_after_it_stale(bench: Make) -> None:
    b = bench(RECIPE)
    b.run(Config())
    assert b.states(Config(words=4), first=10) == ["stale", "done", "skipped", "done", "done", "missing"]


def test_a_raised_version_and_a_forced_stage_are_stale(bench: Make) -> None:
    b = bench(RECIPE)
    b.run(Config())
    assert b.whys(Config(), force=frozenset({10}))[3] == "forced"
    stages = [replace(s, version=2) if s.number == 1 else s for s in RECIPE.stages]
    assert bench(replace(RECIPE, stages=tuple(stages))).whys(Config())[0] == "version 1 -> 2"


def test_changed_code_is_noted_and_makes_nothing_stale(bench: Make) -> None:
    b = bench(RECIPE)
    b.run(Config())
    file = b.places.records / "01_prepare.json"
    record = records.read(file)
    assert record is not None
    replace(record, code="another").write(file.parent)
    assert (b.states(Config())[0], b.whys(Config())[0]) == ("done", "code changed since")
    b.run(Config())
    assert any("code of stage 1 changed since its last run" in line for line in b.console.lines)


def test_a_killed_run_shows_as_failed_and_one_that_lives_as_running(bench: Make) -> None:
    b = bench(RECIPE)
    b.run(Config(), last=1)
    record = records.read(b.places.records / "01_prepare.json")
    assert record is not None
    replace(record, status="running").write(b.places.records)
    assert b.states(Config())[0] == "failed"
    assert "killed" in b.whys(Config())[0]
    with lock(b.places.exp / ".lock", "exp/base"):
        assert b.states(Config())[0] == "running"
        assert f"pid {os.getpid()} since" in b.whys(Config())[0]


def test_what_another_experiment_made_is_not_made_again(bench: Make) -> None:
    bench(RECIPE).run(Config())
    other = bench(RECIPE, tag="two")
    assert other.states(Config())[:4] == ["done", "done", "skipped", "missing"]
    assert other.run(Config()).ran == (10, 12)
    assert (other.places.records / "03_format.json").exists()
    third = bench(replace(RECIPE, name="another"), system="other")
    assert third.states(Config())[:2] == ["done", "done"]  # other systems share it too
    assert other.states(Config(words=4))[0] == "stale"


def test_a_copied_experiment_is_still_done(bench: Make) -> None:
    b = bench(RECIPE)
    b.run(Config())
    b.places.egs.rename(b.places.egs.with_name("moved"))
    moved = Places(system=b.places.egs.with_name("moved") / "toy", tag="base")
    assert [p.state for p in plan(RECIPE, Config(), moved)][:5] == ["done", "done", "skipped", "done", "done"]


def test_uploads_and_preludes_run_only_when_named() -> None:
    upload, prelude = RECIPE.stages[-1], stage(-1, "download", {}, "data/raw")
    assert not Selection().includes(upload)
    assert not Selection(first=3).includes(upload)
    assert Selection(first=16, named=frozenset({16})).includes(upload)
    assert Selection(numbers=frozenset({16}), named=frozenset({16})).includes(upload)
    assert not Selection().includes(prelude)
    assert Selection(first=-1).includes(prelude)


def test_the_corpus_is_known_by_names_sizes_and_times(bench: Make, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "a.wav").write_bytes(b"1234")
    given = {"corpus": Input(path="{corpus_dir}", digest="listing")}
    b = bench(Recipe(name="toy", config=Config, stages=(stage(1, "prepare", given, "data/text", run=nothing_read),)))
    b.places = replace(b.places, corpus_dir=corpus)
    b.run(Config())
    assert b.states(Config()) == ["done"]
    (corpus / "b.wav").touch()
    assert b.whys(Config()) == [f"input {corpus} changed"]
    assert records.last_corpus_dir(b.places.records) == corpus


def nothing_read(context: Context, setting: object) -> None:
    context.outputs["out"].write_text("x")


def test_recipes_with_contradictions_are_refused(bench: Make) -> None:
    with pytest.raises(ValueError, match="must rise"):
        replace(RECIPE, stages=RECIPE.stages[::-1])
    with pytest.raises(ValueError, match="one name"):
        replace(RECIPE, stages=(stage(1, "a", {}, "data/a"), stage(2, "a", {}, "data/b")))
    overlapping = replace(RECIPE, stages=(stage(1, "a", {}, "data"), stage(2, "b", {}, "data/b")))
    with pytest.raises(ValueError, match="makes data"):
        bench(overlapping).plan(Config())
    unknown = replace(RECIPE, stages=(stage(1, "a", {}, "data/{sort}"),))
    with pytest.raises(ValueError, match="no setting"):
        bench(unknown).plan(Config())
