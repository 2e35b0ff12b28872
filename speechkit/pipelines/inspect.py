"""What a checkpoint is: its network, its size, and what its pickle names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from speechkit.checkpoints.unpickle import Record, read_pickle
from speechkit.models import licence, load

_PICKLES = (".pt", ".pth", ".bin", ".ckpt")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelInfo:
    """A checkpoint, described.

    Attributes:
        name: as given.
        kind: of network: wavlm, hubert, wav2vec2.
        head: what is on top of the encoder: none, ctc, units.
        form: of the file or folder.
        parameters: how many.
        layers: of the Transformer.
        width: of its states.
        vocabulary: symbols of a CTC head, else 0.
        needs_bytes: of memory in float32.
        licence: as the publisher states it, empty where it is not known here.
        pickle_globals: what a pickle names beyond tensors and containers; nothing of it is run.
        config: the network's settings.
        keys: names of the tensors with their shapes.
    """

    name: str
    kind: str
    head: str
    form: str
    parameters: int
    layers: int
    width: int
    vocabulary: int
    needs_bytes: int
    licence: str
    pickle_globals: tuple[str, ...]
    config: dict[str, Any]
    keys: dict[str, list[int]]


def inspect_model(name: str, *, offline: bool = False, vocab: str | None = None) -> ModelInfo:
    """Describe a checkpoint: a folder, a file or a hub id.

    Raises:
        ModelError: it is not there, cannot be loaded right, or its pickle names a function that has no business in it.
    """
    model: Any = load(name, offline=offline, vocab=vocab)
    config: Any = getattr(model, "encoder", model).config
    parameters = sum(p.numel() for p in model.parameters())
    path = Path(name)
    return ModelInfo(
        name=name,
        kind=config.kind,
        head={"WavLMForCTC": "ctc", "WavLMForUnits": "units"}.get(type(model).__name__, "none"),
        form=_form(path),
        parameters=parameters,
        layers=config.encoder.num_layers,
        width=config.encoder.dim,
        vocabulary=len(getattr(model, "vocabulary", ())),
        needs_bytes=4 * parameters,
        licence=licence(name),
        pickle_globals=tuple(sorted(_pickle_globals(path))),
        config=asdict(config),
        keys={key: list(tensor.shape) for key, tensor in model.state_dict().items()},
    )


def _form(path: Path) -> str:
    if path.is_dir():
        return "speechkit folder" if (path / "card.md").exists() else "transformers folder"
    return "original container" if path.is_file() else "hub"


def _pickle_globals(path: Path) -> set[str]:
    files = [p for p in path.iterdir() if p.suffix in _PICKLES] if path.is_dir() else [path] if path.is_file() else []
    return {name for file in files for name in _named(read_pickle(file))}


def _named(value: Any) -> Iterator[str]:
    """The globals of all records in what a pickle holds."""
    waiting, seen = [value], set()
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Record) or (isinstance(item, type) and issubclass(item, Record)):
            yield item.global_name
        if isinstance(item, Record):
            waiting += [item.arguments, item.keywords, item.state, item.items, item.elements]
        elif isinstance(item, Mapping):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set | frozenset):
            waiting += item
