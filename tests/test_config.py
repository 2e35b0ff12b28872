from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechkit import config
from speechkit.errors import UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    dim: int = 8
    kind: Literal["base", "large"] = "base"
    convolutions: tuple[tuple[int, int], ...] = ((10, 5), (3, 2))
    dropout: float = 0.1
    layer: int | None = None
    pair: tuple[int, float] = (1, 2.0)

    def __post_init__(self) -> None:
        if self.dim % 2:
            raise ValueError(f"dim must be even, not {self.dim}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Train:
    max_steps: int = 100
    rates: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    model: Model = Model(dim=16)
    teachers: tuple[Model, ...] = ()
    teacher: Model | None = None
    train: Train = field(default_factory=Train)
    name: str = "x"
    seed: int = 0
    bf16: bool = False
    limit: int | Literal["auto"] = "auto"


@dataclass(frozen=True, kw_only=True, slots=True)
class Required:
    units: int
    train: Train


def read(tmp_path: Path, text: str, *words: str) -> Recipe:
    (tmp_path / "a.yaml").write_text(text)
    return config.load(Recipe, [tmp_path / "a.yaml"], words)


def refused(tmp_path: Path, text: str, *words: str) -> tuple[str, str]:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text, *words)
    return caught.value.message.replace(f"{tmp_path}/", ""), caught.value.hint


def test_without_layers_the_defaults_come_out() -> None:
    assert config.load(Recipe) == Recipe()


def test_later_layers_win_and_leave_the_rest(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("model: {dim: 4, dropout: 0.2}\nseed: 1\n")
    (tmp_path / "b.yaml").write_text("model:\n  dim: 6\n")
    loaded = config.load(Recipe, [tmp_path / "a.yaml", tmp_path / "b.yaml"], ["seed=3"])
    assert loaded == Recipe(model=Model(dim=6, dropout=0.2), seed=3)


def test_a_list_replaces_the_one_before(tmp_path: Path) -> None:
    assert read(tmp_path, "model: {convolutions: [[1, 2]]}").model.convolutions == ((1, 2),)


def test_a_mapping_may_begin_with_another(tmp_path: Path) -> None:
    text = "model: &m {dim: 4, dropout: 0.3}\nteacher:\n  <<: *m\n  dim: 6\n"
    assert read(tmp_path, text).teacher == Model(dim=6, dropout=0.3)
    bases = "teachers:\n- &a {dim: 4}\n- &b {dim: 2, layer: 1}\nteacher: {<<: [*a, *b]}\n"
    assert read(tmp_path, bases).teacher == Model(dim=4, layer=1)
    assert refused(tmp_path, "model:\n  <<: 5")[0] == "a.yaml:1: model: '<<' takes a mapping"


def test_elements_of_nested_tuples_become_what_the_field_says(tmp_path: Path) -> None:
    loaded = read(tmp_path, "teachers:\n- dim: 4\n- {dim: 2, pair: [3, 1e-4]}\nteacher: {layer: 3}")
    assert loaded.teachers == (Model(dim=4), Model(dim=2, pair=(3, 1e-4)))
    assert loaded.teacher == Model(layer=3)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("model: {dropout: 1e-4}", "model.dropout", 1e-4),
        ("model: {dropout: 3}", "model.dropout", 3.0),
        ("model: {layer: null}", "model.layer", None),
        ("name: no", "name", "no"),
        ("name: 007", "name", "007"),
        ("name: 'null'", "name", "null"),
        ("bf16: true", "bf16", True),
        ("bf16: False", "bf16", False),
        ("limit: 7", "limit", 7),
        ("limit: auto", "limit", "auto"),
        ("train: {rates: {head: 2}}", "train.rates", {"head": 2.0}),
        ("seed: ${train.max_steps}", "seed", 100),
        ("name: d${model.dim}", "name", "d16"),
    ],
)
def test_a_scalar_is_read_by_the_type_of_its_field(tmp_path: Path, text: str, name: str, value: object) -> None:
    found: object = read(tmp_path, text)
    for part in name.split("."):
        found = getattr(found, part)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("seed: 1\nsead: 2", "a.yaml:2: unknown setting 'sead'", "did you mean seed?"),
        ("model:\n  dimm: 2", "a.yaml:2: unknown setting 'model.dimm'", "did you mean model.dim?"),
        ("max_steps: 5", "a.yaml:1: unknown setting 'max_steps'", "did you mean train.max_steps?"),
        ("teachers:\n- dim: 2\n- dimm: 2", "a.yaml:3: unknown setting 'teachers[1].dimm'", "did you mean teachers"),
        ("model:\n  dim: many", "a.yaml:2: model.dim: expected int, found 'many'", ""),
        ("seed: 1.5", "a.yaml:1: seed: expected int, found '1.5'", ""),
        ("seed:", "a.yaml:1: seed: expected int, found nothing", ""),
        ("bf16: yes", "a.yaml:1: bf16: expected bool, found 'yes'", ""),
        ("model: 5", "a.yaml:1: model: expected the settings of Model, found '5'", ""),
        ("train: {rates: {a: .nan}}", "a.yaml:1: train.rates.a: expected float, found '.nan'", ""),
        ("seed: [1]", "a.yaml:1: seed: expected int, found ['1']", ""),
        ("model: {kind: lage}", "a.yaml:1: model.kind: expected one of base, large, found 'lage'", "mean large?"),
        (
            "model:\n  convolutions:\n  - [1, 2]\n  - [1, two]",
            "a.yaml:4: model.convolutions[1][1]: expected int, found 'two'",
            "",
        ),
        ("model: {pair: [1]}", "a.yaml:1: model.pair: expected a list of 2, found ['1']", ""),
        ("model: {dim: 3}", "a.yaml:1: model: dim must be even, not 3", ""),
        ("limit: none", "a.yaml:1: limit: expected int or one of auto, found 'none'", ""),
        ("seed: 1\nseed: 2", "a.yaml:2: seed: stands here twice", ""),
        ("name: ${oc.env:HOME}", "a.yaml:1: name: '${oc.env:HOME}': only ${other.key} is allowed", ""),
        ("name: ${nowhere}", "a.yaml:1: name: Interpolation key 'nowhere' not found", ""),
        ("name: !!python/name:os.system", "a.yaml:1: name: tag", ""),
        ("seed: [1", "a.yaml:1: not YAML", ""),
        ("- a", "a.yaml:1: expected 'key: value' lines", ""),
    ],
)
def test_what_is_wrong_is_named_with_file_line_and_key(tmp_path: Path, text: str, message: str, hint: str) -> None:
    said, hinted = refused(tmp_path, text)
    assert said.startswith(message)
    assert hint in hinted


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("seed=x", "--set seed: expected int, found 'x'"),
        ("train.max_step=3", "--set train.max_step: unknown setting 'train.max_step'"),
        ("seed", "--set seed: expected key.path=value"),
        ("teachers=[{dim: x}]", "--set teachers: teachers[0].dim: expected int, found 'x'"),
    ],
)
def test_a_wrong_word_is_named(tmp_path: Path, word: str, message: str) -> None:
    assert refused(tmp_path, "", word)[0] == message


