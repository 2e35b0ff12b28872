"""WavLM with random weights: ours, and the same weights in transformers. B utterances, T samples, F frames, D width."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.speech import voice
from speechkit import draws
from speechkit.compat import load_torchaudio
from speechkit.models import load, save
from speechkit.models.wavlm.config import PRESETS, SpanConfig, WavLMConfig
from speechkit.models.wavlm.model import WavLM
from speechkit.nn.encoder_config import EncoderConfig
from speechkit.train.encoders import compile_encoders
from speechkit.train.precision import autocast

OURS, THEIRS = "speechkit", "hf"  # folders of a network's two forms


def encoder_config(preset: str, *, quick: bool, **settings: Any) -> WavLMConfig:
    """A preset's network without anything random, so that it can be compared; quick: one layer of little width."""
    config = replace(PRESETS[preset], time_mask=SpanConfig(), input_dropout=0.0, feature_grad_mult=1.0, **settings)
    encoder = replace(config.encoder, dropout=0.0, attention_dropout=0.0, layer_drop=0.0)
    if not quick:
        return replace(config, encoder=encoder)
    convs = tuple((32, kernel, stride) for _, kernel, stride in config.conv_layers)
    return replace(config, encoder=replace(encoder, dim=64, ffn_dim=128, num_heads=4, num_layers=1), conv_layers=convs)


def write_encoder(folder: Path, config: WavLMConfig) -> None:
    """Write a network of random weights in both forms."""
    seed_weights()
    model = WavLM(config)
    save(model, folder / OURS)
    save(model, folder / THEIRS, "hf")


def seed_weights() -> None:
    """Let the next network have the same weights every time."""
    torch.manual_seed(draws.torch_seed(0, draws.EVALUATION, "init", "bench"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """How a network of both forms is run.

    Attributes:
        folder: of the forms, see `write_encoder`.
        seconds: of the utterances.
        dtype: of products, by autocast.
        device: where.
        compiled: whether its layers are.
        alone: theirs only: the utterances one by one, else in one padded batch.
        weights: theirs only: `dtype` is that of the weights, without autocast.
    """

    folder: Path
    seconds: Sequence[float]
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    compiled: bool = False
    alone: bool = False
    weights: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """A network and its inputs.

    Attributes:
        model: ready for inference.
        states: gives the last states `(F, D)` of the utterances, batch by batch.
        watched: weights whose gradients are compared, the same ones of both forms.
    """

    model: Any
    states: Callable[[], Iterator[list[Tensor]]]
    watched: Sequence[Tensor]


def ours(setup: Setup) -> Network:
    """As we load it, on one padded batch."""
    model: Any = load(setup.folder / OURS, device=setup.device)
    if setup.compiled:
        compile_encoders(model)
    ((waves, lengths),) = batches(setup.seconds, device=setup.device)
    frames = model.num_frames(lengths)

    def states() -> Iterator[list[Tensor]]:
        given = lengths.to(waves.device) if model.training else lengths  # as the loader gives them, and as inference
        with autocast(setup.dtype, waves.device):
            output = model(waves, given).output
        yield valid_rows(output, frames)

    return Network(
        model=model,
        states=states,
        watched=[model.front_end.convs[1].weight, model.transformer.layers[0].fc1.weight],
    )


def theirs(setup: Setup) -> Network:
    """As transformers loads it."""
    model = their_model(setup.folder, setup.device, setup.dtype if setup.weights else torch.float32)
    for layer in model.encoder.layers if setup.compiled else ():
        layer.compile(dynamic=True)
    type_of_products = torch.float32 if setup.weights else setup.dtype
    given = [
        (waves.to(setup.dtype) if setup.weights else waves, attention_mask(waves, lengths), lengths)
        for waves, lengths in batches(setup.seconds, alone=setup.alone, device=setup.device)
    ]

    def states() -> Iterator[list[Tensor]]:
        for waves, mask, lengths in given:
            with autocast(type_of_products, waves.device):
                output = model(waves, attention_mask=mask).last_hidden_state
            yield valid_rows(output, model._get_feat_extract_output_lengths(lengths))

    return Network(
        model=model,
        states=states,
        watched=[
            model.feature_extractor.conv_layers[1].conv.weight,
            model.encoder.layers[0].feed_forward.intermediate_dense.weight,
        ],
    )


def their_model(folder: Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """The network as transformers loads it, ready for inference, its weights in a type."""
    return transformers().AutoModel.from_pretrained(folder / THEIRS, dtype=dtype).to(device).eval()


def transformers() -> Any:
    """The library, which says nothing but errors."""
    load_torchaudio()  # which it imports, with or without its compiled part
    library: Any = importlib.import_module("transformers")
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    return library


def batches(seconds: Sequence[float], *, alone: bool = False, device: str = "cpu") -> list[tuple[Tensor, Tensor]]:
    """Voices of these lengths as one padded batch, or each alone: waves `(B, T)`, and lengths `(B,)` on the CPU."""
    rows = [torch.from_numpy(voice(f"row {number}", length)) for number, length in enumerate(seconds)]
    groups = [[row] for row in rows] if alone else [rows]
    return [
        (
            nn.utils.rnn.pad_sequence(group, batch_first=True).to(device),
            torch.tensor([len(row) for row in group]),
        )
        for group in groups
    ]


def attention_mask(waves: Tensor, lengths: Tensor) -> Tensor | None:
    """What transformers wants to know of padding: int64 `(B, T)`, nothing where there is none."""
    if bool((lengths == waves.shape[1]).all()):
        return None
    return (torch.arange(waves.shape[1]) < lengths[:, None]).long().to(waves.device)


def valid_rows(states: Tensor, frames: Tensor) -> list[Tensor]:
    """The frames of each row that are no padding."""
    return [row[:count] for row, count in zip(states, frames.tolist(), strict=True)]


def lengths_of(seconds: Sequence[float], *, quick: bool) -> list[float]:
    """Of utterances; quick: a tenth."""
    return [0.1 * length if quick else length for length in seconds]


def describe(seconds: Sequence[float]) -> str:
    """The lengths of a batch in words."""
    if len(set(seconds)) == 1:
        return f"{len(seconds)} × {seconds[0]:g} s"
    return " + ".join(f"{length:g}" for length in seconds) + " s"


def demo_encoder(**settings: Any) -> WavLMConfig:
    """The size of the demo's network: that of recipes/wavlm/conf/tiny.yaml."""
    channels, kernels = 64, (10, 3, 3, 3, 3, 2, 2)
    return WavLMConfig(
        conv_layers=tuple((channels, kernel, 5 if n == 0 else 2) for n, kernel in enumerate(kernels)),
        feature_grad_mult=1.0,
        encoder=EncoderConfig(
            dim=128, num_layers=3, ffn_dim=384, num_heads=4, norm="pre", position_kernel=32, position_groups=8,
            num_buckets=64, max_distance=160, attention_dropout=0.0, layer_drop=0.0, init_std=0.05,
        ),
        **settings,
    )  # fmt: skip
