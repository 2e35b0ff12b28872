"""A stage shared among machines that know nothing of each other: each computes its shard of the pieces.

No shard holds the lock or writes the record of the experiment. Whoever finds all pieces done goes on to run the stage
itself, which then has only to put them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from speechkit.errors import UsageError
from speechkit.jobs import Interrupted, Shard
from speechkit.recipe.context import Console, ShareDone
from speechkit.recipe.places import Places
from speechkit.recipe.planning import Planned
from speechkit.recipe.processes import taking_part
from speechkit.recipe.stage import Recipe


def in_pieces(recipe: Recipe, planned: Sequence[Planned]) -> Planned:
    """The one selected stage, which machines can share.

    Raises:
        UsageError: it is not one, or does not work in pieces.
    """
    chosen = [this for this in planned if this.selected]
    selected = [this for this in chosen if this.state != "skipped"] or chosen
    if len(selected) == 1 and selected[0].stage.pieces:
        return selected[0]
    able = ", ".join(str(stage.number) for stage in recipe.stages if stage.pieces)
    numbers = ", ".join(str(this.stage.number) for this in selected)
    hint = f"choose one with --stages; stages that can be shared: {able}" if able else "no stage of it can be shared"
    message = f"--shard is for one stage that works in pieces, not for {numbers}"
    raise UsageError(message, hint=hint, code="recipe.shard")


def compute_share(
    this: Planned,
    config: Any,
    places: Places,
    console: Console,
    shard: Shard,
    command: str,
    **known: Any,
) -> tuple[int, int | None]:
    """Compute a shard of a stage.

    Args:
        this: the stage as it was planned.
        config: of the recipe.
        places: the folders.
        console: is told how many pieces are left.
        shard: which.
        command: for the log.
        known: other fields of the context.

    Returns:
        The number of pieces that are left for others, and the signal that ended the work early, if one did.
    """
    name = f"shard{shard.index}of{shard.count}"
    known |= {"shard": shard, "key": this.key, "pieces": places.pieces(this.stage)}
    with taking_part(this.stage, config, places, name, command, console=console, **known) as (context, signals):
        try:
            this.stage.run(context, this.settings)
        except ShareDone as done:
            console.line(f"{this.stage}: shard {shard} is done, {done.left} of {done.pieces} pieces are left")
            return done.left, None
        except Interrupted as stop:
            console.line(f"{this.stage}: shard {shard}: {stop}")
            return 1, signals.received
        raise AssertionError(f"{this.stage} declares pieces and does not walk them")
