"""WavLM, HuBERT and wav2vec 2.0 as others published them: their files and folders, in and out."""

from __future__ import annotations

from pathlib import Path

import torch

from speechkit.checkpoints.unpickle import read_pickle
from speechkit.errors import ModelError, OutputError
from speechkit.files import whole
from speechkit.models.wavlm import fairseq, hugging_face
from speechkit.models.wavlm.heads import WavLMForCTC, WavLMForUnits
from speechkit.models.wavlm.model import WavLM
from speechkit.models.wavlm.vocabularies import write_dictionary


def read_original(path: str | Path, vocab: str | Path | None = None) -> WavLM | WavLMForCTC | WavLMForUnits:
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


def save_original(model: WavLM | WavLMForCTC | WavLMForUnits, path: str | Path) -> None:
    """Write an encoder as Microsoft's file, a network with a head as fairseq's, whole or not at all.

    A CTC file gets its dictionary as dict.ltr.txt beside it.
    """
    container = fairseq.make_container(model)
    if isinstance(model, WavLMForCTC):
        with whole(Path(path).with_name("dict.ltr.txt")) as temporary:
            write_dictionary(model.vocabulary, temporary)
    with whole(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(container, file)
        except RuntimeError as error:  # torch's writer hides what the system said
            raise OutputError(f"{path}: cannot write: {error}", code="output.write") from error


def save_hf(model: WavLM | WavLMForCTC, folder: str | Path) -> None:
    """Write a folder that transformers reads, whole or not at all.

    Raises:
        ModelError: transformers has no class for this network.
    """
    if isinstance(model, WavLMForUnits):
        raise ModelError("transformers has no class for unit prediction", hint="export model.encoder")
    with whole(folder) as temporary:
        temporary.mkdir()
        hugging_face.write_folder(model, temporary)
