from __future__ import annotations

from pathlib import Path

import pytest

from speechkit.errors import SpeechkitError, UsageError
from speechkit.recipe import load

TOY = """
from __future__ import annotations
from dataclasses import dataclass
from speechkit.recipe import Recipe

@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    seed: int = {seed}

RECIPE = Recipe(name="toy", config=Config, stages=())
"""


def test_a_recipe_is_loaded_by_its_path_once(tmp_path: Path) -> None:
    for seed in (1, 2):
        (tmp_path / str(seed)).mkdir()
        (tmp_path / str(seed) / "recipe.py").write_text(TOY.format(seed=seed))
    assert [load(tmp_path / str(seed)).config().seed for seed in (1, 2)] == [1, 2]
    assert load(tmp_path / "1") is load(str(tmp_path / "1"))


def test_a_folder_without_recipe_is_refused_with_where_recipes_come_from(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no recipe\.py there") as caught:
        load(tmp_path)
    assert "come with a clone" in caught.value.hint


def test_a_file_without_recipe_or_with_an_error_is_named(tmp_path: Path) -> None:
    (tmp_path / "recipe.py").write_text("RECIPE = 1\n")
    with pytest.raises(UsageError, match="defines no RECIPE"):
        load(tmp_path)
    (tmp_path / "b").mkdir()
    (tmp_path / "b/recipe.py").write_text("import nowhere\n")
    with pytest.raises(SpeechkitError, match=r"b/recipe\.py: ModuleNotFoundError: No module named 'nowhere'"):
        load(tmp_path / "b")
