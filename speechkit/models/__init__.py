"""Networks, one folder a system, and how they are found: `load` and `save`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from speechkit.errors import ModelError, nearest

if TYPE_CHECKING:  # settings of models are read by recipes, which are planned without torch
    from torch import nn

    from speechkit.checkpoints.hub import HubId

__all__ = ["FORMS", "PUBLISHED", "Form", "Published", "hub_id", "is_published", "licence", "load", "save"]

Form = Literal["speechkit", "hf", "original"]
FORMS: tuple[Form, ...] = get_args(Form)

_READERS = {  # `kind` in the config.json of our folders
    "wavlm": "speechkit.models.wavlm.folder:read_encoder",
    "wavlm-units": "speechkit.models.wavlm.folder:read_units",
    "wavlm-ctc": "speechkit.models.wavlm.folder:read_ctc",
}
_WAVLM: dict[Form, str] = {
    "speechkit": "speechkit.models.wavlm.folder:save",
    "hf": "speechkit.models.wavlm.published:save_hf",
    "original": "speechkit.models.wavlm.published:save_original",
}
_SAVERS = {"WavLM": _WAVLM, "WavLMForUnits": _WAVLM, "WavLMForCTC": _WAVLM}  # by the class of the network
_FOLDER_READERS = dict.fromkeys(  # `model_type` in the config.json of transformers
    ("wavlm", "hubert", "wav2vec2", "unispeech", "unispeech-sat"), "speechkit.models.wavlm.published:read_hf"
)
_FILE_READER = "speechkit.models.wavlm.published:read_original"
_FILE_ENDINGS = (".pt", ".pth", ".th", ".bin", ".ckpt")


@dataclass(frozen=True, slots=True)
class Published:
    """Weights that others publish.

    Attributes:
        kind: of network.
        repo: of the hub.
        revision: branch, tag or commit.
        licence: as the publisher states it.
        languages: of the recordings that the network was trained on.
        sample_rate: Hz.
        size_bytes: of the download, about; None where it is not known before the hub is asked.
    """

    kind: str
    repo: str
    revision: str
    licence: str
    languages: tuple[str, ...] = ("en",)
    sample_rate: int = 16000
    size_bytes: int | None = None


_MICROSOFT = "MIT (github.com/microsoft/unilm) or CC BY-SA 3.0 (model card): the publisher states both"
PUBLISHED = {
    "wavlm-base": Published("wavlm", "microsoft/wavlm-base", "main", _MICROSOFT),
    "wavlm-base-plus": Published("wavlm", "microsoft/wavlm-base-plus", "main", _MICROSOFT),
    "wavlm-large": Published("wavlm", "microsoft/wavlm-large", "main", _MICROSOFT, size_bytes=1_200_000_000),
    "hubert-base": Published("hubert", "facebook/hubert-base-ls960", "main", "Apache-2.0"),
    "hubert-large": Published("hubert", "facebook/hubert-large-ll60k", "main", "Apache-2.0"),
    "wav2vec2-base": Published("wav2vec2", "facebook/wav2vec2-base", "main", "Apache-2.0"),
    "wav2vec2-large": Published("wav2vec2", "facebook/wav2vec2-large", "main", "Apache-2.0"),
    "wav2vec2-large-lv60": Published("wav2vec2", "facebook/wav2vec2-large-lv60", "main", "Apache-2.0"),
}


def is_published(name: str) -> bool:
    """Whether settings name a model of the hub, `hf:…` or a name without a slash, rather than a path."""
    return name.startswith("hf:") or "/" not in name


def load(name: str | Path, *, device: str = "cpu", offline: bool = False, vocab: str | Path | None = None) -> nn.Module:
    """Load a network with its published or trained weights, ready for inference.

    Args:
        name: the first that fits: a folder of ours or of transformers, a file of Microsoft or fairseq, a name of
            `PUBLISHED`, a hub id `hf:owner/name`, `hf:owner/name@revision` or `owner/name`.
        device: where to.
        offline: use no network; what is not in the cache is an error.
        vocab: the symbols of a CTC model that was published without.

    Raises:
        ModelError: there is no such model, or it cannot be loaded right.
        OutputError: it is to be downloaded and there is no room.
    """
    from speechkit.checkpoints.hub import fetch

    path = Path(name).expanduser()
    if path.is_dir():
        model = _read_folder(path, vocab)
    elif path.exists():
        model = _read_file(path, vocab)
    else:
        model = _read_folder(fetch(hub_id(str(name)), offline=offline), vocab)
    return model.to(device)


def save(model: nn.Module, path: str | Path, form: Form = "speechkit") -> None:
    """Write a network in a form that `load` reads, whole or not at all.

    Args:
        model: as `load` gives it.
        path: of a folder, and for `original` of a file.
        form: `speechkit`: our folder. `hf`: a folder of transformers. `original`: the file that its first publisher's
            code reads. What a form has no place for is named in a warning.

    Raises:
        ValueError: this kind of network cannot be saved.
        ModelError: the form cannot hold this network so that it gives the same.
        OutputError: it cannot be written.
    """
    kind = type(model).__name__
    if kind not in _SAVERS:
        raise ValueError(f"a {kind} cannot be saved; {', '.join(_SAVERS)} can")
    _function(_SAVERS[kind][form])(model, path)


def _read_folder(folder: Path, vocab: str | Path | None) -> nn.Module:
    from speechkit.checkpoints.weights import read_json

    if not (folder / "config.json").exists():
        hint = "give the folder that config.json lies in, beside the weights"
        raise ModelError(f"{folder}: a folder without config.json, so no model", hint=hint, code="model.missing")
    settings = read_json(folder / "config.json")
    kind, model_type = settings.get("kind"), settings.get("model_type")
    if isinstance(kind, str) and kind in _READERS:
        if vocab is not None:
            hint = "leave --vocab out: it is for models published without symbols"
            raise ModelError(f"{folder}: a model with symbols of its own", hint=hint, code="model.vocab")
        return _function(_READERS[kind])(folder)
    if isinstance(model_type, str) and model_type in _FOLDER_READERS:
        return _function(_FOLDER_READERS[model_type])(folder, vocab)
    what = f"kind {kind!r}" if kind else f"model_type {model_type!r}"
    raise ModelError(
        f"{folder}: config.json has {what}, which is none of "
        f"{', '.join(_READERS) if kind else ', '.join(_FOLDER_READERS)}",
        code="model.kind",
    )


def _read_file(path: Path, vocab: str | Path | None) -> nn.Module:
    if path.suffix not in _FILE_ENDINGS:
        raise ModelError(
            f"{path}: a model is a folder or a file {', '.join(_FILE_ENDINGS)}",
            hint="give the folder of a .safetensors file, which has its settings",
            code="model.kind",
        )
    return _function(_FILE_READER)(path, vocab)


def hub_id(name: str) -> HubId:
    """The repository and the revision that a name of `PUBLISHED` or a hub id stands for.

    Raises:
        ModelError: it is neither; the nearest known name is the hint.
    """
    from speechkit.checkpoints.hub import HubId

    if name in PUBLISHED:
        return HubId(repo=PUBLISHED[name].repo, revision=PUBLISHED[name].revision)
    if name.startswith("hf:"):
        return HubId.parse(name.removeprefix("hf:"))
    if name.count("/") == 1 and not name.startswith((".", "/", "~")) and not name.endswith(_FILE_ENDINGS):
        return HubId.parse(name)
    hint = nearest(name, PUBLISHED) or f"known names: {', '.join(PUBLISHED)}; or a path, or hf:owner/name"
    raise ModelError(f"no model {name!r}", hint=hint, code="model.missing")


def licence(name: str) -> str:
    """The licence of a published model, empty where it is not known here.

    Args:
        name: of `PUBLISHED`, the hub id behind one, or its folder in the hub's cache.
    """
    repo = name.removeprefix("hf:").partition("@")[0]
    cached = {f"models--{p.repo.replace('/', '--')}": p.licence for p in PUBLISHED.values()}
    found = (cached[part] for part in Path(name).parts if part in cached)
    return next((p.licence for n, p in PUBLISHED.items() if name == n or repo == p.repo), next(found, ""))


def _function(reference: str) -> Callable[..., Any]:
    module, _, name = reference.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function
