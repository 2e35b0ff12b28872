from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from speechkit.data.batch import Batch
from speechkit.errors import ModelError, SpeechkitError, UsageError
from speechkit.objectives.losses import Losses
from speechkit.train.evaluate import evaluate
from speechkit.train.loop import TrainResult, train
from speechkit.train.optimizer import Optimizer
from speechkit.train.schedules import ScheduleSettings
from speechkit.train.settings import TrainSettings
from speechkit.train.state import comparable, load_checkpoint
from tests.train.toy import ToyLoader, ToyModel, ToyObjective, ToyStep, toy_batch

ROOT = Path(__file__).parents[2]
FLAT = ScheduleSettings(warmup=0, hold=1.0, decay=0)


def settings(**changes: object) -> TrainSettings:
    defaults = {"max_steps": 12, "learning_rate": 0.02, "schedule": FLAT, "dtype": "float32", "log_every": 5}
    return TrainSettings(**(defaults | changes))


def stop_after(steps: int) -> Callable[[], bool]:
    calls = iter(range(1, 10**6))
    return lambda: next(calls) == steps


def rows(out: Path, kind: str) -> list[dict[str, object]]:
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def held_out(model: ToyModel) -> dict[str, float]:
    return evaluate(model, ToyObjective(), [toy_batch(1000), toy_batch(1001)])


def run(out: Path, model: ToyModel, stop: int | None = None, **changes: object) -> TrainResult:
    should_stop = stop_after(stop) if stop else lambda: False
    return train(
        model,
        ToyObjective(),
        ToyLoader(),
        settings(**changes),
        seed=0,
        out=out,
        validate=held_out,
        should_stop=should_stop,
    )


def test_the_loss_falls(tmp_path: Path) -> None:
    run(tmp_path, ToyModel(), max_steps=60)
    losses = [float(row["loss"]) for row in rows(tmp_path, "train")]
    assert losses[-1] < losses[0] / 3


@pytest.mark.parametrize("stop", [1, 5, 7, 11])
def test_a_continued_training_equals_an_uninterrupted_one(tmp_path: Path, stop: int) -> None:
    whole, parts = ToyModel(dropout=0.3), ToyModel(dropout=0.3)
    changes = {"ema": 0.9, "clip": 1.0, "validate_every": 4, "freeze_steps": 3, "schedule": ScheduleSettings()}
    a = run(tmp_path / "a", whole, **changes)
    assert run(tmp_path / "b", parts, stop=stop, **changes).interrupted
    parts = ToyModel(dropout=0.3)
    b = run(tmp_path / "b", parts, **changes)
    assert not b.interrupted
    assert same_weights(whole, parts)
    assert a.best_value == b.best_value
    assert [p.name for p in a.best + a.last] == [p.name for p in b.best + b.last]
    volatile = {"audio_seconds_per_second", "wait_share", "memory_mib"}
    kept = [[{k: v for k, v in row.items() if k not in volatile} for row in rows(tmp_path / x, "train")] for x in "ab"]
    assert kept[0] == kept[1]
    assert rows(tmp_path / "a", "valid") == rows(tmp_path / "b", "valid")


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    first = run(tmp_path, ToyModel())
    model, loader = ToyModel(), ToyLoader()
    assert train(model, ToyObjective(), loader, settings(), seed=0, out=tmp_path) == first
    (last,) = first.last
    assert torch.equal(model.state_dict()["head.weight"], load_file(last)["head.weight"])


def test_changed_settings_are_refused_with_their_name(tmp_path: Path) -> None:
    run(tmp_path, ToyModel(), stop=3)
    with pytest.raises(UsageError, match=r"train\.learning_rate=0\.02, now it is 0\.5"):
        run(tmp_path, ToyModel(), learning_rate=0.5)
    run(tmp_path, ToyModel(), log_every=3)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_checkpoint_with_a_file_cut_in_half_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    run(tmp_path / "a", a := ToyModel())
    run(tmp_path / "b", ToyModel(), stop=4, validate_every=2)
    newest = sorted((tmp_path / "b/checkpoints").iterdir())[-1] / name
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    (tmp_path / "b/checkpoints/.step-00000005.tmp-1").mkdir()
    with caplog.at_level(logging.INFO):
        run(tmp_path / "b", b := ToyModel(), validate_every=2)
    assert "step-00000004 is damaged" in caplog.text
    assert "continuing after step 2 of 12" in caplog.text
    assert same_weights(a, b)
    assert {p.name for p in (tmp_path / "b/checkpoints").iterdir()} == {"step-00000010", "step-00000012"}


