"""`speechkit convert` as a user types it: from every form that others publish to every form that is written."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from speechkit.cli import main as cli
from speechkit.compat import load_torchaudio
from speechkit.decode.vocabulary import Vocabulary
from speechkit.models import load, save
from speechkit.models.wavlm.fairseq import make_container
from speechkit.models.wavlm.heads import WavLMForCTC, WavLMForUnits
from speechkit.models.wavlm.model import WavLM
from tests.models.hub_cache import empty_hub, lay
from tests.models.wavlm import tiny

ROOT = Path(__file__).parents[2]
CLASSES = {"wavlm": "WavLM", "hubert": "Hubert", "wav2vec2": "Wav2Vec2"}
OUTPUTS = {"speechkit": "ours", "hf": "hf", "original": "folder/model.pt"}
WAVES, LENGTHS = torch.randn(1, 4000, generator=torch.Generator().manual_seed(1)), torch.tensor([4000])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(cli, "_drop_stdout", lambda: None)  # this process needs it
    return folder


@torch.no_grad()
def outputs(model: Any) -> list[Tensor]:
    """What a network makes of a wave: its states, and what its head makes of them."""
    encoder = model if isinstance(model, WavLM) else model.encoder
    states = encoder(WAVES, LENGTHS, layers=True)
    heads = {WavLMForCTC: lambda: [model(WAVES, LENGTHS).logits], WavLMForUnits: lambda: model.logits(states.output)}
    return [*states.layers, states.output, *heads.get(type(model), list)()]


def equal(a: Any, b: Any) -> bool:
    pairs = zip(outputs(a), outputs(b), strict=True)
    return type(a) is type(b) and all(torch.equal(x, y) for x, y in pairs)


# The forms as they are published ------------------------------------------------------------------------------------


@pytest.fixture
def dictionary(monkeypatch: pytest.MonkeyPatch) -> Callable[[Vocabulary], Any]:
    """Makes an object that pickles as fairseq's dictionary."""
    module = types.ModuleType("fairseq.data.dictionary")
    foreign = type("Dictionary", (), {"__module__": module.__name__})
    module.Dictionary = foreign  # type: ignore[attr-defined]
    for name in ("fairseq", "fairseq.data"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def make(vocabulary: Vocabulary) -> Any:
        made = foreign()
        made.symbols = list(vocabulary.symbols)
        made.indices = {s: i for i, s in enumerate(vocabulary.symbols)}
        return made

    return make


def as_bin(folder: Path) -> None:
    """Weights as transformers wrote them before safetensors, with the old names of weight norm."""
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    tensors = load_file(folder / "model.safetensors")
    for now, before in old.items():
        tensors = {name.replace(now, before): t for name, t in tensors.items()}
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def as_shards(folder: Path) -> None:
    from safetensors.torch import save_file

    tensors = load_file(folder / "model.safetensors")
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    shards = {name: names[i % 2] for i, name in enumerate(tensors)}
    for file in names:
        save_file({n: tensors[n] for n, shard in shards.items() if shard == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (folder / "model.safetensors").unlink()


@pytest.fixture
def published(dictionary: Callable[[Vocabulary], Any], tmp_path: Path) -> Callable[[str], Path]:
    """Writes a tiny recognizer in one of the forms."""

    def make(form: str) -> Path:
        model = tiny.recognizer({"namespace": "wav2vec2", "sharded": "hubert"}.get(form, "wavlm"), "large")
        path = tmp_path / f"{form}.pt"
        container = make_container(model)
        if form == "speechkit":
            path = tmp_path / form
            save(model, path)
        elif form in ("hf", "bin", "sharded"):
            path = tmp_path / form
            save(model, path, "hf")
            {"hf": lambda _: None, "bin": as_bin, "sharded": as_shards}[form](path)
        elif form == "fairseq":
            torch.save(container | {"task_state": {"target_dictionary": dictionary(model.vocabulary)}}, path)
        else:  # of the first wav2vec 2.0: all settings flat, and before torch had zips
            outer, inner = container["cfg"]["model"], container["cfg"]["model"]["w2v_args"]["model"]
            flat = outer | {"arch": "wav2vec_ctc", "normalize": True, "w2v_args": argparse.Namespace(**inner)}
            old = {"args": argparse.Namespace(**flat), "model": container["model"]}
            torch.save(old, path, _use_new_zipfile_serialization=False)
            (tmp_path / "dict.ltr.txt").write_text("".join(f"{s} 9\n" for s in model.vocabulary.symbols[4:]))
        return path

    return make


@pytest.mark.parametrize("to", OUTPUTS)
@pytest.mark.parametrize("form", ["speechkit", "hf", "bin", "sharded", "fairseq", "namespace"])
def test_recognizers_go_from_every_form_to_every_form(
    form: str, to: str, here: Path, published: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source = published(form)
    assert cli.main(["convert", str(source), "-o", OUTPUTS[to], "--to", to]) == 0
    assert capsys.readouterr().out == f"{OUTPUTS[to]}\t{to}\n"
    before, after = load(source), load(OUTPUTS[to])
    assert equal(before, after)
    assert after.vocabulary == before.vocabulary
    assert after.encoder.config.kind == before.encoder.config.kind
    assert sorted(p.name for p in here.iterdir()) == [OUTPUTS[to].partition("/")[0]]


@pytest.mark.parametrize("to", OUTPUTS)
@pytest.mark.parametrize(("kind", "size"), [("wavlm", "base"), ("hubert", "large"), ("wav2vec2", "large")])
def test_encoders_go_to_every_form_and_on_to_any_other(kind: str, size: str, to: str, here: Path) -> None:
    save(tiny.encoder(kind, size, sample_rate=8000), "given")
    assert cli.main(["convert", "given", "-o", OUTPUTS[to], "--to", to, "-q"]) == 0
    for again, path in OUTPUTS.items():
        assert cli.main(["convert", OUTPUTS[to], "-o", f"again/{path}", "--to", again, "-q"]) == 0
        model = load(f"again/{path}")
        assert equal(model, tiny.encoder(kind, size, sample_rate=8000))
        assert (model.config.kind, model.config.sample_rate) == (kind, 8000)


@pytest.mark.parametrize("kind", CLASSES)
@torch.no_grad()
def test_transformers_reads_what_fairseq_published(
    kind: str, here: Path, dictionary: Callable[[Vocabulary], Any]
) -> None:
    load_torchaudio()
    import transformers

    ours = tiny.recognizer(kind, "large")
    state = {"target_dictionary": dictionary(ours.vocabulary)}
    torch.save(make_container(ours) | {"task_state": state}, "model.pt")
    assert cli.main(["convert", "model.pt", "-o", "hf", "--to", "hf", "-q"]) == 0
    model = getattr(transformers, CLASSES[kind] + "ForCTC").from_pretrained("hf").eval()
    logits = ours(WAVES, LENGTHS).logits
    torch.testing.assert_close(model(WAVES).logits, logits, rtol=1e-3, atol=1e-4)
    ids = logits.argmax(-1)[0].tolist()
    merged = [i for n, i in enumerate(ids) if n == 0 or i != ids[n - 1]]
    tokenizer = transformers.Wav2Vec2CTCTokenizer.from_pretrained("hf")
    assert tokenizer.decode(ids) == ours.vocabulary.text(merged)


# What a form has no place for ---------------------------------------------------------------------------------------


def test_a_pre_training_head_stays_in_the_original_and_is_named_where_it_cannot_go(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tiny.predictor("hubert"), "units")
    assert cli.main(["convert", "units", "-o", "original/units.pt", "--to", "original"]) == 0
    assert equal(load("original/units.pt"), tiny.predictor("hubert"))
    assert sorted(p.name for p in Path("original").iterdir()) == ["dict.km0.txt", "dict.km1.txt", "units.pt"]
    capsys.readouterr()
    assert cli.main(["convert", "original/units.pt", "-o", "hf", "--to", "hf"]) == 0
    assert "warning hf: transformers has no class for unit prediction: the encoder alone" in capsys.readouterr().err
    assert equal(load("hf"), tiny.predictor("hubert").encoder)
    save(tiny.predictor("wav2vec2"), "other")
    assert cli.main(["convert", "other", "-o", "other.pt", "--to", "original"]) == 4
    assert "fairseq has no wav2vec 2.0 that predicts units" in capsys.readouterr().err
    assert not Path("other.pt").exists()


def test_parts_that_the_reader_leaves_out_are_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    container = make_container(tiny.encoder("wav2vec2"))
    container["model"] |= {"quantizer.vars": torch.zeros(2), "project_q.weight": torch.zeros(2)}
    torch.save(container, "model.pt")
    assert cli.main(["convert", "model.pt", "-o", "ours", "--to", "speechkit"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("info left out, as only pre-training uses them: quantizer.vars, project_q.weight")


def test_settings_that_a_form_does_not_keep_are_named_in_one_line(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tiny.encoder("wavlm", "large", time_mask=replace(tiny.config().time_mask, prob=0.0)), "ours")
    assert cli.main(["convert", "ours", "-o", "hf", "--to", "hf"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert " warning hf does not keep waveform_eps 1e-05 (becomes 1e-07), feature_grad_mult 0.1 (becomes 1.0)" in line
    assert line.endswith(", mask_embedding")
    assert cli.main(["convert", "ours", "-o", "model.pt", "--to", "original"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(" warning model.pt does not keep encoder.init_std 0.3 (becomes 0.02)")
    assert cli.main(["convert", "ours", "-o", "again", "--to", "speechkit"]) == 0
    assert capsys.readouterr().err == ""


CHARACTERS = tiny.LETTERS.symbols
VOCABULARIES: list[tuple[str, Vocabulary, str, str]] = [
    ("pieces", Vocabulary((*tiny.SPECIALS, "▁a", "b"), blank=0, pieces="sentencepiece"), "hf", "sentencepiece"),
    ("words", Vocabulary((*tiny.SPECIALS, "one", "two"), blank=0, pieces="words"), "hf", "has words"),
    ("words", Vocabulary((*tiny.SPECIALS, "one", "two"), blank=0, pieces="words"), "original", "pieces 'words'"),
    ("twice", Vocabulary((*CHARACTERS, "E"), blank=0), "hf", "symbols 'E' would become ''"),
    ("twice", Vocabulary((*CHARACTERS, "E"), blank=0), "original", "no symbol twice"),
    ("blank last", Vocabulary(("a", "b", "|", "[PAD]"), blank=3), "original", "begin with <s> <pad> </s> <unk>"),
    ("delimiter", Vocabulary((*tiny.SPECIALS, "a", "_"), blank=0, word_delimiter="_"), "original", "word_delimiter"),
    ("line end", Vocabulary((*CHARACTERS, "\n"), blank=0), "original", "cannot spell"),
]


@pytest.mark.parametrize(
    ("name", "vocabulary", "to", "said"), VOCABULARIES, ids=[f"{r[0]}: {r[2]}" for r in VOCABULARIES]
)
def test_vocabularies_that_a_form_cannot_spell_are_refused(
    name: str, vocabulary: Vocabulary, to: str, said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tiny.recognizer(vocabulary=vocabulary), "ours")
    assert cli.main(["convert", "ours", "-o", OUTPUTS[to], "--to", to]) == 4
    assert said in capsys.readouterr().err
    assert [p for p in here.rglob("*") if p.is_file() and p.parent.name != "ours"] == []


def test_pieces_of_words_go_to_fairseq_and_back(here: Path) -> None:
    vocabulary = Vocabulary((*tiny.SPECIALS, "▁a", "b", "▁"), blank=0, pieces="sentencepiece")
    save(tiny.recognizer(vocabulary=vocabulary), "ours")
    assert cli.main(["convert", "ours", "-o", "model.pt", "--to", "original", "-q"]) == 0
    assert load("model.pt").vocabulary == vocabulary


def test_transformers_names_of_fairseqs_special_symbols_go_back(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = Vocabulary(("<pad>", "<s>", "</s>", "<unk>", *CHARACTERS[4:]), blank=0, lower_case=True)
    save(tiny.recognizer(vocabulary=theirs), "hf", "hf")
    assert cli.main(["convert", "hf", "-o", "model.pt", "--to", "original"]) == 0
    err = capsys.readouterr().err
    assert "names for the first symbols are <s> <pad> </s> <unk>, not <pad> <s> </s> <unk>" in err
    assert "does not keep lower_case" in err
    again = load("model.pt")
    assert again.vocabulary == tiny.LETTERS
    assert equal(again, load("hf"))


def test_the_original_is_plain_and_has_what_fairseqs_loader_asks_for(here: Path) -> None:
    # fairseq 0.12.2 and Microsoft's WavLM.py read such files and gave the same numbers to 2e-6 (tried by hand)
    for kind, network in (("hubert", "hubert_ctc"), ("wav2vec2", "wav2vec_ctc")):
        save(tiny.recognizer(kind, "large"), kind)
        assert cli.main(["convert", kind, "-o", f"{kind}_folder/model.pt", "--to", "original", "-q"]) == 0
        container = torch.load(f"{kind}_folder/model.pt", weights_only=True)  # nothing but plain values
        assert {"criterion_name", "optimizer_name", "num_updates"} <= container["optimizer_history"][-1].keys()
        assert container["extra_state"]["train_iterator"] == {"epoch": 1, "iterations_in_epoch": 0}
        model, task = container["cfg"]["model"], container["cfg"]["task"]
        assert model["_name"] == network
        assert (model["w2v_args"]["task"]["normalize"], task["normalize"], task["data"]) == (True, True, ".")
        assert task["labels"] in ("ltr", ["ltr"])
        assert Path(f"{kind}_folder/dict.ltr.txt").read_text().startswith("| 1\nE 1\n")
    save(tiny.predictor("hubert", num_classes=(11,)), "units")
    assert cli.main(["convert", "units", "-o", "units_folder/model.pt", "--to", "original", "-q"]) == 0
    cfg = torch.load("units_folder/model.pt", weights_only=True)["cfg"]
    assert (cfg["task"]["labels"], cfg["task"]["label_rate"], cfg["model"]["label_rate"]) == (["km"], 50, 50)
    assert len(Path("units_folder/dict.km.txt").read_text().splitlines()) == 11 - 4


# What stands in the way ---------------------------------------------------------------------------------------------


def content(folder: Path) -> dict[Path, bytes | None]:
    return {p: p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["ours", "-o", "x", "--to", "hff"], 2, "hint: did you mean hf?"),
        (["ours", "-o", "x"], 2, "required: --to"),
        (["ours", "--to", "hf"], 2, "required: -o/--output"),
        (["ours", "-o", "-", "--to", "hf"], 2, "a model cannot go to standard output"),
        (["ours", "-o", "x", "--to", "original"], 2, "-o x: the form original is a file .pt"),
        (["ours", "-o", "x.pt", "--to", "hf"], 2, "-o x.pt: the form hf is a folder"),
        (["wavlm-basee", "-o", "x", "--to", "hf"], 4, "hint: did you mean wavlm-base?"),
        (
            ["wavlm-base", "-o", "x", "--to", "hf", "--offline"],
            4,
            "hint: fetch it on a machine with a network",
        ),
        (["nothing", "-o", "x", "--to", "hf"], 4, "no model 'nothing'"),
        (["cut.pt", "-o", "x", "--to", "hf"], 4, "cut.pt: not a readable torch file"),
        (["evil.pt", "-o", "x", "--to", "hf"], 4, "evil.pt: the file wants to call builtins.eval"),
        (["cut", "-o", "x.pt", "--to", "original"], 4, "cut/model.safetensors: not a readable safetensors file"),
        (["ours", "-o", "x", "--to", "hf", "--vocab", "v"], 4, "a model with symbols of its own"),
        (["ours", "-o", "ours", "--to", "speechkit"], 5, "ours: exists already\nhint: --overwrite replaces it"),
        (["ours", "-o", "file.pt", "--to", "original"], 5, "file.pt: exists already"),
        (["ours", "-o", "full", "--to", "hf", "--overwrite"], 5, "full: is no model folder"),
        (["ours", "-o", "exp", "--to", "hf", "--overwrite"], 5, "exp: is no model folder, or holds more than a model"),
        (["ours", "-o", "file.pt", "--to", "original", "--overwrite"], 5, "dict.ltr.txt: exists already with other"),
        (["ours", "-o", "file/x", "--to", "hf"], 5, "file/x: cannot write"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_one_line_and_leaves_everything_as_it_was(
    words: list[str],
    code: int,
    said: str,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (eval, ("open('ran', 'w')",))

    empty_hub(here / "hub", monkeypatch)
    save(tiny.recognizer(), "ours")
    shutil.copytree("ours", "cut")
    weights = Path("cut/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:5000])
    torch.save(make_container(tiny.encoder()), "whole.pt")
    Path("cut.pt").write_bytes(Path("whole.pt").read_bytes()[:5000])
    torch.save({"model": {}, "cfg": Evil()}, "evil.pt", pickle_module=pickle)
    Path("file.pt").write_text("mine")
    Path("file").write_text("mine")
    Path("dict.ltr.txt").write_text("a 1\n")
    Path("full").mkdir()
    Path("full/thesis.tex").write_text("mine")
    Path("exp/checkpoints").mkdir(parents=True)
    Path("exp/config.json").write_text("{}")
    before = content(here)
    assert cli.main(["convert", *words]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("speechkit: error: ")
    assert len(err.splitlines()) <= 2
    assert said in err
    assert content(here) == before


@pytest.mark.parametrize("to", OUTPUTS)
def test_models_are_replaced_when_asked_even_by_themselves(to: str, here: Path) -> None:
    save(tiny.recognizer("hubert"), OUTPUTS[to], to)
    words = ["convert", OUTPUTS[to], "-o", OUTPUTS[to], "--to", to, "-q"]
    assert cli.main(words) == 5
    before = load(OUTPUTS[to])
    assert cli.main([*words, "--overwrite"]) == 0
    assert equal(load(OUTPUTS[to]), before)


def test_an_empty_folder_is_filled(here: Path) -> None:
    save(tiny.encoder(), "ours")
    Path("hf").mkdir()
    assert cli.main(["convert", "ours", "-o", "hf", "--to", "hf", "-q"]) == 0
    assert equal(load("hf"), tiny.encoder())


@pytest.mark.parametrize("to", OUTPUTS)
def test_a_disk_that_fills_leaves_nothing(
    to: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import errno

    save(tiny.recognizer(), "given")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("speechkit.files.sync", full)
    assert cli.main(["convert", "given", "-o", OUTPUTS[to], "--to", to, "-q"]) == 5
    assert "cannot write: No space left on device" in capsys.readouterr().err
    assert [p for p in here.rglob("*") if p.is_file() and p.parent.name != "given"] == []


def test_models_of_the_hub_are_converted_from_the_cache(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = empty_hub(tmp_path / "hub", monkeypatch)
    save(tiny.encoder(), tmp_path / "made", "hf")
    lay(tmp_path / "made", hub, "microsoft/wavlm-base")
    for number, name in enumerate(("wavlm-base", "hf:microsoft/wavlm-base", "microsoft/wavlm-base@main")):
        assert cli.main(["convert", name, "-o", f"{number}.pt", "--to", "original", "--offline", "-q"]) == 0
        assert equal(load(f"{number}.pt"), tiny.encoder())


def test_the_command_in_a_process_of_its_own(here: Path) -> None:
    save(tiny.recognizer(), "ours")
    command = [sys.executable, "-m", "speechkit", "convert"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = ["ours", "-o", "hf", "--to", "hf"]
    done = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "hf\thf\n")
    assert [line.split(" ", 2)[1] for line in done.stderr.splitlines()] == ["warning"]  # what hf does not keep
    done = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == "speechkit: error: hf: exists already\nhint: --overwrite replaces it\n"


def test_a_closed_standard_output_does_not_lose_the_model(here: Path) -> None:
    save(tiny.encoder(), "ours")
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "speechkit", "convert", "ours", "-o", "hf", "--to", "hf", "-q"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
    assert equal(load("hf"), tiny.encoder())
