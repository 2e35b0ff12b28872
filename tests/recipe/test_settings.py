from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import pytest

from speechkit.config import plain
from speechkit.recipe.settings import differences, key, names, untrue


@dataclass(frozen=True, kw_only=True, slots=True)
class Train:
    lr: float = 0.1
    layers: tuple[int, ...] = (1, 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    train: Train = Train()
    seed: int = 0
    sets: tuple[str, ...] = ("a", "b", "c")
    use_lm: bool = False


class Picked(NamedTuple):
    rate: float
    seed: int


@pytest.mark.parametrize(
    ("pick", "lines"),
    [
        (lambda c: c.seed, ["seed 0 -> 1"]),
        (lambda c: c.train, ["train.layers [1,2] -> [3]"]),
        (lambda c: (c.train, c.seed), ["train.layers [1,2] -> [3]", "seed 0 -> 1"]),
        (lambda c: (c.train.layers, c.seed), ["train.layers [1,2] -> [3]", "seed 0 -> 1"]),
        (lambda c: c.sets, ['sets ["a","b","c"] -> ["a"]']),
        (lambda c: {"layers": c.train.layers, "s": c.seed}, ["layers [1,2] -> [3]", "s 0 -> 1"]),
        (lambda c: Picked(rate=c.train.lr, seed=c.seed), ["seed 0 -> 1"]),
        (lambda c: (c.seed + 1, c.seed, c.train.lr), ["[0] 1 -> 2", "[1] 0 -> 1"]),
    ],
)
def test_what_changed_has_the_name_it_has_in_the_configuration(pick, lines) -> None:  # type: ignore[no-untyped-def]
    old, new = Config(), Config(train=Train(layers=(3,)), seed=1, sets=("a",))
    assert differences(plain(pick(old)), plain(pick(new)), names(pick, new)) == lines


def test_a_setting_that_appears_or_goes_is_a_difference() -> None:
    assert differences({"a": 1}, {"b": 1}, "") == ["a 1 -> (absent)", "b (absent) -> 1"]
    assert differences(None, None, "") == []


def test_the_key_depends_on_values_and_not_on_their_order() -> None:
    assert key({"a": 1, "b": [1.0]}) == key({"b": [1.0], "a": 1})
    assert key({"a": 1}) != key({"a": 1.0})
    assert key({"a": [1, 2]}) != key({"a": [2, 1]})


def test_a_condition_says_what_it_read() -> None:
    assert untrue(lambda c: c.use_lm, Config()) == "use_lm is false"
    assert untrue(lambda c: c.train.lr > 1 or c.use_lm, Config()) == "train.lr is 0.1, use_lm is false"