def test_damaged_checkpoints_do_not_take_the_place_of_newer_writings(tmp_path: Path) -> None:
    run(tmp_path, ToyModel(), stop=6, validate_every=2)
    for path in (tmp_path / "checkpoints").iterdir():
        (path / "state.json").write_text("{")
    run(tmp_path, ToyModel(), stop=3, validate_every=2)
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"step-00000002", "step-00000003"}
    assert load_checkpoint(tmp_path / "checkpoints", comparable(settings(validate_every=2), 0))


def test_micro_batches_of_a_step_equal_one_large_batch(tmp_path: Path) -> None:
    class Joined(ToyLoader):
        def steps(self, start: int = 0, rank: int = 0, processes: int = 1):
            for step in super().steps(start):
                a, b = step.batches
                batch = type(a)(
                    ids=a.ids + b.ids,
                    number=a.number,
                    epoch=0,
                    waves=torch.cat([a.waves, b.waves]),
                    lengths=torch.cat([a.lengths, b.lengths]),
                    sample_rate=8,
                    weights=torch.cat([a.weights, b.weights]),
                )
                yield ToyStep(step.number, [batch], [batch])

    a, b = ToyModel(), ToyModel()
    for model, loader, out in ((a, ToyLoader(), "a"), (b, Joined(), "b")):
        train(model, ToyObjective(), loader, settings(clip=0.5, log_every=1), seed=0, out=tmp_path / out)
    losses = [[row["loss"] for row in rows(tmp_path / x, "train")] for x in "ab"]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_step_that_is_not_a_number_has_no_effect(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = ToyModel()
    objective = ToyObjective(bad_steps=(0,))
    result = train(model, objective, ToyLoader(), settings(max_steps=1, ema=0.9), seed=0, out=tmp_path)
    assert same_weights(model, ToyModel())
    assert result.num_skipped == 1
    assert "step 0 skipped" in caplog.text
    assert "u0-0, u0-1, u1-0" in caplog.text
    assert rows(tmp_path, "train")[0]["skipped"] == 1


def test_rows_that_a_killed_run_made_after_its_checkpoint_are_dropped(tmp_path: Path) -> None:
    run(tmp_path, ToyModel(), stop=6)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "step": 10, "loss": 99}\n{"kind": "train", "st')
    run(tmp_path, ToyModel())
    assert [row["step"] for row in rows(tmp_path, "train")] == [5, 10, 12]
    assert all(row["loss"] != 99 for row in rows(tmp_path, "train"))


def test_gradients_are_clipped_to_their_common_norm() -> None:
    for clip, expected in ((1.0, 1.0), (None, 5.0), (9.0, 5.0)):
        model = ToyModel()
        optimizer = Optimizer(model, settings(clip=clip))
        model.head.bias.grad, model.encoder.bias.grad = torch.tensor([3.0]), torch.tensor([4.0] + [0.0] * 7)
        assert optimizer.clip_gradients().item() == 5
        norm = math.hypot(model.head.bias.grad.norm().item(), model.encoder.bias.grad.norm().item())
        assert norm == pytest.approx(expected, rel=1e-5)


def test_too_many_such_steps_end_the_training(tmp_path: Path) -> None:
    objective = ToyObjective(bad_steps=tuple(range(10, 31)))
    with pytest.raises(SpeechkitError, match="step 30: 21 of the last 1000 steps") as caught:
        train(ToyModel(), objective, ToyLoader(), settings(max_steps=100), seed=0, out=tmp_path)
    assert caught.value.code == "train.diverged"


def test_parameters_are_frozen_for_good_or_for_the_first_steps(tmp_path: Path) -> None:
    initial = ToyModel().state_dict()

    def changed(out: str, **changes: object) -> set[str]:
        model = ToyModel()
        run(tmp_path / out, model, **changes)
        return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, initial[name])}

    everything = {"encoder.weight", "encoder.bias", "head.weight", "head.bias"}
    assert changed("a", max_steps=3, freeze_steps=3) == {"head.weight", "head.bias"}
    assert changed("b", max_steps=4, freeze_steps=3) == everything
    assert changed("c", frozen=("encoder.weight",)) == everything - {"encoder.weight"}
    assert changed("d", frozen=("encoder.weight",), freeze_steps=3) == everything - {"encoder.weight"}


