from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from speechkit.config import FREE
from speechkit.errors import Busy, InputError, OutputError, UsageError
from speechkit.files import lock
from speechkit.recipe import Context, Interrupted, Recipe, Stage, StageFailed
from speechkit.recipe import record as records

from .conftest import Bench

Make = Callable[..., Bench]


@dataclass(frozen=True, kw_only=True)
class Config:
    words: int = 3
    steps: int = 4
    stop_at: int = 0
    signal: int = 0
    use_lm: bool = True


def prepare(context: Context, words: int) -> None:
    out = context.outputs["data"]
    out.mkdir()
    (out / "text").write_text("".join(f"u{i}\n" for i in range(words)))


def train(context: Context, steps: int) -> None:
    """Count steps in the work folder; the file `stop` beside it says where to be interrupted and by what."""
    assert context.work is not None
    state = context.work / "step"
    step = int(state.read_text()) if state.exists() else 0
    orders = context.exp / "stop"
    with context.progress(steps, "step") as progress:
        while step < steps:
            step += 1
            state.write_text(str(step))
            progress.update(step, steps, "")
            if orders.exists() and (order := orders.read_text().split())[0] == str(step):
                orders.unlink()
                os.kill(os.getpid(), int(order[1]))
            if context.should_stop():
                raise Interrupted
    context.outputs["model"].write_text(f"{steps} steps")


def decode(context: Context, settings: None) -> None:
    (context.scratch / "temporary").touch()
    context.outputs["text"].write_text(context.inputs["model"].read_text())
    context.log.info("decoded on %s", context.device)
    context.say("WER 2.0 %")


RECIPE = Recipe(
    name="toy",
    config=Config,
    stages=(
        Stage(
            number=1, name="prepare", group="data", run=prepare, inputs={}, outputs={"data": "data"},
            settings=lambda c: c.words,
        ),
        Stage(
            number=10, name="train", group="train", run=train, inputs={"text": "data/text"},
            outputs={"model": "exp/model"}, settings=lambda c: c.steps, work="exp/train", gpu=True,
        ),
        Stage(
            number=12, name="decode", group="eval", run=decode, inputs={"model": "exp/model"},
            outputs={"text": "exp/decode/text"}, settings=lambda c: None,
        ),
    ),
)  # fmt: skip


def with_stage(number: int, **changes: Any) -> Recipe:
    return replace(RECIPE, stages=tuple(replace(s, **changes) if s.number == number else s for s in RECIPE.stages))


def stop(b: Bench, step: int, number: int) -> None:
    b.places.exp.mkdir(parents=True, exist_ok=True)
    (b.places.exp / "stop").write_text(f"{step} {int(number)}")


def test_a_run_makes_everything_and_a_second_one_skips_it(bench: Make) -> None:
    b = bench(RECIPE)
    assert b.run(Config()).ran == (1, 10, 12)
    assert b.console.results == ["WER 2.0 %"]
    assert (b.places.exp / "decode/text").read_text() == "4 steps"
    report = b.run(Config())
    assert (report.ran, report.signal, report.next_stage) == ((), None, None)
    assert [line.rpartition(", ")[2] for line in b.console.lines] == ["skipped"] * 3
    left = [p.name for p in b.places.egs.rglob(".*") if p.name not in (".stages", ".digests.jsonl", ".scratch")]
    assert left == []


def test_a_stage_that_the_configuration_leaves_out_is_said(bench: Make) -> None:
    b = bench(with_stage(12, when=lambda c: c.use_lm))
    config = Config(use_lm=False)
    assert b.run(config).ran == (1, 10)
    assert not any("stage 12" in line for line in b.console.lines)
    assert b.run(config, numbers=frozenset({12})).ran == ()
    assert b.console.lines == ["stage 12 (decode): skipped: use_lm is false"]


