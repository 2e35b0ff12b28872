"""Models that are damaged, strange or dangerous, given to the commands that load one."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from speechkit.audio import files
from speechkit.models import save
from speechkit.models.wavlm.fairseq import make_container
from speechkit.models.wavlm.heads import WavLMForCTC
from speechkit.models.wavlm.published import save_hf
from tests.audio.test_bad_audio import RATE, speechlike
from tests.bad_input.conftest import Typed
from tests.pipelines.tiny import tiny_wavlm

FORMS = ("ours", "transformers")
Damage = Callable[[Path], None]


@pytest.fixture(scope="session")
def network() -> WavLMForCTC:
    return tiny_wavlm(conv_norm="layer", eps=1e-5)


@pytest.fixture(scope="session")
def folders(network: WavLMForCTC, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One model in both forms of a folder."""
    folder = tmp_path_factory.mktemp("forms")
    save(network, folder / "ours")
    save_hf(network, folder / "transformers")
    return {form: folder / form for form in FORMS}


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Damage:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return damage


def settings(*keys: str, value: Any = None) -> Damage:
    """Set a value of config.json, or remove it; the first key that is there counts where forms differ."""

    def damage(folder: Path) -> None:
        tree = json.loads((folder / "config.json").read_text())
        inner = tree
        for key in keys[:-1]:
            inner = inner[key]
        inner.pop(keys[-1], None)
        if value is not None:
            inner[keys[-1]] = value
        (folder / "config.json").write_text(json.dumps(tree))

    return damage


def bytes_of(name: str, content: bytes | Callable[[bytes], bytes]) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / name
        path.write_bytes(content(path.read_bytes()) if callable(content) else content)

    return damage