def test_a_frozen_name_that_fits_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"train\.frozen: no parameter's name begins with 'decoder'") as caught:
        run(tmp_path, ToyModel(), frozen=("decoder",))
    assert caught.value.hint == "names begin with: encoder, head"


def test_the_best_and_the_newest_weights_are_kept(tmp_path: Path) -> None:
    values = iter([3.0, 1.0, float("nan"), 2.0, 1.0, 4.0])
    result = train(
        ToyModel(),
        ToyObjective(),
        ToyLoader(),
        settings(validate_every=2, keep_best=2, keep_last=2, best="wer"),
        seed=0,
        out=tmp_path,
        validate=lambda model: {"wer": next(values), "text": "one → won"},
    )
    assert [p.name for p in result.best] == ["step-00000004.safetensors", "step-00000010.safetensors"]
    assert [p.name for p in result.last] == ["step-00000012.safetensors", "step-00000010.safetensors"]
    assert {*result.best, *result.last} == set((tmp_path / "weights").iterdir())
    assert result.best_value == 1.0
    assert rows(tmp_path, "valid")[0] == {"kind": "valid", "step": 2, "wer": 3.0, "text": "one → won"}


def test_a_validation_without_the_ranking_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gives no 'wer'"):
        run(tmp_path, ToyModel(), best="wer")


def test_the_running_average_is_validated_and_kept_and_the_weights_go_on(tmp_path: Path) -> None:
    seen: list[Tensor] = []

    def validate(model: ToyModel) -> dict[str, float]:
        assert not model.training
        seen.append(model.head.weight.detach().clone())
        return {"loss": 0.0}

    a, b = ToyModel(), ToyModel()
    run(tmp_path / "a", a)
    kept = settings(ema=0.99, validate_every=1, keep_last=12)
    result = train(b, ToyObjective(), ToyLoader(), kept, seed=0, out=tmp_path / "b", validate=validate)
    assert same_weights(a, b)
    raw = [load_file(tmp_path / "a/weights/step-00000012.safetensors")["head.weight"]]
    stored = [load_file(p)["head.weight"] for p in reversed(result.last)]
    assert all(torch.equal(x, y) for x, y in zip(seen, stored, strict=True))
    assert not torch.equal(stored[-1], raw[0])
    assert b.training


def test_the_average_is_the_recursion(tmp_path: Path) -> None:
    model, seen = ToyModel(), [ToyModel().head.bias.detach().clone()]
    options = settings(ema=0.5, log_every=1)
    objective = ToyObjective()
    result = train(
        model, objective, ToyLoader(), options, seed=0, out=tmp_path,
        progress=lambda step, total, text: seen.append(model.head.bias.detach().clone()),
    )  # fmt: skip
    expected = seen[0]
    for step, weights in enumerate(seen[1:13]):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weights
    assert torch.allclose(load_file(result.last[0])["head.bias"], expected, atol=1e-6)


def test_max_minutes_fixes_the_number_of_steps_once(tmp_path: Path) -> None:
    limits = {"max_steps": 10, "max_minutes": 60.0}
    model, loader = ToyModel(dropout=0.1), ToyLoader()
    train(model, ToyObjective(), loader, settings(**limits), seed=0, out=tmp_path / "a", should_stop=stop_after(4))
    assert loader.started == [0, 0], "steps are timed before the first one"
    loader = ToyLoader()
    model = ToyModel(dropout=0.1)
    train(model, ToyObjective(), loader, settings(**limits), seed=0, out=tmp_path / "a")
    assert loader.started == [4], "a continued training times nothing"
    train(
        plain := ToyModel(dropout=0.1), ToyObjective(), ToyLoader(), settings(max_steps=10), seed=0, out=tmp_path / "b"
    )
    assert same_weights(model, plain), "timing leaves no trace"


