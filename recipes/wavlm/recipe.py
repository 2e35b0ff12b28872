"""WavLM: pre-training on masked hidden units in two iterations, then recognition with CTC.

Sources: Chen et al., "WavLM" (2022); Hsu et al., "HuBERT" (2021) for the units. conf/ holds the papers' schedules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from speechkit.config import check_ranges
from speechkit.models import PUBLISHED, is_published
from speechkit.models.wavlm.config import WavLMConfig
from speechkit.recipe.stage import Recipe, Stage
from speechkit.stages.corpus import LengthLimits, filter_lengths, index_audio, prepare_data, validate_data
from speechkit.stages.ctc import (
    CTCTraining,
    DecodeSettings,
    FinetuneSettings,
    average_weights,
    decode,
    finetune,
    finetuning_batches,
)
from speechkit.stages.lm import learn_lm, lm_inputs
from speechkit.stages.pretrain import PretrainSettings, UnitTraining, pretrain, pretraining_batches
from speechkit.stages.report import publish, report
from speechkit.stages.score import score
from speechkit.stages.tokens import TokenSettings, learn_tokens
from speechkit.stages.units import UnitSettings, UnitStage, label_units, learn_units


@dataclass(frozen=True, kw_only=True, slots=True)
class WavLMRecipe:
    """All settings of the recipe; the defaults are those of WavLM Base where conf/base.yaml does not say otherwise.

    Attributes:
        pretrain_sets: what pre-training hears.
        pretrain_dev_set: what it is judged by.
        train_set: what fine-tuning learns from.
        dev_set: what it is judged by.
        test_sets: what is decoded.
        noise_set: recordings of noise; empty: none.
        rir_set: impulse responses of rooms; empty: none.
        prepare: settings of the corpus's prepare.py.
        min_crop_seconds: what is shorter takes no part in pre-training.
        min_seconds: what is shorter takes no part in fine-tuning.
        max_seconds: nor what is longer.
        seed: of all draws.
        model: the network.
        units_1: MFCC units.
        pretrain_1: first iteration.
        units_2: units of a layer of the first iteration's model.
        pretrain_2: second iteration.
        init: what fine-tuning starts from: `pretrain_1`, `pretrain_2`, `random`, a published model by its name, or the
            folder of a model; that path counts from egs/CORPUS, as in `wavlm/exp/OTHER/pretrain_2/model`.
        tokens: of transcripts.
        finetune: with CTC.
        decode: of test sets.
        published: the paper's word error rates of test sets, as shares, to stand beside ours.
    """

    pretrain_sets: tuple[str, ...] = ("train",)
    pretrain_dev_set: str = "dev"
    train_set: str = "train"
    dev_set: str = "dev"
    test_sets: tuple[str, ...] = ("test",)
    noise_set: str = ""
    rir_set: str = ""
    prepare: dict[str, int | float] = field(default_factory=dict)
    min_crop_seconds: float = 2.0
    min_seconds: float = 0.1
    max_seconds: float = 20.0
    seed: int = 0
    model: WavLMConfig = field(default_factory=WavLMConfig)
    units_1: UnitSettings = field(default_factory=UnitSettings)
    pretrain_1: PretrainSettings = field(default_factory=PretrainSettings)
    units_2: UnitSettings = field(default_factory=lambda: UnitSettings(clusters=500))
    pretrain_2: PretrainSettings = field(default_factory=PretrainSettings)
    init: str = "pretrain_2"
    tokens: TokenSettings = field(default_factory=TokenSettings)
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)
    decode: DecodeSettings = field(default_factory=DecodeSettings)
    published: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.test_sets:
            raise ValueError("test_sets: none is named, so there would be nothing to score")
        check_ranges(self, min_crop_seconds=(0, math.inf), min_seconds=(0, math.inf), max_seconds=(0.1, math.inf))
        if self.units_2.layer > self.model.encoder.num_layers:
            raise ValueError(f"units_2.layer is {self.units_2.layer}, the model has {self.model.encoder.num_layers}")
        noisy = (self.finetune.augment.noise_prob, self.pretrain_1.mixing.noise_prob, self.pretrain_2.mixing.noise_prob)
        if any(noisy) and not self.noise_set:
            raise ValueError("a noise_prob is set and no noise_set")
        if self.finetune.augment.reverb_prob and not self.rir_set:
            raise ValueError("finetune.augment.reverb_prob is set and no rir_set")
        known = ["pretrain_1", "pretrain_2", "random", *PUBLISHED]
        if self.init not in known and "/" not in self.init:
            names = ", ".join(known)
            raise ValueError(f"init: {self.init!r} is neither a path with a slash in it nor hf:owner/name nor {names}")


def pretraining_sets(c: WavLMRecipe) -> list[str]:
    """The sets of pre-training, if there is any."""
    return list(dict.fromkeys([*c.pretrain_sets, c.pretrain_dev_set])) if first_iteration(c) else []


def finetuning_sets(c: WavLMRecipe) -> list[str]:
    """The sets with transcripts."""
    return list(dict.fromkeys([c.train_set, c.dev_set, *c.test_sets]))


def all_sets(c: WavLMRecipe) -> list[str]:
    """Every set that the configuration names."""
    return list(dict.fromkeys([*pretraining_sets(c), *finetuning_sets(c), *augmenting_sets(c)]))


def augmenting_sets(c: WavLMRecipe) -> list[str]:
    """The noise and the rooms, if there are any."""
    return [name for name in (c.noise_set, c.rir_set) if name]


def limits(c: WavLMRecipe) -> dict[str, LengthLimits]:
    """What stage 4 filters: for fine-tuning by both limits, for pre-training by the least length of a crop."""
    crops = LengthLimits(min_seconds=c.min_crop_seconds)
    sentences = LengthLimits(min_seconds=c.min_seconds, max_seconds=c.max_seconds)
    return {f"pretrain/{s}": crops for s in pretraining_sets(c)} | dict.fromkeys((c.train_set, c.dev_set), sentences)


def first_iteration(c: WavLMRecipe) -> bool:
    """Whether fine-tuning builds on pre-training of this experiment."""
    return c.init in ("pretrain_1", "pretrain_2")


def second_iteration(c: WavLMRecipe) -> bool:
    """Whether it builds on the second iteration."""
    return c.init == "pretrain_2"


def list_inputs(sets: Sequence[str]) -> dict[str, str]:
    """The lists of sets of pre-training."""
    return {f"lists {s}": f"exp/lists/pretrain/{s}.jsonl" for s in sets}


def noise_input(c: WavLMRecipe) -> dict[str, str]:
    """The noise, if there is any."""
    return {"noise": f"dump/index/{c.noise_set}.jsonl"} if c.noise_set else {}


def unit_stages(iteration: Literal[1, 2], first: int, last: int) -> tuple[Stage[Any, Any], ...]:
    """Learn units, label with them, predict them: stages `first`, `first` + 1 and `last`."""
    when = first_iteration if iteration == 1 else second_iteration
    encoder = {} if iteration == 1 else {"encoder": "exp/pretrain_1/model"}
    units = f"units_{iteration}"
    return (
        Stage(
            number=first,
            name=f"learn_{units}",
            group="train",
            inputs=lambda c: list_inputs(c.pretrain_sets) | encoder,
            outputs={"kmeans": f"exp/{units}/kmeans"},
            settings=lambda c: UnitStage(units=getattr(c, units), seed=c.seed),
            run=learn_units,
            gpu=True,
            when=when,
        ),
        Stage(
            number=first + 1,
            name=f"label_{units}",
            group="train",
            inputs=lambda c: list_inputs(pretraining_sets(c)) | encoder | {"kmeans": f"exp/{units}/kmeans"},
            outputs={"units": f"exp/{units}/units"},
            settings=lambda c: UnitStage(units=getattr(c, units), seed=c.seed),
            run=label_units,
            gpu=True,
            pieces=True,
            when=when,
        ),
        Stage(
            number=last,
            name=f"pretrain_{iteration}",
            group="train",
            inputs=lambda c: (
                list_inputs(c.pretrain_sets)
                | noise_input(c)
                | {"dev": f"exp/lists/pretrain/{c.pretrain_dev_set}.jsonl", "units": f"exp/{units}/units"}
            ),
            outputs={
                "model": f"exp/pretrain_{iteration}/model",
                "metrics": f"exp/pretrain_{iteration}/metrics.jsonl",
            },
            settings=lambda c: UnitTraining(
                model=c.model,
                clusters=getattr(c, units).clusters,
                pretrain=getattr(c, f"pretrain_{iteration}"),
                iteration=iteration,
                seed=c.seed,
            ),
            run=pretrain,
            gpu=True,
            when=when,
            work=f"exp/pretrain_{iteration}/work",
            batches=pretraining_batches,
        ),
    )


def room_input(c: WavLMRecipe) -> dict[str, str]:
    """The rooms, if there are any."""
    return {"rooms": f"dump/index/{c.rir_set}.jsonl"} if c.rir_set else {}


def published_init(c: WavLMRecipe) -> str:
    """The published model that fine-tuning starts from, if it does."""
    own = first_iteration(c) or c.init == "random"
    return c.init if not own and is_published(c.init) else ""


def init_input(c: WavLMRecipe) -> dict[str, str]:
    """What fine-tuning starts from, where it lies on this disk."""
    if c.init == "random" or published_init(c):
        return {}
    return {"init": f"exp/{c.init}/model" if first_iteration(c) else c.init}


def trainings(c: WavLMRecipe) -> list[str]:
    """The trainings that take place."""
    done = {"pretrain_1": first_iteration(c), "pretrain_2": second_iteration(c), "finetune": True}
    return [name for name, wanted in done.items() if wanted]


def units(c: WavLMRecipe) -> list[str]:
    """The units that are learned."""
    return [name.replace("pretrain", "units") for name in trainings(c) if name != "finetune"]


def lists(c: WavLMRecipe) -> dict[str, str]:
    """What the report describes."""
    pretraining = {f"{s} (pre-training)": f"exp/lists/pretrain/{s}.jsonl" for s in pretraining_sets(c)}
    sentences = {c.train_set: "exp/finetune/train.jsonl", c.dev_set: "exp/finetune/dev.jsonl"}
    return pretraining | sentences | {s: f"dump/index/{s}.jsonl" for s in c.test_sets}


RECIPE = Recipe(
    name="wavlm",
    config=WavLMRecipe,
    stages=(
        prepare_data(),
        validate_data(all_sets, with_text=finetuning_sets),
        index_audio(all_sets),
        filter_lengths(limits),
        learn_tokens(lambda c: c.model.frame_rate),
        learn_lm(),
        *unit_stages(1, first=7, last=10),
        *unit_stages(2, first=21, last=23),
        Stage(
            number=30,
            name="finetune",
            group="train",
            inputs=lambda c: (
                {
                    "train": "exp/finetune/train.jsonl",
                    "dev": "exp/finetune/dev.jsonl",
                    "tokens": "exp/tokens",
                }
                | init_input(c)
                | noise_input(c)
                | room_input(c)
            ),
            outputs={
                "model": "exp/finetune/model",
                "weights": "exp/finetune/weights",
                "metrics": "exp/finetune/metrics.jsonl",
            },
            settings=lambda c: CTCTraining(
                model=c.model,
                published=published_init(c),
                finetune=c.finetune,
                seed=c.seed,
            ),
            run=finetune,
            gpu=True,
            work="exp/finetune/work",
            batches=finetuning_batches,
        ),
        Stage(
            number=31,
            name="average",
            group="train",
            inputs={"model": "exp/finetune/model", "weights": "exp/finetune/weights"},
            outputs={n: f"exp/{n}" for n in ("config.json", "model.safetensors", "card.md")},
            settings=lambda c: None,  # noqa: ARG005
            run=average_weights,
        ),
        Stage(
            number=32,
            name="decode",
            group="eval",
            inputs=lambda c: (
                {"model": "exp/model.safetensors", "config": "exp/config.json"}
                | lm_inputs(c)
                | {s: f"dump/index/{s}.jsonl" for s in c.test_sets}
            ),
            outputs=lambda c: {s: f"exp/decode/{s}" for s in c.test_sets},
            settings=lambda c: c.decode,
            run=decode,
            gpu=True,
        ),
        score(number=33),
        report(number=35, trainings=trainings, units=units, lists=lists),
        publish(number=36),
    ),
)
