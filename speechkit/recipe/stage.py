"""What a recipe declares: numbered stages with inputs, outputs and the settings they read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from speechkit.recipe.context import Context

C = TypeVar("C")  # the configuration of the recipe
S = TypeVar("S")  # what the stage reads of it

Group = Literal["data", "train", "eval", "upload"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Input:
    """An input whose digest is not that of its content.

    Args:
        path: a path pattern.
        digest: `listing` of a folder takes names, sizes and times (a corpus as its owner lays it out); `recordings` of
            a wav.scp takes the table and, of every file it names, size and both ends.
    """

    path: str
    digest: Literal["content", "listing", "recordings"] = "content"


Inputs = Mapping[str, str | Input]
Outputs = Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage(Generic[C, S]):
    """One numbered step of a recipe; it runs again only when something it declares has changed.

    Path patterns are formatted from the configuration (`dump/{audio_format}/{train_set}`), `{corpus_dir}`, the value of
    `--data-dir`, and `{system}`, the name of the folder below egs/CORPUS. `exp/…` lies in the experiment's folder,
    everything else counts from egs/CORPUS (`data/…`, `dump/…`, `prepare.py`). Outputs may be files or folders.

    Args:
        number: never reused once released.
        name: verb_noun; the log's name too.
        run: does the work; see `Context`. A stage that stops early because it was asked to raises `Interrupted`.
        group: `upload` runs only when its number is named.
        inputs: by name, or a function of the configuration that returns them.
        outputs: by name, or such a function.
        settings: picks from the configuration what the stage reads. The result is part of what must not change, and
            is handed to `run`; it holds scalars, tuples, dicts and dataclasses.
        version: to be raised when the meaning of the outputs changes.
        gpu: it uses the accelerator when there is one.
        when: it is skipped where this is false.
        work: pattern of a folder that survives interruption, and from which the next run continues if nothing that is
            declared has changed.
        pieces: it works through `Context.walk`, so that several machines can share it (`--shard`).
        batches: of a training: its loader, made from inputs and settings as `run` makes it, but on the CPU; for
            `speechkit data why`.
    """

    number: int
    name: str
    run: Callable[[Context, S], None]
    group: Group
    inputs: Inputs | Callable[[C], Inputs]
    outputs: Outputs | Callable[[C], Outputs]
    settings: Callable[[C], S]
    version: int = 1
    gpu: bool = False
    when: Callable[[C], bool] | None = None
    work: str | None = None
    pieces: bool = False
    batches: Callable[[Mapping[str, Path], S], Any] | None = None

    @property
    def label(self) -> str:
        """The name of its record and log: `05_train`."""
        return f"{self.number:02d}_{self.name}"

    def __str__(self) -> str:
        return f"stage {self.number} ({self.name})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """The numbered stages of one system, for any corpus.

    Args:
        name: of the system.
        config: the dataclass of all its settings.
        stages: in the order of their numbers.
    """

    name: str
    config: type[Any]
    stages: tuple[Stage[Any, Any], ...]

    def __post_init__(self) -> None:
        numbers = [stage.number for stage in self.stages]
        if numbers != sorted(set(numbers)):
            raise ValueError(f"recipe {self.name}: stage numbers must rise: {numbers}")
        if len({stage.name for stage in self.stages}) < len(self.stages):
            raise ValueError(f"recipe {self.name}: two stages have one name")
