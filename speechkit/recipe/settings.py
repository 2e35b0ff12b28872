"""The settings that a stage declares: their key, their names, and what changed between two runs."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

Names = str | tuple[str, ...]  # of a whole, or of each of its items


def key(parts: Mapping[str, Any]) -> str:
    """BLAKE2b-256 of the canonical JSON of everything that a stage depends on."""
    return hashlib.blake2b(_canonical(parts).encode(), digest_size=32).hexdigest()


def differences(old: Any, new: Any, names: Names) -> list[str]:
    """What differs between two plain settings, one line each: `train.lr 0.1 -> 0.2`."""
    before, after = flatten(old, names), flatten(new, names)
    lines = []
    for name in dict.fromkeys([*before, *after]):
        a, b = (_canonical(side[name]) if name in side else "(absent)" for side in (before, after))
        if a != b:
            lines.append(f"{name} {a} -> {b}".lstrip())
    return lines


def flatten(value: Any, names: Names = "") -> dict[str, Any]:
    """Plain settings as one dict with dotted names; a list of scalars is one value.

    Args:
        value: plain, of dicts, lists and scalars.
        names: that of the whole, or those of its items.
    """
    if not isinstance(names, str):
        if not isinstance(value, list) or len(value) != len(names):  # of a run that picked otherwise
            return flatten(value)
        parts = dict(zip(names, value, strict=True))
    elif isinstance(value, dict) and value:
        parts = {f"{names}.{k}".lstrip("."): v for k, v in value.items()}
    elif isinstance(value, list) and any(isinstance(v, list | dict) for v in value):
        parts = {f"{names}[{i}]": v for i, v in enumerate(value)}
    else:
        return {} if value is None and not names else {names: value}
    return {k: v for name, item in parts.items() for k, v in flatten(item, name).items()}


def names(pick: Callable[[Any], Any], config: Any) -> Names:
    """The names that what `pick` returns has in the configuration, as far as watching it tells.

    `lambda c: c.train` gives `train`, `lambda c: (c.model, c.seed)` gives `("model", "seed")`; a dataclass or dict of
    its own has names inside and gives an empty one.
    """
    read: list[str] = []
    try:
        picked = pick(_Watched(config, "", read))
    except (AttributeError, TypeError, ValueError, KeyError):  # it computes with what it reads
        return ""
    if len(read) == 1 and _value(config, read[0]) is picked:
        return read[0]
    if type(picked) is tuple:
        telling = len(set(read)) == len(picked) == len(read)
        return tuple(read) if telling else tuple(f"[{i}]" for i in range(len(picked)))
    named = isinstance(picked, dict | tuple) or dataclasses.is_dataclass(picked)
    return read[0] if len(read) == 1 and not named else ""


def untrue(condition: Callable[[Any], bool], config: Any) -> str:
    """Say why a condition on the configuration is false: `use_lm is false`."""
    read: list[str] = []
    condition(_Watched(config, "", read))
    return ", ".join(f"{name} is {_canonical(_value(config, name))}" for name in dict.fromkeys(read)) or "never here"


def _value(config: Any, name: str) -> Any:
    return functools.reduce(getattr, name.split("."), config)


class _Watched:
    """Stands for a dataclass and notes the dotted names of what is read of it."""

    def __init__(self, value: Any, name: str, read: list[str]) -> None:
        self.__value, self.__name, self.__read = value, name, read

    def __getattr__(self, field: str) -> Any:
        value = getattr(self.__value, field)
        name = f"{self.__name}.{field}".lstrip(".")
        if self.__read and self.__read[-1] == self.__name:
            self.__read.pop()
        self.__read.append(name)
        return _Watched(value, name, self.__read) if dataclasses.is_dataclass(value) else value


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
