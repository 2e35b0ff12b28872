"""Fine-tuning with CTC, averaging what was kept, and reading test sets with the result."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from speechkit import draws
from speechkit.config import check_ranges
from speechkit.data.plan import PlanSettings
from speechkit.data.span_mask import SpanSettings
from speechkit.data.utterance import Utterance, read_utterances
from speechkit.files import write_text
from speechkit.models.wavlm.config import WavLMConfig
from speechkit.recipe.context import Context
from speechkit.stages.augment import AugmentSettings, waveform_transforms
from speechkit.stages.training import train_in_stage
from speechkit.train.settings import TrainSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class FinetuneSettings:
    """How a CTC model is trained.

    Attributes:
        batch: how utterances are packed.
        micro_batches: of a step.
        augment: changes of the waveforms.
        mask: of frames.
        channel_mask: of channels.
        dropout: of the encoder, in place of that of pre-training; so are the next three.
        attention_dropout: see there.
        activation_dropout: see there.
        layer_drop: see there.
        final_dropout: before the head.
        train: of the loop.
        workers: processes that read audio; 0 reads beside the training.
        cache: keep all audio in memory.
    """

    batch: PlanSettings = field(default_factory=lambda: PlanSettings(batch_seconds=200.0))
    micro_batches: int = 8
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    mask: SpanSettings = field(default_factory=lambda: SpanSettings(prob=0.65))
    channel_mask: SpanSettings = field(default_factory=lambda: SpanSettings(prob=0.5, length=64, min_masks=0))
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.1
    layer_drop: float = 0.1
    final_dropout: float = 0.0
    train: TrainSettings = field(default_factory=lambda: TrainSettings(max_steps=80000))
    workers: int = 0
    cache: bool = False

    def __post_init__(self) -> None:
        check_ranges(self, micro_batches=(1, math.inf), workers=(0, math.inf))
        dropouts = ("dropout", "attention_dropout", "activation_dropout", "layer_drop", "final_dropout")
        check_ranges(self, **dict.fromkeys(dropouts, (0, 0.99)))


@dataclass(frozen=True, kw_only=True, slots=True)
class CTCTraining:
    """What stage 30 reads.

    Attributes:
        model: the encoder, with random weights where there is nothing to start from.
        published: what to start from, where it is a name that `speechkit.load` fetches; else the input `init`, if any.
        finetune: how.
        seed: of all draws.
    """

    model: WavLMConfig
    published: str
    finetune: FinetuneSettings
    seed: int


def finetune(context: Context, settings: CTCTraining) -> None:
    """Train a CTC head and its encoder; what was kept goes to the output `weights`, to be averaged."""
    from speechkit.models import save
    from speechkit.objectives.ctc import CTC
    from speechkit.objectives.layer_drop import LayerDrop
    from speechkit.pipelines.device import choose_device

    model = _model(context.inputs, settings).to(choose_device(context.device))
    encoder = model.encoder.config.encoder
    layer_drop = LayerDrop(num_layers=encoder.num_layers, probability=encoder.layer_drop, seed=settings.seed)
    objective = CTC(num_frames=model.encoder.num_frames, layer_drop=layer_drop if encoder.layer_drop else None)
    result = train_in_stage(
        context,
        model,
        objective,
        _training_batches(
            context.inputs,
            settings,
            model.encoder,
            device=next(model.parameters()).device,
            bad_cuts=context.exp / "log" / "bad_cuts.jsonl",
        ),
        settings.finetune.train,
        seed=settings.seed,
        validate=_Validation(context, model, objective),
    )
    context.log.info("kept %s", ", ".join(p.name for p in result.best))
    save(model, context.outputs["model"])
    context.outputs["weights"].mkdir()
    for path in result.best or result.last[:1]:
        shutil.copy2(path, context.outputs["weights"])


def finetuning_batches(inputs: Mapping[str, Path], settings: CTCTraining) -> Any:
    """The loader of `finetune`, from the inputs of its stage, on the CPU."""
    import torch

    from speechkit.models.wavlm.model import WavLM

    start = _start(inputs, settings)
    with torch.device("meta"):  # lengths are all that is asked of it
        encoder = WavLM(start.config if start else settings.model)
    return _training_batches(inputs, settings, encoder, device="cpu")


def _model(inputs: Mapping[str, Path], settings: CTCTraining) -> Any:
    import torch

    from speechkit.models.wavlm.heads import WavLMForCTC
    from speechkit.tokenizers.text import TextTokenizer

    torch.manual_seed(draws.torch_seed(settings.seed, 0, "init", "finetune"))
    vocabulary = TextTokenizer.load(inputs["tokens"]).vocabulary
    start = _start(inputs, settings)
    config = regularized(start.config if start else settings.model, settings.finetune)
    model = WavLMForCTC(config, vocabulary, final_dropout=settings.finetune.final_dropout)
    if start is not None:
        model.encoder.load_state_dict(start.state_dict())
    return model


def _start(inputs: Mapping[str, Path], settings: CTCTraining) -> Any:
    """The encoder to start from; None: random weights."""
    from speechkit.models import load

    name = settings.published or inputs.get("init")
    model = load(name) if name else None
    return getattr(model, "encoder", model)


def regularized(config: WavLMConfig, settings: FinetuneSettings) -> WavLMConfig:
    """The network with the dropouts of fine-tuning."""
    encoder = replace(
        config.encoder,
        dropout=settings.dropout,
        attention_dropout=settings.attention_dropout,
        activation_dropout=settings.activation_dropout,
        layer_drop=settings.layer_drop,
    )
    return replace(config, encoder=encoder, input_dropout=settings.dropout)


def _training_batches(
    inputs: Mapping[str, Path], settings: CTCTraining, encoder: Any, *, device: Any, bad_cuts: Path | None = None
) -> Any:
    from speechkit.data.transforms import ChannelMask, SpanMask

    s, config = settings.finetune, encoder.config
    noises, rooms = (read_utterances(inputs[name]) if name in inputs else () for name in ("noise", "rooms"))
    transforms = waveform_transforms(s.augment, config.waveform_eps, noises=noises, rooms=rooms)
    if s.mask.prob:
        transforms.append(SpanMask(num_frames=encoder.num_frames, spans=s.mask))
    if s.channel_mask.prob:
        transforms.append(ChannelMask(width=config.encoder.dim, spans=s.channel_mask))
    return _loader(
        read_utterances(inputs["train"]),
        inputs["tokens"],
        config.sample_rate,
        s.batch,
        transforms,
        settings.seed,
        device=device,
        micro_batches=s.micro_batches,
        workers=s.workers,
        cache=s.cache,
        bad_cuts=bad_cuts,
    )


def _loader(
    utterances: Sequence[Utterance],
    tokens: Path,
    sample_rate: int,
    batch: PlanSettings,
    transforms: Sequence[Any],
    seed: int,
    **options: Any,
) -> Any:
    from speechkit.data.labels import Labels
    from speechkit.data.loader import Loader
    from speechkit.data.plan import plan_utterances
    from speechkit.tokenizers.text import TextTokenizer

    tokenizer = TextTokenizer.load(tokens)
    labels = {"tokens": Labels(values={u.id: tokenizer.encode(u.text or "") for u in utterances})}
    plan = plan_utterances(utterances, sample_rate, batch, seed=seed)
    return Loader(utterances, plan, transforms, sample_rate=sample_rate, labels=labels, **options)


class _Validation:
    """Loss and error rate of the held-out set."""

    def __init__(self, context: Context, model: Any, objective: Any) -> None:
        self.utterances = read_utterances(context.inputs["dev"])
        config = model.encoder.config
        self.loader = _loader(
            self.utterances,
            context.inputs["tokens"],
            config.sample_rate,
            PlanSettings(batch_seconds=120.0),
            waveform_transforms(AugmentSettings(), config.waveform_eps),
            0,
            device=next(model.parameters()).device,
            cache=True,
        )
        self.objective = objective

    def __call__(self, model: Any) -> Mapping[str, float | str]:
        from speechkit.decode.ctc import greedy
        from speechkit.metrics.wer import score
        from speechkit.train.evaluate import evaluate

        values: dict[str, float | str] = dict(evaluate(model, self.objective, self.loader.once()))
        hypotheses = {}
        for batch in self.loader.once():
            output = model(batch.waves, batch.lengths)
            for id, ids in zip(
                batch.ids, greedy(output.logits, output.lengths, blank=model.vocabulary.blank), strict=True
            ):
                hypotheses[id] = model.vocabulary.text(ids)
        references = {u.id: u.text or "" for u in self.utterances}
        return values | {"wer": 100 * score(references, hypotheses).counts.rate}


def average_weights(context: Context, _: None) -> None:
    """Average what fine-tuning kept into the model of the experiment."""
    from speechkit.models import load, save
    from speechkit.train.average import average

    kept = sorted(context.inputs["weights"].glob("step-*.safetensors"))
    model = load(context.inputs["model"])
    model.load_state_dict(average(kept))
    context.log.info("the mean of %d: %s", len(kept), ", ".join(p.stem for p in kept))
    saved = context.scratch / "model"
    save(model, saved)
    for name, output in context.outputs.items():
        shutil.move(saved / name, output)


@dataclass(frozen=True, kw_only=True, slots=True)
class LanguageModelSettings:
    """An n-gram language model of the training transcripts, and how much it says.

    Attributes:
        order: the most words of an n-gram; 0: no language model.
        lm_weight: of its base-10 logarithms.
        word_score: added for every word.
    """

    order: int = 0
    lm_weight: float = 2.0
    word_score: float = -1.0

    def __post_init__(self) -> None:
        check_ranges(self, order=(0, 6), lm_weight=(0, math.inf))  # KenLM's wheels know six words
        if self.order == 1:
            raise ValueError("order is 1, KenLM reads models of at least 2 words")


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeSettings:
    """How test sets are read.

    Attributes:
        batch_seconds: padded seconds of a batch.
        beam_size: of the prefix beam search; None: the best path, or 500 with a language model.
        lm: a language model.
    """

    batch_seconds: float = 120.0
    beam_size: int | None = None
    lm: LanguageModelSettings = field(default_factory=LanguageModelSettings)

    def __post_init__(self) -> None:
        check_ranges(self, batch_seconds=(0.1, math.inf), beam_size=(1, math.inf))


def decode(context: Context, settings: DecodeSettings) -> None:
    """Read the input of every output with the experiment's model: references and hypotheses as Kaldi `text` files."""
    from speechkit.decode.ngram import BEAM_SIZE, NgramSearch, NgramSettings
    from speechkit.pipelines.recognizer import load_recognizer
    from speechkit.pipelines.sources import Failure, Source
    from speechkit.pipelines.transcribe import Transcriber

    recognizer = load_recognizer(
        context.inputs["model"].parent, device=context.device, batch_seconds=settings.batch_seconds
    )
    search, lm = None, settings.lm
    if lm.order:
        weights = NgramSettings(
            beam_size=settings.beam_size or BEAM_SIZE, lm_weight=lm.lm_weight, word_score=lm.word_score
        )
        search = NgramSearch(recognizer.vocabulary, context.inputs["lm"], context.inputs["lexicon"], weights)
    transcriber = Transcriber(recognizer, beam_size=settings.beam_size, search=search)
    for name, output in context.outputs.items():
        utterances = [u for u in read_utterances(context.inputs[name]) if u.text is not None]
        output.mkdir()
        lines: list[dict[str, Any]] = []
        with context.progress(len(utterances), "utterance") as progress:
            sources = (Source.of_utterance(u) for u in utterances)
            for utterance, result in zip(utterances, transcriber.transcribe(sources), strict=True):
                if isinstance(result, Failure):
                    raise result.error
                lines.append({"id": utterance.id, "ref": utterance.text, "hyp": " ".join(result.text.split())})
                lines[-1] |= {"speaker": utterance.speaker, "seconds": round(utterance.duration_s, 3)}
                lines[-1]["words"] = [[w.text.strip(), round(w.start, 3), round(w.end, 3)] for w in result.words]
                progress.advance()
        lines.sort(key=lambda line: str(line["id"]))
        write_text(output / "ref", "".join(f"{line['id']} {line['ref']}\n" for line in lines))
        write_text(output / "text", "".join(f"{line['id']} {line['hyp']}\n" for line in lines))
        write_text(output / "utterances.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
