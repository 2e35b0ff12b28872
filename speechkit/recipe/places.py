"""Where the paths of a recipe lie: data/ and dump/ once for a corpus, exp/TAG for one experiment of a system."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from speechkit.recipe.stage import Input, Stage


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """The folders of one experiment.

    Args:
        system: the folder egs/CORPUS/SYSTEM.
        tag: the experiment's name.
        corpus_dir: where the corpus lies as its owner lays it out.
    """

    system: Path
    tag: str
    corpus_dir: Path | None = None

    @property
    def egs(self) -> Path:
        """The folder egs/CORPUS."""
        return self.system.parent

    @property
    def exp(self) -> Path:
        """The experiment's folder."""
        return self.system / "exp" / self.tag

    @property
    def records(self) -> Path:
        """The folder of the stages' records."""
        return self.exp / ".stages"

    def path(self, name: str) -> Path:
        """Where a formatted pattern lies."""
        return self.exp.joinpath(*PurePosixPath(name).parts[1:]) if in_exp(name) else self.egs / name

    def shown(self, name: str) -> str:
        """A formatted pattern as people read it."""
        return str(PurePosixPath("exp", self.tag, *PurePosixPath(name).parts[1:])) if in_exp(name) else name

    def inputs(self, stage: Stage[Any, Any], config: Any) -> dict[str, Input]:
        """The inputs of a stage with their patterns formatted; an unset `{corpus_dir}` leaves an empty path."""
        patterns = stage.inputs(config) if callable(stage.inputs) else stage.inputs
        inputs = {n: p if isinstance(p, Input) else Input(path=p) for n, p in patterns.items()}
        return {n: dataclasses.replace(i, path=self._format(i.path, config)) for n, i in inputs.items()}

    def outputs(self, stage: Stage[Any, Any], config: Any) -> dict[str, str]:
        """The outputs of a stage with their patterns formatted."""
        patterns = stage.outputs(config) if callable(stage.outputs) else stage.outputs
        return {n: self._format(p, config) for n, p in patterns.items()}

    def work(self, stage: Stage[Any, Any], config: Any) -> str | None:
        """The formatted pattern of a stage's work folder."""
        return None if stage.work is None else self._format(stage.work, config)

    def pieces(self, stage: Stage[Any, Any]) -> Path:
        """The folder of what a stage that works in pieces has computed."""
        return self.exp / ".pieces" / stage.label

    def _format(self, pattern: str, config: Any) -> str:
        values: Mapping[str, Any] = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
        try:
            return pattern.format_map({**values, "corpus_dir": self.corpus_dir or "", "system": self.system.name})
        except (KeyError, AttributeError) as error:
            raise ValueError(f"path pattern {pattern!r}: no setting {error}") from error


def in_exp(name: str) -> bool:
    """Whether a formatted pattern lies in the experiment's folder, not where other experiments use it too."""
    return PurePosixPath(name).parts[:1] == ("exp",)
