"""Recipes are files of a clone, loaded by path."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path

from speechkit.errors import SpeechkitError, UsageError
from speechkit.recipe.stage import Recipe


def load(folder: str | Path) -> Recipe:
    """Load `RECIPE` from the recipe.py of a folder.

    Raises:
        UsageError: there is no such file, or it defines no recipe.
        SpeechkitError: running the file raises an error.
    """
    file = Path(folder).absolute() / "recipe.py"
    if not file.is_file():
        hint = "give a folder with recipe.py, such as recipes/wavlm; recipes come with a clone, not with the package"
        raise UsageError(f"{folder}: no recipe.py there", hint=hint, code="recipe.missing")
    # dataclasses look up the module of their annotations by name, which must not be that of another recipe
    name = f"speechkit_recipe_{hashlib.sha256(str(file).encode()).hexdigest()[:16]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            text = f"{type(error).__name__}: {error}".partition("\n")[0]
            raise SpeechkitError(f"{file}: {text}", hint="-vv shows where", code="recipe.broken") from error
    recipe = getattr(sys.modules[name], "RECIPE", None)
    if not isinstance(recipe, Recipe):
        raise UsageError(f"{file}: defines no RECIPE", code="recipe.missing")
    return recipe