def test_settings_that_no_result_depends_on_change_nothing(bench: Make) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Steps:
        steps: int = 4
        log_every: int = field(default=1, metadata=FREE)

    b = bench(with_stage(10, settings=lambda c: Steps(log_every=c.stop_at), run=lambda c, s: train(c, s.steps)))
    b.run(Config())
    assert b.run(Config(stop_at=5)).ran == ()


def test_the_record_and_the_log_tell_how_it_went(bench: Make) -> None:
    b = bench(RECIPE)
    b.run(Config())
    record = records.read(b.places.records / "12_decode.json")
    assert record is not None
    assert (record.status, record.command, record.device) == ("done", "speechkit run toy", "cpu")
    assert record.environment["python"]
    assert record.peak_memory_bytes > 1e6
    log = (b.places.exp / "log/12_decode.log").read_text().splitlines()
    assert log[0] == "# speechkit run toy"
    assert log[2].startswith("# Started at ")
    assert log[4].endswith("INFO decoded on cpu")
    assert log[-2].startswith("# Accounting: time=0 ")
    assert log[-1].startswith("# Ended (code 0) at ")
    assert log[-1].endswith("elapsed time 0 seconds")
    b.run(Config(), force=frozenset({12}))
    assert (b.places.exp / "log/12_decode.log").read_text().startswith("\n".join(log))  # appended


def test_the_settings_are_saved_in_full(bench: Make) -> None:
    b = bench(RECIPE)
    b.run(Config(words=5))
    assert "words: 5\nsteps: 4\n" in (b.places.exp / "config.yaml").read_text()


def test_the_next_stage_is_named(bench: Make) -> None:
    b = bench(RECIPE)
    assert b.run(Config(), last=1).next_stage == 10
    assert b.run(Config(), first=10, last=10).next_stage == 12
    assert b.run(Config(), first=12).next_stage is None


@pytest.mark.parametrize(
    ("first", "message", "hint"),
    [
        (12, r"stage 12 \(decode\) needs exp/base/model, which stage 10 \(train\) makes", "--stage 1 --stop-stage 12"),
        (10, r"stage 10 \(train\) needs data/text, which stage 1 \(prepare\) makes", "--stage 1 --stop-stage 10"),
    ],
)
def test_a_missing_input_is_said_before_anything_is_done(bench: Make, first: int, message: str, hint: str) -> None:
    b = bench(RECIPE)
    with pytest.raises(InputError, match=message) as caught:
        b.run(Config(), first=first)
    assert hint in caught.value.hint
    assert not b.places.exp.exists()


def test_an_input_that_no_stage_or_only_a_skipped_one_makes_is_said(bench: Make) -> None:
    with pytest.raises(InputError, match=r"needs prepare\.py, which no stage makes"):
        bench(with_stage(1, inputs={"code": "prepare.py"})).run(Config())
    with pytest.raises(InputError, match=r"stage 1 \(prepare\) is skipped: use_lm is false"):
        bench(with_stage(1, when=lambda c: c.use_lm)).run(Config(use_lm=False))


def test_a_stale_stage_before_the_first_is_warned_of_and_not_run(bench: Make) -> None:
    b = bench(RECIPE)
    b.run(Config())
    assert b.run(Config(words=4), first=12).ran == ()
    assert b.console.lines[0] == "warning: stage 1 (prepare) is stale (setting words 3 -> 4) and is not run"


def test_a_stage_whose_inputs_come_out_the_same_does_not_run_again(bench: Make) -> None:
    b = bench(RECIPE)
    b.run(Config())
    assert b.run(Config(), force=frozenset({1})).ran == (1,)


