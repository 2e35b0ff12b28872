"""docs/clusters.md holds commands that there are."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest
import yaml

from speechkit.cli.main import COMMANDS, Parser
from speechkit.jobs import Shard

PAGE = (Path(__file__).parents[2] / "docs/clusters.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
LINES = [line.partition("#")[0] for kind, block in BLOCKS if kind == "sh" for line in block.splitlines()]
TYPED = [shlex.split(line[line.index("speechkit ") :]) for line in LINES if "speechkit " in line]
(POD,) = [yaml.safe_load(block) for kind, block in BLOCKS if kind == "yaml"]
CONTAINER = POD["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize("words", [*TYPED, CONTAINER["command"]], ids=" ".join)
def test_every_command_of_the_page_is_understood(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "100"}.items():
        monkeypatch.setenv(name, value)
    parser = Parser(prog=words[1])
    importlib.import_module(COMMANDS[words[1]][0]).add_arguments(parser)
    args = parser.parse_command(words[2:])
    assert args.shard in (None, Shard(2, 7), Shard(3, 100))


def test_the_pods_of_the_job_are_as_many_as_they_are_told() -> None:
    assert CONTAINER["env"] == [{"name": "WORLD_SIZE", "value": str(POD["spec"]["completions"])}]
    assert len(TYPED) == 8