def test_a_budget_in_minutes_becomes_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10**6))
    monkeypatch.setattr("speechkit.train.loop.time.perf_counter", lambda: 0.5 * next(clock))
    result = train(
        ToyModel(), ToyObjective(), ToyLoader(), settings(max_steps=None, max_minutes=0.1), seed=0, out=tmp_path
    )
    assert (result.steps, result.max_steps) == (12, 12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_steps": None}, "neither max_steps nor max_minutes"),
        ({"max_steps": 0}, r"max_steps is 0, it must be at least 1"),
        ({"max_minutes": -1.0}, r"max_minutes is -1\.0, it must be positive"),
        ({"ema": 1.0}, r"ema is 1\.0"),
        ({"log_every": 0}, r"log_every is 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(**changes)


def test_training_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="every parameter is frozen"):
        run(tmp_path, ToyModel(), frozen=("",))


def test_rows_and_lines_tell_what_people_ask(tmp_path: Path) -> None:
    lines: list[str] = []
    train(
        ToyModel(), ToyObjective(), ToyLoader(), settings(), seed=0, out=tmp_path,
        progress=lambda step, total, text: lines.append(f"{step}/{total}: {text}"),
    )  # fmt: skip
    table = rows(tmp_path, "train")
    assert [row["step"] for row in table] == [5, 10, 12]
    assert set(table[0]) == {
        "kind", "step", "epoch", "loss", "square", "close", "gradient_norm", "learning_rate",
        "audio_seconds_per_second", "audio_hours", "wait_share", "padding_share", "memory_mib", "skipped", "example",
    }  # fmt: skip
    assert table[0]["loss"] == pytest.approx(table[0]["square"], rel=0.05)
    assert float(table[2]["audio_hours"]) * 3600 == pytest.approx(12 * (40 + 48) / 8)
    assert lines[0].startswith("5/12: loss ")
    for part in (
        "square ",
        "close ",
        "lr 2.0e-02",
        "norm ",
        "s audio/s",
        "wait 0.0%",
        "pad 10.0%",
        "MiB",
        "left",
        "first of u9",
    ):
        assert part in lines[0]


def test_a_checkpoint_is_written_in_time(tmp_path: Path) -> None:
    seen: list[set[str]] = []

    def look() -> bool:
        seen.append({p.name for p in tmp_path.glob("checkpoints/*")})
        return False

    train(ToyModel(), ToyObjective(), ToyLoader(), settings(save_minutes=0.0), seed=0, out=tmp_path, should_stop=look)
    assert seen[0] == set()
    assert seen[3] == {"step-00000002", "step-00000003"}


def test_all_files_can_be_read_by_those_who_may_read_the_folder(tmp_path: Path) -> None:
    run(tmp_path, ToyModel(), max_steps=1)
    (tmp_path / "other").touch()
    modes = {p.stat().st_mode for p in tmp_path.rglob("*") if p.is_file()}
    assert modes == {(tmp_path / "other").stat().st_mode}


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    for name in ("weights/.step-00000007.tmp-1.safetensors", "checkpoints/.step-00000007.tmp-1/state.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    run(tmp_path, ToyModel())
    assert not list(tmp_path.rglob("*.tmp-*"))


def test_a_full_disk_is_an_output_error_and_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    run(tmp_path, ToyModel(), stop=3)
    script = f"""
import resource
from pathlib import Path
from speechkit.errors import OutputError
from tests.train.test_loop import run
from tests.train.toy import ToyModel
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    run(Path({str(tmp_path)!r}), ToyModel())
except OutputError as error:
    print(error.exit_code)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "5"
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000003"]
    assert not list(tmp_path.rglob("*.tmp-*"))


def test_evaluation_divides_by_the_counts_of_all_batches() -> None:
    model, objective = ToyModel(dropout=0.9), ToyObjective()
    batches = [toy_batch(number) for number in range(3)]
    values = evaluate(model, objective, batches)
    sums = [objective(model, batch, 0).terms["square"].sum.item() for batch in batches]
    assert values["square"] == pytest.approx(sum(sums) / (10 + 12 + 10))
    assert values["loss"] == values["square"]
    assert values["num_frames"] == 32
    assert 0 <= values["close"] <= 1


def test_bfloat16_keeps_weights_in_float32_and_is_not_chosen_again(tmp_path: Path) -> None:
    run(tmp_path, ToyModel(), stop=3, dtype="bfloat16")
    model = ToyModel()
    assert run(tmp_path, model, dtype="bfloat16").dtype == "bfloat16"
    assert model.head.weight.dtype == torch.float32
    assert not same_weights(model, ToyModel())


def test_too_little_memory_is_an_error_that_says_what_to_lower(tmp_path: Path) -> None:
    class Large(ToyObjective):
        def __call__(self, model: ToyModel, batch: Batch, step: int) -> Losses:
            raise torch.OutOfMemoryError

    with pytest.raises(ModelError, match="step 0: out of memory with 2 utterances of 5 s") as caught:
        train(ToyModel(), Large(), ToyLoader(), settings(), seed=0, out=tmp_path)
    assert "batch_seconds" in caught.value.hint
