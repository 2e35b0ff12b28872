"""WavLM, HuBERT and wav2vec 2.0 as others published them: their files and folders, in and out."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from speechkit.checkpoints.unpickle import read_pickle
from speechkit.errors import OutputError
from speechkit.files import whole
from speechkit.models.wavlm import fairseq, hugging_face
from speechkit.models.wavlm.heads import WavLMForCTC, WavLMForUnits
from speechkit.models.wavlm.model import WavLM

log = logging.getLogger(__name__)

Network = WavLM | WavLMForCTC | WavLMForUnits


def read_original(path: str | Path, vocab: str | Path | None = None) -> Network:
    """Read a file of Microsoft or fairseq: an encoder, a model in pre-training, or one with a CTC head.

    Args:
        path: the `.pt` file.
        vocab: dict.ltr.txt for a CTC file without a dictionary; else one beside the file is taken.

    Raises:
        ModelError: it is no such file, or what it holds cannot be loaded right.
    """
    return fairseq.read_container(read_pickle(path), Path(path), Path(vocab) if vocab else None)


def read_hf(folder: str | Path, vocab: str | Path | None = None) -> WavLM | WavLMForCTC:
    """Read a folder of transformers.

    Args:
        folder: config.json, weights, and what belongs to a tokenizer.
        vocab: symbols instead of the folder's own.

    Raises:
        ModelError: it is no such folder, or what it holds cannot be loaded right.
    """
    return hugging_face.read_folder(Path(folder), Path(vocab) if vocab else None)


def save_original(model: Network, path: str | Path) -> None:
    """Write an encoder as Microsoft's file, a network with a head as fairseq's, whole or not at all.

    fairseq's dictionaries (dict.ltr.txt, or dict.km.txt of units) come to lie beside it: fairseq's loader finds them
    with `arg_overrides={"data": FOLDER}`. What the file does not keep is named in a warning.

    Raises:
        ModelError: these files have no place for the network or its vocabulary.
        OutputError: it cannot be written, or another model's dictionary lies there.
    """
    path = Path(path)
    container = fairseq.make_container(model)
    beside = {path.with_name(name): text for name, text in fairseq.dictionaries(model).items()}
    for file, text in beside.items():
        if file.exists() and file.read_text(encoding="utf-8", errors="replace") != text:
            hint = "write to a folder of its own: a model that lies there needs that dictionary"
            raise OutputError(f"{file}: exists already with other symbols", hint=hint, code="output.exists")
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(whole(path))
        dictionary = None
        for file, text in beside.items():
            dictionary = stack.enter_context(whole(file))
            dictionary.write_text(text, encoding="utf-8", newline="\n")
        with temporary.open("wb") as out:
            try:
                torch.save(container, out)
            except RuntimeError as error:  # torch's writer hides what the system said
                raise OutputError(f"{path}: cannot write: {error}", code="output.write") from error
        _tell_lost(model, read_original(temporary, dictionary), path)


def save_hf(model: Network, folder: str | Path) -> None:
    """Write a folder that transformers reads, whole or not at all.

    transformers has no class for the prediction of units: of such a network the encoder is written, with a warning.
    What else the folder does not keep is named in another.

    Raises:
        ModelError: transformers has no class for this network, or its tokenizer cannot spell the vocabulary.
        OutputError: it cannot be written.
    """
    if isinstance(model, WavLMForUnits):
        log.warning("%s: transformers has no class for unit prediction: the encoder alone is written", folder)
        model = model.encoder
    with whole(folder) as temporary:
        temporary.mkdir()
        hugging_face.write_folder(model, temporary)
        _tell_lost(model, read_hf(temporary), folder)


def _tell_lost(model: Network, again: Network, path: str | Path) -> None:
    """Say in one line which settings and weights of a model its written form does not give back."""
    settings, found = _settings(model), _settings(again)
    lost = [f"{name} {value} (becomes {found[name]})" for name, value in settings.items() if found[name] != value]
    weights = again.state_dict()
    lost += [name for name, tensor in model.state_dict().items() if not torch.equal(tensor.cpu(), weights[name])]
    if lost:
        log.warning("%s does not keep %s", path, ", ".join(lost))


def _settings(model: Network) -> dict[str, Any]:
    return dict(_flat(asdict(model.config if isinstance(model, WavLM) else model.encoder.config)))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