def test_words_take_lists_and_empty_text() -> None:
    loaded = config.load(Recipe, [], ["model.convolutions=[[1, 1]]", "name="])
    assert (loaded.model.convolutions, loaded.name) == (((1, 1),), "")


def test_a_field_without_default_must_be_given() -> None:
    assert config.load(Required, [], ["units=3"]) == Required(units=3, train=Train())
    with pytest.raises(UsageError, match="units has no value"):
        config.load(Required)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.yaml: No such file"):
        config.load(Recipe, [tmp_path / "gone.yaml"])


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters="$"), max_size=12)
models = st.builds(
    Model,
    dim=st.integers(0, 500).map(lambda n: 2 * n),
    kind=st.sampled_from(["base", "large"]),
    convolutions=st.lists(st.tuples(st.integers(), st.integers()), max_size=3).map(tuple),
    dropout=st.floats(allow_nan=False),
    layer=st.none() | st.integers(),
)


@given(
    st.builds(
        Recipe,
        model=models,
        teachers=st.lists(models, max_size=2).map(tuple),
        teacher=st.none() | models,
        train=st.builds(Train, rates=st.dictionaries(st.from_regex("[a-z]{1,5}", fullmatch=True), st.floats(0, 1))),
        name=words.filter(lambda word: word != "???"),
        bf16=st.booleans(),
        limit=st.integers() | st.just("auto"),
    )
)
def test_what_is_dumped_loads_as_it_was(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe) -> None:
    file = tmp_path_factory.mktemp("dump") / "config.yaml"
    file.write_text(config.dump(recipe), encoding="utf-8")
    assert config.load(Recipe, [file]) == recipe


def test_plain_refuses_what_json_cannot_hold() -> None:
    with pytest.raises(TypeError, match="PosixPath"):
        config.plain({"path": Path("x")})
