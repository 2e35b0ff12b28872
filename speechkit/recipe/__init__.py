"""Numbered stages: declared, planned, skipped when nothing changed, run, logged."""

from speechkit.jobs import Interrupted
from speechkit.recipe.context import Console, Context, Progress
from speechkit.recipe.execution import Report, Resources, StageFailed, execute
from speechkit.recipe.places import Places
from speechkit.recipe.planning import Planned, Selection, plan
from speechkit.recipe.source import load
from speechkit.recipe.stage import Input, Recipe, Stage

__all__ = [
    "Console",
    "Context",
    "Input",
    "Interrupted",
    "Places",
    "Planned",
    "Progress",
    "Recipe",
    "Report",
    "Resources",
    "Selection",
    "Stage",
    "StageFailed",
    "execute",
    "load",
    "plan",
]
