from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]

TOY = """
    from __future__ import annotations
    import os, signal, time
    from dataclasses import dataclass
    from speechkit.recipe import Context, Input, Interrupted, Recipe, Stage

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Train:
        steps: int = 3
        lr: float = 0.1

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        words: int = 3
        kind: str = "flac"
        report_every: int = 1
        train: Train = Train()

    def obey(context: Context, point: str) -> None:
        '''Do what the file `orders` says at this point: die, or wait for the writer of a pipe.'''
        orders = context.egs / "orders"
        if orders.exists():
            order, at, *rest = orders.read_text().split(' ', 2)
            if at == point:
                orders.unlink()
                if order == "die":
                    os.kill(os.getpid(), signal.SIGKILL)
                open(rest[0]).read()

    def prepare(context: Context, words: int) -> None:
        out = context.outputs["data"]
        obey(context, "1.begin")
        out.mkdir()
        (out / "wav.scp").write_text("half")
        obey(context, "1.half")
        (out / "text").write_text("".join(f"u{i} word\\n" for i in range(words)))
        (out / "wav.scp").write_text(str(context.corpus_dir))
        obey(context, "1.end")

    def format_audio(context: Context, settings: None) -> None:
        for line in context.inputs["text"].read_text().splitlines():
            context.outputs["dump"].mkdir(exist_ok=True)
            (context.outputs["dump"] / line.split()[0]).write_text(line)
            obey(context, "3.half")

    def train(context: Context, settings: Train) -> None:
        state = context.work / "step"
        step = int(state.read_text()) if state.exists() else 0
        with context.progress(settings.steps, "step") as progress:
            while step < settings.steps:
                step += 1
                state.write_text(str(step))
                progress.update(step, settings.steps)
                obey(context, f"10.step{step}")
                if context.should_stop():
                    raise Interrupted
        context.outputs["model"].write_text(f"{settings.steps} {settings.lr}")
        obey(context, "10.end")

    def decode(context: Context, settings: None) -> None:
        context.outputs["text"].write_bytes(bytes(1 << 18))
        obey(context, "12.half")
        context.outputs["text"].write_text(context.inputs["model"].read_text())
        context.say("WER 2.0 %")

    RECIPE = Recipe(name="toy", config=Config, stages=(
        Stage(number=1, name="prepare_data", group="data", run=prepare, settings=lambda c: c.words,
              inputs={"corpus": Input(path="{corpus_dir}", digest="listing")}, outputs={"data": "data"}),
        Stage(number=3, name="format_audio", group="data", run=format_audio, settings=lambda c: None,
              inputs={"text": "data/text"}, outputs={"dump": "dump/{kind}"}),
        Stage(number=10, name="train", group="train", run=train, settings=lambda c: c.train,
              inputs={"dump": "dump/{kind}"}, outputs={"model": "exp/model"}, work="exp/train", gpu=True),
        Stage(number=12, name="decode", group="eval", run=decode, settings=lambda c: None,
              inputs={"model": "exp/model"}, outputs={"text": "exp/decode/text"}),
    ))
"""

RUN_SH = """#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd)
exec "{python}" -m speechkit run "${{here%/egs/*}}/recipes/toy" --in "$here" --conf base "$@"
"""