def without(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def first(tensors: dict[str, torch.Tensor]) -> str:
    return next(name for name in tensors if "final_layer_norm" in name or "norm" in name)


BOTH: list[tuple[str, Damage, str]] = [
    ("missing key", weights(lambda t: t.pop(first(t))), "missing weights: "),
    ("extra key", weights(lambda t: t.update({"more.weight": torch.zeros(1)})), "unknown weights: more.weight"),
    ("wrong shape", weights(lambda t: t.update({first(t): torch.zeros(3)})), "has shape [3], expected ["),
    ("no weights", without("model.safetensors"), "model.safetensors"),
    ("cut weights", bytes_of("model.safetensors", lambda b: b[: len(b) // 2]), "not a readable safetensors file"),
    ("cut header", bytes_of("model.safetensors", lambda b: b[:100]), "not a readable safetensors file"),
    ("huge header", bytes_of("model.safetensors", b"\xff" * 8 + bytes(90)), "not a readable safetensors file"),
    ("empty weights", bytes_of("model.safetensors", b""), "not a readable safetensors file"),
    ("text as weights", bytes_of("model.safetensors", b"hello" * 100), "not a readable safetensors file"),
    ("no config", without("config.json"), "config.json"),
    ("cut config", bytes_of("config.json", lambda b: b[:50]), "config.json: not JSON"),
    ("empty config", bytes_of("config.json", b""), "config.json: not JSON"),
    ("binary config", bytes_of("config.json", b"\xff\xfe\x00"), "config.json: not JSON"),
    ("deep config", bytes_of("config.json", b"[" * 100_000), "config.json: not JSON"),
    ("list as config", bytes_of("config.json", b"[1]"), "a JSON object is expected"),
    ("number as config", bytes_of("config.json", b"1"), "a JSON object is expected"),
]
OURS: list[tuple[str, Damage, str]] = [
    ("unknown kind", settings("kind", value="whisper"), "config.json has kind 'whisper'"),
    ("no kind", settings("kind"), "config.json has "),
    ("list as kind", settings("kind", value=[1]), "config.json has "),
    ("another kind", settings("kind", value="wavlm"), ""),
    ("unknown setting", settings("encoder", "dimm", value=3), "unknown setting 'encoder.dimm'"),
    ("missing vocabulary", settings("vocabulary"), "vocabulary"),
    ("wrong type", settings("encoder", "encoder", "dim", value="wide"), "encoder.encoder.dim: expected int"),
    ("other width", settings("encoder", "encoder", "dim", value=64), "has shape"),
    ("other number of layers", settings("encoder", "encoder", "num_layers", value=3), "missing weights"),
    ("heads that do not divide", settings("encoder", "encoder", "num_heads", value=5), ""),
    ("no heads", settings("encoder", "encoder", "num_heads", value=0), ""),
    ("negative width", settings("encoder", "encoder", "dim", value=-32), ""),
    ("no convolutions", settings("encoder", "conv_layers", value=[]), ""),
    ("a stride of 0", settings("encoder", "conv_layers", value=[[16, 10, 0]]), ""),
    ("blank beyond the symbols", settings("vocabulary", "blank", value=99), ""),
    ("fewer symbols", settings("vocabulary", "symbols", value=["-", "a"]), ""),
    ("a rate of 0", settings("encoder", "sample_rate", value=0), ""),
    ("wavlm without buckets", settings("encoder", "encoder", "num_buckets", value=0), ""),
    ("groups that do not divide", settings("encoder", "encoder", "position_groups", value=5), ""),
]
TRANSFORMERS: list[tuple[str, Damage, str]] = [
    ("unknown type", settings("model_type", value="whisper"), "config.json has model_type 'whisper'"),
    ("no type", settings("model_type"), "config.json has "),
    ("list as type", settings("model_type", value=[1]), "config.json has "),
    ("other width", settings("hidden_size", value=64), "has shape"),
    ("text as width", settings("hidden_size", value="wide"), ""),
    ("heads that do not divide", settings("num_attention_heads", value=5), ""),
    ("negative width", settings("hidden_size", value=-32), ""),
    ("adapter", settings("add_adapter", value=True), "adapter"),
    ("fewer convolutions", settings("conv_dim", value=[16, 16]), ""),
    ("no vocabulary", without("vocab.json"), "vocab"),
    ("cut vocabulary", bytes_of("vocab.json", lambda b: b[:10]), "vocab.json: not JSON"),
    ("list as vocabulary", bytes_of("vocab.json", b"[1]"), "vocab.json"),
    ("texts as numbers", bytes_of("vocab.json", b'{"a": "b"}'), ""),
    ("cut preprocessor", bytes_of("preprocessor_config.json", b'{"do_norm'), "preprocessor_config.json: not JSON"),
    ("cut tokenizer", bytes_of("tokenizer_config.json", b"{"), "tokenizer_config.json: not JSON"),
]
TABLE = [(form, *row) for form in FORMS for row in BOTH]
TABLE += [("ours", *row) for row in OURS] + [("transformers", *row) for row in TRANSFORMERS]


@pytest.mark.parametrize(("form", "name", "damage", "says"), TABLE, ids=[f"{row[0]}: {row[1]}" for row in TABLE])
def test_a_damaged_folder_is_refused(
    form: str, name: str, damage: Damage, says: str, typed: Typed, folders: dict[str, Path]
) -> None:
    shutil.copytree(folders[form], "m")
    damage(Path("m"))
    files.save("a.wav", speechlike(), RATE)
    said = typed.refused("transcribe", "a.wav", "-m", "m", "-o", "a.txt", code=4)
    assert says in said.splitlines()[0]
    if name not in ("another kind", "no vocabulary", "no config"):  # an encoder is a model, too; a folder may be none
        assert typed.refused("info", "m", code=4).splitlines()[0] == said.splitlines()[0]


# Containers of others -----------------------------------------------------------------------------------------------


class Runs:
    """A pickle that would make a file."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.made = call, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.made


def attacks() -> dict[str, Callable[[], Any]]:
    import builtins
    import os
    import subprocess

    return {
        "os.system": lambda: Runs(os.system, "touch ran"),
        "eval": lambda: Runs(builtins.eval, "open('ran', 'w')"),
        "exec": lambda: Runs(builtins.exec, "open('ran', 'w')"),
        "open": lambda: Runs(builtins.open, "ran", "w"),
        "subprocess": lambda: Runs(subprocess.check_call, ["touch", "ran"]),
        "import": lambda: Runs(builtins.__import__, "os"),
        "pathlib": lambda: Runs(Path.touch, Path("ran")),
        "torch.load": lambda: Runs(torch.load, "other.pt"),
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("attack", attacks())
@pytest.mark.parametrize("place", ["beside", "in the settings", "as a weight"])
def test_a_pickle_that_would_run_code_does_not(
    attack: str, place: str, zipped: bool, typed: Typed, network: WavLMForCTC
) -> None:
    container = make_container(network.encoder)
    made = attacks()[attack]()
    if place == "beside":
        container["more"] = [made]
    elif place == "in the settings":
        container["cfg"]["extra"] = made
    else:
        container["model"]["extra"] = made
    torch.save(container, "evil.pt", pickle_module=pickle, _use_new_zipfile_serialization=zipped)
    files.save("a.wav", speechlike(), RATE)
    said = typed.refused("info", "evil.pt", code=4)
    assert said.startswith("speechkit: error: evil.pt: ")
    typed.refused("transcribe", "a.wav", "-m", "evil.pt", code=4)
    assert not Path("ran").exists()


def test_a_bare_pickle_that_would_run_code_does_not(typed: Typed) -> None:
    for name, make in attacks().items():
        for protocol in (0, 2, 4, 5):
            Path("evil.pt").write_bytes(pickle.dumps(make(), protocol=protocol))
            typed.refused("info", "evil.pt", code=4)
            assert not Path("ran").exists(), name


def test_a_pickle_inside_a_transformers_folder_does_not_run(typed: Typed, folders: dict[str, Path]) -> None:
    shutil.copytree(folders["transformers"], "m")
    tensors = load_file("m/model.safetensors")
    Path("m/model.safetensors").unlink()
    torch.save({**tensors, "more": attacks()["os.system"]()}, "m/pytorch_model.bin", pickle_module=pickle)
    typed.refused("info", "m", code=4)
    assert not Path("ran").exists()


PLAIN: list[tuple[str, Callable[[dict[str, Any]], Any], str]] = [
    ("missing key", lambda c: c["model"].pop(first(c["model"])), "missing weights: "),
    ("extra key", lambda c: c["model"].update({"more": torch.zeros(1)}), "unknown weights: more"),
    ("wrong shape", lambda c: c["model"].update({first(c["model"]): torch.zeros(3)}), "has shape [3]"),
    ("no weights", lambda c: c.pop("model"), ""),
    ("list as weights", lambda c: c.update(model=[1, 2]), ""),
    ("numbers as weights", lambda c: c.update(model=dict.fromkeys(c["model"], 1)), ""),
    ("no settings", lambda c: c.pop("cfg"), ""),
    ("list as settings", lambda c: c.update(cfg=[1]), ""),
    ("text as width", lambda c: c["cfg"].update(encoder_embed_dim="wide"), ""),
    ("negative width", lambda c: c["cfg"].update(encoder_embed_dim=-3), ""),
    ("heads that do not divide", lambda c: c["cfg"].update(encoder_attention_heads=5), ""),
    ("code as convolutions", lambda c: c["cfg"].update(conv_feature_layers="[open('ran', 'w')]"), ""),
    ("nothing as convolutions", lambda c: c["cfg"].update(conv_feature_layers="[]"), ""),
    ("huge expression", lambda c: c["cfg"].update(conv_feature_layers="[(9,9,9)] * 999999999"), ""),
]


@pytest.mark.parametrize(("name", "change", "says"), PLAIN, ids=[row[0] for row in PLAIN])
def test_a_damaged_container_is_refused(
    name: str, change: Callable[[dict[str, Any]], Any], says: str, typed: Typed, network: WavLMForCTC
) -> None:
    container = make_container(network.encoder)
    change(container)
    torch.save(container, "m.pt")
    said = typed.refused("info", "m.pt", code=4)
    assert says in said.splitlines()[0]
    assert not Path("ran").exists()


@pytest.mark.parametrize("keep", [0, 1, 30, 1000, 0.5, 0.99])
def test_a_cut_container_is_refused(keep: float, typed: Typed, network: WavLMForCTC) -> None:
    for zipped in (True, False):
        torch.save(make_container(network.encoder), "m.pt", _use_new_zipfile_serialization=zipped)
        whole = Path("m.pt").read_bytes()
        Path("m.pt").write_bytes(whole[: int(keep if keep >= 1 else keep * len(whole))])
        typed.refused("info", "m.pt", code=4)


def test_what_is_no_model_is_refused(typed: Typed, folders: dict[str, Path], network: WavLMForCTC) -> None:
    files.save("a.wav", speechlike(), RATE)
    Path("folder").mkdir()
    Path("text.txt").write_text("hello")
    save(network.encoder, "encoder")
    torch.save(make_container(network.encoder), "encoder.pt")
    for name, says in (
        ("folder", "folder"),
        ("text.txt", "text.txt"),
        ("a.wav", "a.wav"),
        ("folder/m.pt", "folder/m.pt"),
        (str(folders["ours"] / "model.safetensors"), "model.safetensors"),
        ("encoder", "no CTC head"),
        ("encoder.pt", "no CTC head"),
        ("wavlm-basee", "wavlm-basee"),
        ("", ""),
        ("hf:", ""),
        ("hf:a", "a"),
        ("hf:a/b@", ""),
    ):
        said = typed.refused("transcribe", "a.wav", "-m", name, "--offline", code=4)
        assert says in said.splitlines()[0], said
    assert "did you mean wavlm-base" in typed.refused("info", "wavlm-basee", "--offline", code=4)
