"""Hidden units: a k-means tokenizer of MFCC, or of a layer of any encoder that `speechkit.load` takes.

Source: Hsu et al., "HuBERT" (2021), sections III-A and IV-C.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from speechkit.models import is_published
from speechkit.recipe.context import Context
from speechkit.recipe.stage import Recipe, Stage
from speechkit.stages.corpus import LengthLimits, filter_lengths, index_audio, prepare_data, validate_data
from speechkit.stages.report import publish
from speechkit.stages.unit_quality import report_units, score_units
from speechkit.stages.units import UnitSettings, UnitStage, label_units, learn_units


@dataclass(frozen=True, kw_only=True, slots=True)
class KMeansRecipe:
    """All settings of the recipe; the defaults are those of HuBERT's first iteration.

    Attributes:
        train_sets: what k-means is learned from.
        test_sets: what gets units besides.
        prepare: settings of the corpus's prepare.py.
        min_seconds: what is shorter gets no units: an encoder needs audio for a frame at least.
        max_seconds: nor does what is longer; None: nothing is too long.
        encoder: empty: MFCC. A path with a slash in it, absolute or from egs/CORPUS; or the name of a published model
            or `hf:owner/name`.
        units: the layer, or the shift of the MFCC, and the clusters.
        seed: of all draws.
    """

    train_sets: tuple[str, ...] = ("train",)
    test_sets: tuple[str, ...] = ()
    prepare: dict[str, int | float] = field(default_factory=dict)
    min_seconds: float = 0.1
    max_seconds: float | None = None
    encoder: str = ""
    units: UnitSettings = field(default_factory=UnitSettings)
    seed: int = 0


def all_sets(c: KMeansRecipe) -> list[str]:
    """Every set that gets units."""
    return list(dict.fromkeys([*c.train_sets, *c.test_sets]))


def limits(c: KMeansRecipe) -> dict[str, LengthLimits]:
    """What stage 4 filters."""
    return dict.fromkeys(all_sets(c), LengthLimits(min_seconds=c.min_seconds, max_seconds=c.max_seconds))


def features(c: KMeansRecipe) -> str:
    """What the units are made of, for people."""
    if not c.encoder:
        return f"MFCC with deltas, one every {c.units.frame_shift_ms:g} ms"
    return f"layer {c.units.layer} of {c.encoder}"


# The encoder ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """What the stages of units read.

    Attributes:
        units: the layer, or the shift of the MFCC, the clusters, and the seed.
        published: the encoder, where it is a name and so no input on this disk.
    """

    units: UnitStage
    published: str


def source(c: KMeansRecipe) -> Source:
    """Pick what the stages of units read."""
    return Source(units=UnitStage(units=c.units, seed=c.seed), published=c.encoder if is_published(c.encoder) else "")


def encoder_input(c: KMeansRecipe) -> dict[str, str]:
    """The encoder, where it lies on this disk."""
    return {"encoder": c.encoder} if c.encoder and not is_published(c.encoder) else {}


def learn(context: Context, settings: Source) -> None:
    """Learn the clusters."""
    learn_units(with_encoder(context, settings), settings.units)


def label(context: Context, settings: Source) -> None:
    """Find the unit of every frame."""
    label_units(with_encoder(context, settings), settings.units)


def with_encoder(context: Context, settings: Source) -> Context:
    """The context with a published encoder as if it were an input; `speechkit.load` takes either."""
    if not settings.published:
        return context
    inputs: Mapping[str, Path] = {**context.inputs, "encoder": Path(settings.published)}
    return replace(context, inputs=inputs)


# The stages -------------------------------------------------------------------------------------------------------

RECIPE = Recipe(
    name="kmeans",
    config=KMeansRecipe,
    stages=(
        prepare_data(),
        validate_data(all_sets, with_text=lambda c: ()),  # noqa: ARG005
        index_audio(all_sets),
        filter_lengths(limits),
        Stage(
            number=7,
            name="learn_units",
            group="train",
            inputs=lambda c: {f"lists {s}": f"exp/lists/{s}.jsonl" for s in c.train_sets} | encoder_input(c),
            outputs={"kmeans": "exp/kmeans"},
            settings=source,
            run=learn,
            gpu=True,
        ),
        Stage(
            number=8,
            name="label_units",
            group="data",
            inputs=lambda c: (
                {f"lists {s}": f"exp/lists/{s}.jsonl" for s in all_sets(c)}
                | encoder_input(c)
                | {"kmeans": "exp/kmeans"}
            ),
            outputs={"units": "exp/units"},
            settings=source,
            run=label,
            gpu=True,
            pieces=True,
        ),
        score_units(number=33, sets=all_sets),
        report_units(number=35, features=features),
        publish(number=36),
    ),
)