class Clone:
    """A recipe and a corpus folder, with run.sh."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.system = folder / "egs/mini/toy"
        self.exp = self.system / "exp"
        recipe = folder / "recipes/toy"
        for made in (self.system / "conf", recipe / "conf"):
            made.mkdir(parents=True)
        (recipe / "recipe.py").write_text(textwrap.dedent(TOY))
        (recipe / "conf/base.yaml").write_text("train:\n  steps: 5\n  lr: 0.5\n")
        (self.system / "conf/base.yaml").write_text("train: {lr: 0.25}\n")
        (recipe / "conf/tiny.yaml").write_text("train: {steps: 1}\n")
        script = self.system / "run.sh"
        script.write_text(RUN_SH.format(python=sys.executable))
        script.chmod(0o755)

    def start(self, *words: str, **options: object) -> subprocess.Popen[str]:
        return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
            [self.system / "run.sh", *words],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options},
        )

    def run(self, *words: str, code: int = 0, **options: object) -> tuple[str, str]:
        process = self.start(*words, **options)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        return out, err

    def orders(self, *words: object) -> None:
        (self.folder / "egs/mini/orders").write_text(" ".join(map(str, words)))

    def files(self) -> dict[str, bytes]:
        """The outputs, without records and logs."""
        places = [self.system.parent / "data", self.system.parent / "dump", self.exp]
        found = [p for place in places for p in place.rglob("*") if p.is_file()]
        told = (".stages", "log", ".digests.jsonl")
        return {str(p.relative_to(self.folder)): p.read_bytes() for p in found if not set(told) & set(p.parts)}


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path / "a clone")


def states(clone: Clone, *words: str) -> dict[int, str]:
    lines = clone.run("--list", "--json", *words)[0].splitlines()
    return {row["number"]: row["state"] for row in map(json.loads, lines)}


def test_a_run_tells_results_on_stdout_and_the_rest_on_stderr(clone: Clone) -> None:
    out, err = clone.run()
    assert out == "WER 2.0 %\n"
    assert [line.split(":")[0] for line in err.splitlines()[::2]] == [
        "stage 1 (prepare_data)",
        "stage 3 (format_audio)",
        "stage 10 (train)",
        "stage 12 (decode)",
    ]
    assert (clone.exp / "base/decode/text").read_text() == "5 0.25"  # the folder's conf over the recipe's
    out, err = clone.run()
    assert out == ""
    assert all(line.endswith(", skipped") for line in err.splitlines())


def test_quiet_prints_results_only(clone: Clone) -> None:
    assert clone.run("-q") == ("WER 2.0 %\n", "")


def test_later_conf_set_and_tag_win(clone: Clone) -> None:
    clone.run("--conf", "tiny", "--set", "train.lr=1e-3")
    assert (clone.exp / "tiny/decode/text").read_text() == "1 0.001"
    clone.run("--conf=tiny", "--tag=other", "-q")
    assert (clone.exp / "other/decode/text").read_text() == "1 0.25"
    (clone.folder / "mine.yaml").write_text("train: {steps: 2}\n")
    clone.run("--conf", "mine.yaml", "--set", "train.lr=2", "words=4")
    assert (clone.exp / "mine/decode/text").read_text() == "2 2.0"


def test_stages_are_chosen_by_range_or_by_set(clone: Clone) -> None:
    _, err = clone.run("--stage", "1", "--stop_stage", "3")
    assert err.splitlines()[-1] == "next: egs/mini/toy/run.sh --stage 10"
    assert states(clone) == {1: "done", 3: "done", 10: "missing", 12: "missing"}
    clone.run("--stages", "10-11,12")
    assert set(states(clone).values()) == {"done"}


def test_the_next_line_keeps_conf_set_and_tag(clone: Clone) -> None:
    _, err = clone.run("--conf", "tiny", "--set", "words=4", "--tag", "t", "--stop-stage", "1")
    assert err.splitlines()[-1] == "next: egs/mini/toy/run.sh --conf tiny --set words=4 --tag t --stage 3"


def test_list_has_fixed_columns(clone: Clone) -> None:
    clone.run("--stop-stage", "3")
    header, *rows = clone.run("--list")[0].splitlines()
    columns = [header.index(name) for name in ("stage", "group", "state", "why", "last run", "took")]
    first = [rows[0][a:b].strip() for a, b in zip(columns, [*columns[1:], None], strict=True)]
    assert first[:4] == ["prepare_data", "data", "done", ""]
    assert (len(first[4]), len(first[5])) == (16, 8)
    assert rows[3][columns[3] :] == "needs exp/base/model (stage 10)"


def test_a_dry_run_shows_all_and_leaves_no_folder(clone: Clone) -> None:
    before = sorted(clone.folder.rglob("*"))
    out, _ = clone.run("--dry-run")
    assert sorted(clone.folder.rglob("*")) == before
    assert out.splitlines()[:4] == [
        "would run 1 prepare_data  (missing: not run yet)",
        "  in   (not given)   (missing)",
        "  out  data",
        "  set  words=3 nj=1",
    ]
    clone.run("--stop-stage", "3")
    out, _ = clone.run("--dry-run", "--set", "words=4", "--nj", "3")
    assert out.startswith("would run 1 prepare_data  (stale: setting words 3 -> 4)")
    assert "  in   data/text   sha256:" in out
    assert "…  3 lines\n" in out
    assert "  set  words=4 nj=3" in out


def test_explain_names_what_changed(clone: Clone) -> None:
    clone.run()
    out, _ = clone.run("--explain", "10", "--set", "train.lr=3")
    assert "setting train.lr 0.25 -> 3.0" in out
    assert "runs only with --force-stage 10" in out
    assert "stage 12 (decode): done" in clone.run("--explain", "12")[0]
    assert "recipe toy has no stage 11" in clone.run("--explain", "11", code=2)[1]


def test_print_config_shows_the_resolved_settings(clone: Clone) -> None:
    out, _ = clone.run("--print-config", "--set", "train.lr=1e-5")
    assert out == "words: 3\nkind: flac\nreport_every: 1\ntrain:\n  steps: 5\n  lr: 1.0e-05\n"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["--set", "train.stps=3"],
            2,
            "--set train.stps: unknown setting 'train.stps'\nhint: did you mean train.steps?",
        ),
        (["--set", "train.steps=x"], 2, "train.steps: expected int, found 'x'"),
        (["--conf", "tny"], 2, "--conf tny: no such settings\nhint: did you mean tiny?"),
        (["--conf", "conf/none.yaml"], 2, "--conf conf/none.yaml: no such settings"),
        (["--stages", "1,x"], 2, "'1,x': expected numbers and ranges"),
        (["--stages", "3", "--stage", "1"], 2, "--stages goes with neither"),
        (["--stages", "4"], 2, "recipe toy has no stage 4\nhint: its stages: 1, 3, 10, 12"),
        (["--force-stage", "5"], 2, "recipe toy has no stage 5"),
        (["--nj", "0"], 2, "is not a whole number of at least 1"),
        (["--ngpu", "-1"], 2, "--ngpu"),
        pytest.param(
            ["--ngpu", "2"],
            2,
            "--ngpu 2: torch sees no GPU\nhint: --ngpu 0",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
        (["--tag", "a/b"], 2, "--tag 'a/b': not a plain name"),
        (["--data-dir", "nowhere"], 3, "--data-dir nowhere: no such folder"),
        (
            ["--stage", "12"],
            3,
            "stage 12 (decode) needs exp/base/model, which stage 10 (train) makes\nhint: run --stage 1",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_a_line_and_makes_nothing(
    clone: Clone, words: list[str], code: int, message: str
) -> None:
    out, err = clone.run(*words, code=code)
    assert message in err
    assert "Traceback" not in err
    assert (out, clone.exp.exists()) == ("", False)


def test_an_unknown_key_is_named_with_file_and_line(clone: Clone) -> None:
    (clone.system / "conf/base.yaml").write_text("train:\n  lr: 1\n  stepps: 3\n")
    _, err = clone.run(code=2)
    assert "conf/base.yaml:3: unknown setting 'train.stepps'\nhint: did you mean train.steps?" in err


def test_a_wrong_recipe_or_folder_is_refused(tmp_path: Path, clone: Clone) -> None:
    for words, message in (
        ([tmp_path], "no recipe.py there"),
        (["recipes/toy"], "--in is missing"),
        (["recipes/toy", "--in", "nowhere"], "--in nowhere: no such folder"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "speechkit", "run", *map(str, words)],
            cwd=clone.folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, message in done.stderr) == (2, True)


def test_the_corpus_need_be_named_once(clone: Clone) -> None:
    (clone.folder / "corpus").mkdir()
    clone.run("--data-dir", "corpus", "--stop-stage", "1")
    assert (clone.system.parent / "data/wav.scp").read_text() == str(clone.folder / "corpus")
    assert states(clone)[1] == "done"
    clone.run("--set", "words=4", "--stop-stage", "1")
    assert (clone.system.parent / "data/wav.scp").read_text() == str(clone.folder / "corpus")


def test_another_experiment_need_not_name_the_corpus_again(clone: Clone) -> None:
    (clone.folder / "corpus").mkdir()
    clone.run("--data-dir", "corpus", "--stop-stage", "1")
    clone.run("--tag", "other", "--set", "words=4", "--stop-stage", "1")
    assert (clone.system.parent / "data/wav.scp").read_text() == str(clone.folder / "corpus")


@pytest.mark.parametrize("point", ["1.begin", "1.half", "1.end", "3.half", "10.step2", "10.end", "12.half"])
def test_after_a_kill_the_same_command_completes_with_the_same_bytes(clone: Clone, tmp_path: Path, point: str) -> None:
    other = Clone(tmp_path / "undisturbed")
    other.run()
    clone.orders("die", point)
    clone.run(code=-signal.SIGKILL)
    names = set(clone.files())
    assert {n for n in names if "/." not in n} <= set(other.files())  # nothing half written under a final name
    _, err = clone.run()
    assert "is gone: taking over" in err
    final = {n: c for n, c in clone.files().items() if "/." not in n}
    assert final == other.files()
    assert set(states(clone).values()) == {"done"}


def test_a_killed_training_is_partial_and_goes_on(clone: Clone) -> None:
    clone.orders("die", "10.step2")
    clone.run(code=-signal.SIGKILL)
    assert states(clone)[10] == "partial"
    assert "stage 10 (train): goes on" in clone.run()[1]


def waiting(clone: Clone, point: str) -> tuple[subprocess.Popen[str], Callable[[], None]]:
    """Start a run that waits at a point; give it and what lets it go on."""
    pipe = clone.folder / "pipe"
    os.mkfifo(pipe)
    clone.orders("wait", point, pipe)
    process = clone.start()
    writer = pipe.open("w")  # returns when the stage has opened it
    return process, writer.close


def test_a_second_run_at_the_same_time_is_busy(clone: Clone) -> None:
    process, release = waiting(clone, "10.step2")
    _, err = clone.run(code=75)
    assert f"pid {process.pid} since" in err
    assert states(clone)[10] == "running"
    release()
    assert process.wait(60) == 0
    clone.run()


def test_a_run_that_makes_what_another_experiment_makes_is_busy(clone: Clone) -> None:
    process, release = waiting(clone, "3.half")
    _, err = clone.run("--tag", "other", code=75)
    assert "dump/flac is in use by" in err
    release()
    assert process.wait(60) == 0
    assert "stage 3 (format_audio): done" in clone.run("--tag", "other")[1]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 0)], ids=["INT", "TERM", "USR1"]
)
def test_signals_stop_a_training_at_a_safe_point(clone: Clone, number: int, code: int) -> None:
    process, release = waiting(clone, "10.step2")
    process.send_signal(number)
    release()
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err.splitlines()[-1] == "next: egs/mini/toy/run.sh --stage 10"
    assert states(clone)[10] == "partial"
    clone.run()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"])
def test_signals_end_other_stages_at_once_and_leave_nothing_half_written(clone: Clone, number: int, code: int) -> None:
    process, _ = waiting(clone, "1.half")
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
    assert sorted(p.name for p in clone.system.parent.iterdir()) == ["toy"]
    clone.run()


def test_a_full_disk_is_said_and_leaves_nothing_half_written(clone: Clone) -> None:
    limit = (1 << 16, 1 << 16)
    _, err = clone.run(code=5, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    assert "stage 12 (decode)" in err
    assert "cannot write: File too large" in err
    assert list((clone.exp / "base/decode").iterdir()) == []
    assert states(clone)[12] == "failed"
    clone.run()


def test_listing_17_stages_imports_no_torch_and_is_quick(tmp_path: Path, clone: Clone) -> None:
    stages = "\n".join(
        f"        Stage(number={n}, name='stage_{n}', group='data', run=prepare, settings=lambda c: c.words,"
        f" inputs={{'text': 'dump/{n - 1}'}}, outputs={{'data': 'dump/{n}'}}),"
        for n in range(20, 33)
    )
    recipe = clone.folder / "recipes/toy/recipe.py"
    recipe.write_text(
        recipe.read_text().replace("    ))\n", f"{stages}\n    ))\n").replace("\n))\n", f"\n{stages}\n))\n")
    )
    assert len(states(clone)) == 17
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-m",
        "speechkit",
        "run",
        "recipes/toy",
        "--in",
        clone.system,
        "--list",
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command, cwd=clone.folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime) < 0.3  # wall time depends on others
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "omegaconf" in imported
    assert "torch" not in imported