def test_a_failed_stage_shows_its_log_and_leaves_no_output(bench: Make) -> None:
    def fail(context: Context, settings: None) -> None:
        context.outputs["text"].write_text("half")
        context.log.info("about to fail")
        raise RuntimeError("no beam\nleft")

    b = bench(with_stage(12, run=fail))
    with pytest.raises(StageFailed, match=r"stage 12 \(decode\): RuntimeError: no beam") as caught:
        b.run(Config())
    assert caught.value.exit_code == 1
    assert "--stage 12" in caught.value.hint
    shown = "\n".join(b.console.lines)
    assert "the last lines of exp/base/log/12_decode.log:" in shown
    assert "about to fail" in shown
    assert "RuntimeError: no beam" in shown
    assert "# host" not in shown
    assert list((b.places.exp / "decode").iterdir()) == []
    assert (b.states(Config())[2], b.whys(Config())[2]) == (
        "failed",
        "RuntimeError: no beam; log is in exp/base/log/12_decode.log",
    )
    assert bench(RECIPE).run(Config()).ran == (12,)


@pytest.mark.parametrize("error", [InputError("a.wav: empty", hint="look"), OutputError("full")])
def test_a_failed_stage_keeps_the_code_and_hint_of_its_error(bench: Make, error: InputError) -> None:
    def fail(context: Context, settings: int) -> None:
        raise error

    with pytest.raises(StageFailed) as caught:
        bench(with_stage(1, run=fail)).run(Config())
    assert caught.value.exit_code == error.exit_code
    assert caught.value.hint == error.hint or not error.hint


def test_a_stage_that_makes_less_than_it_declares_has_failed(bench: Make) -> None:
    recipe = with_stage(12, outputs={"text": "exp/decode/text", "scores": "exp/decode/scores"})
    b = bench(recipe)
    with pytest.raises(StageFailed, match="it made no exp/decode/scores"):
        b.run(Config())
    assert list((b.places.exp / "decode").iterdir()) == []


def test_a_training_that_is_asked_to_stop_goes_on_where_it_ended(bench: Make) -> None:
    b = bench(RECIPE)
    stop(b, 2, signal.SIGINT)
    report = b.run(Config())
    assert (report.ran, report.signal, report.next_stage) == ((1,), signal.SIGINT, 10)
    assert (b.states(Config())[1], b.whys(Config())[1]) == ("partial", "step 2 of 4")
    assert not (b.places.exp / "model").exists()
    report = b.run(Config())
    assert (report.ran, report.signal) == ((10, 12), None)
    assert (b.places.exp / "train/step").read_text() == "4"
    assert "stage 10 (train): goes on (step 2 of 4)" in b.console.lines


def test_a_stop_after_the_last_step_finishes_the_stage_and_begins_no_other(bench: Make) -> None:
    def finish(context: Context, steps: int) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)
        context.outputs["model"].write_text("x")

    report = bench(with_stage(10, run=finish)).run(Config())
    assert (report.ran, report.signal, report.next_stage) == ((1, 10), signal.SIGUSR1, 12)


def test_a_second_signal_ends_at_once(bench: Make) -> None:
    def deaf(context: Context, steps: int) -> None:
        assert context.work is not None
        (context.work / "step").write_text("1")
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    b = bench(with_stage(10, run=deaf))
    with pytest.raises(KeyboardInterrupt):
        b.run(Config())
    assert b.states(Config())[1] == "partial"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_stage_that_cannot_go_on_later_ends_at_once(bench: Make, number: int, error: type[BaseException]) -> None:
    def interrupted(context: Context, settings: None) -> None:
        context.outputs["text"].write_text("half")
        os.kill(os.getpid(), number)

    b = bench(with_stage(12, run=interrupted))
    with pytest.raises(error):
        b.run(Config())
    assert list((b.places.exp / "decode").iterdir()) == []
    assert b.whys(Config())[2].startswith("interrupted")


def test_a_begun_training_is_not_continued_with_other_settings(bench: Make) -> None:
    b = bench(RECIPE)
    stop(b, 2, signal.SIGINT)
    b.run(Config())
    with pytest.raises(UsageError, match="steps 4 -> 5") as caught:
        b.run(Config(steps=5), first=12)
    assert "--tag NEW" in caught.value.hint
    assert "--force-stage 10" in caught.value.hint
    assert (b.states(Config(steps=5))[1], b.whys(Config(steps=5))[1]) == ("stale", "setting steps 4 -> 5")
    b.run(Config(steps=5), force=frozenset({10}))
    (old,) = b.places.exp.glob("train.old-*")
    assert (old / "step").read_text() == "2"
    assert (b.places.exp / "model").read_text() == "5 steps"


