"""Pre-training: the hidden units of masked frames are predicted from crops of overlapped and noisy speech."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from speechkit import draws
from speechkit.config import check_ranges
from speechkit.data.plan import PlanSettings
from speechkit.data.span_mask import SpanSettings
from speechkit.data.utterance import Utterance, read_utterances
from speechkit.models.wavlm.config import WavLMConfig
from speechkit.recipe.context import Context, named
from speechkit.stages.augment import AugmentSettings, waveform_transforms
from speechkit.stages.corpus import read_lists
from speechkit.stages.training import train_in_stage
from speechkit.stages.units import read_units
from speechkit.train.settings import TrainSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class MixingSettings:
    """Overlapped speech in pre-training (paper, section III-B).

    Attributes:
        prob: share of the utterances that are mixed.
        noise_prob: share of those that get noise of `noise_set`; the others get another utterance.
    """

    prob: float = 0.2
    noise_prob: float = 0.0

    def __post_init__(self) -> None:
        check_ranges(self, prob=(0, 1), noise_prob=(0, 1))


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainSettings:
    """One iteration of pre-training.

    Attributes:
        batch: how crops are packed.
        micro_batches: of a step.
        max_crop_seconds: longest crop.
        mask: of frames.
        mixing: overlapped speech.
        final_dim: width of the class embeddings.
        feature_penalty: weight of the mean square of the front end's output.
        train: of the loop.
        workers: processes that read audio.
        cache: keep all audio in memory.
    """

    batch: PlanSettings = field(default_factory=lambda: PlanSettings(batch_seconds=87.5))
    micro_batches: int = 32
    max_crop_seconds: float = 15.625
    mask: SpanSettings = field(default_factory=lambda: SpanSettings(prob=0.8, trim=True))
    mixing: MixingSettings = field(default_factory=MixingSettings)
    final_dim: int = 256
    feature_penalty: float = 10.0
    train: TrainSettings = field(default_factory=lambda: TrainSettings(max_steps=400000))
    workers: int = 0
    cache: bool = False

    def __post_init__(self) -> None:
        check_ranges(self, micro_batches=(1, math.inf), workers=(0, math.inf), max_crop_seconds=(0.1, math.inf))


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitTraining:
    """What a pre-training stage reads.

    Attributes:
        model: the network.
        clusters: of the units.
        pretrain: how.
        iteration: 1 or 2, for the initial weights.
        seed: of all draws.
    """

    model: WavLMConfig
    clusters: int
    pretrain: PretrainSettings
    iteration: Literal[1, 2]
    seed: int


def pretrain(context: Context, settings: UnitTraining) -> None:
    """Predict the units of masked frames; the last weights go to the output `model`."""
    import torch
    from safetensors.torch import load_file

    from speechkit.models import save
    from speechkit.models.wavlm.heads import UnitHead, WavLMForUnits
    from speechkit.objectives.layer_drop import LayerDrop
    from speechkit.objectives.masked_units import MaskedUnits
    from speechkit.pipelines.device import choose_device
    from speechkit.train.evaluate import evaluate

    torch.manual_seed(draws.torch_seed(settings.seed, 0, "init", f"pretrain_{settings.iteration}"))
    s = settings.pretrain
    model = WavLMForUnits(settings.model, (settings.clusters,), UnitHead(embedding_dim=s.final_dim))
    model.to(choose_device(context.device))
    units, rate = read_units(context.inputs["units"])
    encoder = settings.model.encoder
    objective = MaskedUnits(
        num_frames=model.encoder.num_frames,
        labels_per_frame=rate / settings.model.frame_rate,
        feature_penalty=s.feature_penalty,
        layer_drop=LayerDrop(num_layers=encoder.num_layers, probability=encoder.layer_drop, seed=settings.seed),
    )
    noises = _noises_of(context.inputs)
    utterances = read_lists(context.named("lists").values())
    options: dict[str, Any] = {"device": next(model.parameters()).device}
    options["bad_cuts"] = context.exp / "log" / "bad_cuts.jsonl"
    batches = _crops(utterances, units, rate, noises, settings, model.encoder, s.micro_batches, **options)
    dev = read_utterances(context.inputs["dev"])
    held_out = _crops(dev, units, rate, noises, settings, model.encoder, 1, **options)
    result = train_in_stage(
        context,
        model,
        objective,
        batches,
        s.train,
        seed=settings.seed,
        validate=lambda m: evaluate(m, objective, held_out.once()),
    )
    model.load_state_dict(load_file(result.last[0]))
    save(model, context.outputs["model"])


def pretraining_batches(inputs: Mapping[str, Path], settings: UnitTraining) -> Any:
    """The loader of `pretrain`, from the inputs of its stage, on the CPU."""
    import torch

    from speechkit.models.wavlm.model import WavLM

    with torch.device("meta"):  # lengths are all that is asked of it
        encoder = WavLM(settings.model)
    utterances = read_lists(named(inputs, "lists").values())
    units, rate = read_units(inputs["units"])
    micro_batches = settings.pretrain.micro_batches
    return _crops(utterances, units, rate, _noises_of(inputs), settings, encoder, micro_batches, device="cpu")


def _noises_of(inputs: Mapping[str, Path]) -> list[Utterance]:
    """The recordings of noise, if there are any."""
    return read_utterances(inputs["noise"]) if "noise" in inputs else []


def _crops(
    utterances: Sequence[Utterance],
    units: Mapping[str, Any],
    rate: float,
    noises: Sequence[Utterance],
    settings: UnitTraining,
    encoder: Any,
    micro_batches: int,
    *,
    device: Any,
    bad_cuts: Path | None = None,
) -> Any:
    """Mixed and masked crops with their units."""
    from speechkit.data.labels import Labels
    from speechkit.data.loader import Loader
    from speechkit.data.mixing import UtteranceMixing
    from speechkit.data.plan import plan_utterances
    from speechkit.data.transforms import SpanMask

    s, config = settings.pretrain, settings.model
    transforms = waveform_transforms(AugmentSettings(), config.waveform_eps)
    if s.mixing.prob:
        noisy = tuple(noises) if s.mixing.noise_prob else ()
        mixing = UtteranceMixing(
            prob=s.mixing.prob, noises=noisy, noise_prob=s.mixing.noise_prob, eps=config.waveform_eps
        )
        transforms.append(mixing)
    transforms.append(SpanMask(num_frames=encoder.num_frames, spans=s.mask))
    longest = round(s.max_crop_seconds * config.sample_rate)
    plan = plan_utterances(utterances, config.sample_rate, s.batch, seed=settings.seed, max_crop_samples=longest)
    return Loader(
        utterances,
        plan,
        transforms,
        sample_rate=config.sample_rate,
        device=device,
        micro_batches=micro_batches,
        labels={"units": Labels(values=units, rate=rate)},
        workers=s.workers,
        cache=s.cache,
        bad_cuts=bad_cuts,
    )