def test_a_finished_training_is_not_lost_to_other_settings(bench: Make) -> None:
    b = bench(RECIPE)
    b.run(Config())
    before = (b.places.exp / "config.yaml").read_text()
    with pytest.raises(UsageError, match="steps 4 -> 5"):
        b.run(Config(steps=5))
    assert "  steps 4 -> 5" in b.console.lines
    assert (b.places.exp / "config.yaml").read_text() == before
    assert bench(RECIPE, tag="new").run(Config(steps=5)).ran == (10, 12)


def test_changed_data_trains_afresh_and_keeps_the_old_folder(bench: Make) -> None:
    b = bench(RECIPE)
    b.run(Config())
    b.run(Config(words=4))
    assert (b.places.exp / "train/step").read_text() == "4"
    assert len(list(b.places.exp.glob("train.old-*"))) == 1


def test_a_begun_training_is_not_continued_with_other_data(bench: Make) -> None:
    b = bench(RECIPE)
    stop(b, 2, signal.SIGINT)
    b.run(Config())
    with pytest.raises(UsageError, match="input data/text changed"):
        b.run(Config(words=4))


def test_a_second_run_is_refused_while_the_first_holds_the_experiment(bench: Make) -> None:
    b = bench(RECIPE)
    b.run(Config())
    with lock(b.places.exp / ".lock", "x"), pytest.raises(Busy, match="exp/base is in use by"):
        b.run(Config())


def test_outputs_that_experiments_share_are_locked_while_they_are_made(bench: Make) -> None:
    b = bench(RECIPE)
    with lock(b.places.egs / ".data.lock", "x"), pytest.raises(Busy, match="data is in use by"):
        b.run(Config())


def test_old_leftovers_of_killed_runs_are_removed(bench: Make) -> None:
    b = bench(RECIPE)
    old, new = b.places.egs / ".data.tmp-1", b.places.egs / ".data.tmp-2"
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (0, 0))
    b.run(Config())
    assert (old.exists(), new.exists()) == (False, True)


@pytest.mark.parametrize("selection", [{"numbers": frozenset({4}), "named": frozenset({4})}, {"first": 13}])
def test_stages_that_do_not_exist_are_refused(bench: Make, selection: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="recipe toy has no stage") as caught:
        bench(RECIPE).run(Config(), **selection)
    assert caught.value.hint == "its stages: 1, 10, 12"


def test_map_gives_results_in_order_and_logs_apart(bench: Make, tmp_path: Path) -> None:
    work = tmp_path / "work.py"
    work.write_text("def double(n):\n    return 2 * n\n")

    def spread(context: Context, settings: None) -> None:
        assert context.map((work, "double"), [1, 2, 3], nj=2) == [2, 4, 6]
        context.outputs["text"].touch()

    b = bench(with_stage(12, run=spread))
    b.run(Config())
    assert {p.name for p in (b.places.exp / "log").glob("12*")} >= {"12_decode.log", "12_decode.1.log"}


def test_inputs_of_a_kind_go_by_their_names(bench: Make) -> None:
    found: dict[str, dict[str, str]] = {}

    def look(context: Context, settings: None) -> None:
        found.update(
            {kind: {n: p.name for n, p in context.named(kind).items()} for kind in ("set", "training", "none")}
        )
        context.outputs["text"].touch()

    inputs = {"set a": "data", "set my training b": "data/text", "training a": "exp/model", "settings": "exp/model"}
    bench(with_stage(12, run=look, inputs=inputs)).run(Config())
    assert found == {"set": {"a": "data", "my training b": "text"}, "training": {"a": "model"}, "none": {}}
