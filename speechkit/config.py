"""Settings: dataclasses filled from YAML files and `key.path=value` words, checked field by field.

Later wins: the defaults of the dataclass, the files in their order, the words in theirs. omegaconf merges the layers
and follows `${other.key}`; the types are checked here, because it leaves the elements of nested tuples unchecked and
knows neither file nor line.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from speechkit.errors import UsageError, nearest

Keys = tuple[str | int, ...]  # the way to a value: ("model", "conv", 2) is model.conv[2]
T = TypeVar("T")

FREE: Mapping[str, bool] = types.MappingProxyType({"free": True})  # of a field that no result depends on
_NOTHING = ("", "~", "null", "Null", "NULL")
_TAGS = frozenset(f"tag:yaml.org,2002:{t}" for t in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq"))
_MERGE = "tag:yaml.org,2002:merge"
_RESOLVER = re.compile(r"\$\{[\w.\s]*:")  # ${name:...} would call something


def load(schema: type[T], files: Sequence[str | Path] = (), overrides: Sequence[str] = ()) -> T:
    """Fill a dataclass from its defaults, then YAML files, then `key.path=value` words.

    A field may be bool, int, float, str, a `Literal`, an optional, a tuple, a `dict[str, …]` or a dataclass. A scalar
    is read by the type of its field (`1e-4` is a float, `no` of a str field is the word); a list replaces the one
    before.

    Raises:
        UsageError: an unknown key (the nearest known one is named), a wrong type or choice, a required key without a
            value, a file that is not YAML; each with file and line.
    """
    origins: dict[Keys, str] = {}
    layers = [_defaults(schema)]
    try:
        layers += [_read_file(Path(file), origins) for file in files]
        layers += [_read_override(word, origins) for word in overrides]
    except RecursionError as error:
        names = ", ".join([*map(str, files), *overrides])
        raise UsageError(f"{names}: nested too deeply, or a value lies within itself", code="config.file") from error
    try:
        merged = OmegaConf.merge(*(OmegaConf.create(layer) for layer in layers))
        values = OmegaConf.to_container(merged, resolve=True)
    except OmegaConfBaseException as error:
        keys = _keys(str(error.full_key or ""))
        raise _wrong(keys, str(error).splitlines()[0], origins) from error
    built: T = _Builder(schema, origins).build(schema, values, ())
    return built


def check_ranges(settings: Any, **ranges: tuple[float, float]) -> None:
    """See that numbers of a settings dataclass lie within bounds, both included; None is no number and passes.

    Raises:
        ValueError: one does not.
    """
    for name, (low, high) in ranges.items():
        value = getattr(settings, name)
        if value is not None and not low <= value <= high:
            bounds = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
            raise ValueError(f"{name} is {value}, it must be {bounds}")


def dump(instance: Any) -> str:
    """Write a settings dataclass as YAML that `load` reads back to an equal one."""
    text: str = yaml.dump(plain(instance), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def plain(value: Any, *, decisive: bool = False) -> Any:
    """Turn settings into what JSON and YAML hold: dataclasses and named tuples become dicts, tuples lists.

    Args:
        value: the settings.
        decisive: without the fields whose metadata is `FREE`.

    Raises:
        TypeError: the value, or one inside it, is none of these and no plain scalar.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f for f in dataclasses.fields(value) if not (decisive and "free" in f.metadata)]
        return {f.name: plain(getattr(value, f.name), decisive=decisive) for f in fields}
    if isinstance(value, Mapping):
        return {str(k): plain(v, decisive=decisive) for k, v in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain(value._asdict(), decisive=decisive)
    if isinstance(value, list | tuple):
        return [plain(v, decisive=decisive) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a setting cannot be a {type(value).__name__}: {value!r}")


class _Dumper(yaml.SafeDumper):
    """Mappings in blocks, lists on one line."""


_Dumper.add_representer(list, lambda d, v: d.represent_sequence("tag:yaml.org,2002:seq", v, flow_style=True))


def _defaults(schema: type[Any]) -> dict[str, Any]:
    values = {}
    for field in dataclasses.fields(schema):
        if field.default is not dataclasses.MISSING:
            values[field.name] = plain(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            values[field.name] = plain(field.default_factory())
    return values


def _read_file(file: Path, origins: dict[Keys, str]) -> dict[str, Any]:
    try:
        node = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}", code="config.file") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: not UTF-8 text", code="config.file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else str(file)
        raise UsageError(f"{where}: not YAML: {getattr(error, 'problem', error)}", code="config.file") from error
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise UsageError(f"{file}:{node.start_mark.line + 1}: expected 'key: value' lines", code="config.file")
    values: dict[str, Any] = _read_node(node, (), str(file), origins)
    return values


def _read_override(word: str, origins: dict[Keys, str]) -> dict[str, Any]:
    key, equals, text = word.partition("=")
    if not equals or not key:
        raise UsageError(f"--set {word}: expected key.path=value", code="config.set")
    keys = tuple(key.strip().split("."))
    for end in range(1, len(keys) + 1):
        origins[keys[:end]] = f"--set {key}"
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {word}: not a YAML value", code="config.set") from error
    value = "" if node is None else _read_node(node, keys, "", origins)
    for name in reversed(keys):
        value = {name: value}
    return value  # type: ignore[return-value]  # a mapping, as there is at least one key


def _read_node(node: yaml.Node, keys: Keys, file: str, origins: dict[Keys, str]) -> Any:
    """Read a YAML node with its scalars as text; note where each value stands."""
    if file and (not keys or isinstance(keys[-1], int)):  # else it stands where its key stands
        origins[keys] = f"{file}:{node.start_mark.line + 1}"
    if node.tag not in _TAGS:
        raise _wrong(keys, f"tag {node.tag!r} is not allowed", origins)
    if isinstance(node, yaml.MappingNode):
        return _read_mapping(node, keys, file, origins)
    if isinstance(node, yaml.SequenceNode):
        return [_read_node(item, (*keys, i), file, origins) for i, item in enumerate(node.value)]
    assert isinstance(node, yaml.ScalarNode)
    if node.style is None and node.value in _NOTHING:
        return None
    if _RESOLVER.search(node.value):
        raise _wrong(keys, f"{node.value!r}: only ${{other.key}} is allowed in settings", origins)
    return node.value


def _read_mapping(node: yaml.MappingNode, keys: Keys, file: str, origins: dict[Keys, str]) -> dict[str, Any]:
    inherited: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for name, value in node.value:
        if name.tag == _MERGE:  # <<: *other
            for base in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if not isinstance(base, yaml.MappingNode):
                    raise _wrong(keys, "'<<' takes a mapping", origins)
                inherited = {**_read_mapping(base, keys, file, origins), **inherited}
    for name, value in node.value:
        if name.tag == _MERGE:
            continue
        inner = (*keys, str(name.value))
        if file:
            origins[inner] = f"{file}:{name.start_mark.line + 1}"
        if inner[-1] in values:
            raise _wrong(inner, "stands here twice", origins)
        values[str(name.value)] = _read_node(value, inner, file, origins)
    return {**inherited, **values}


class _Builder:
    """Turns merged plain values into dataclasses, checking each against its type."""

    def __init__(self, schema: type[Any], origins: Mapping[Keys, str]) -> None:
        self.schema = schema
        self.origins = origins

    def build(self, hint: Any, value: Any, keys: Keys) -> Any:
        """The value as the type `hint` wants it."""
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if dataclasses.is_dataclass(hint):
            return self._dataclass(typing.cast("type[Any]", hint), value, keys)
        if origin in (types.UnionType, typing.Union):
            return self._union(arguments, value, keys)
        if origin is Literal:
            return self._choice(arguments, value, keys)
        if origin in (tuple, list):
            return self._sequence(hint, value, keys)
        if origin is dict:
            if not isinstance(value, Mapping):
                raise self._expected(hint, value, keys)
            return {k: self.build(arguments[1], v, (*keys, k)) for k, v in value.items()}
        if hint in (bool, int, float, str):
            return self._scalar(hint, value, keys)
        raise TypeError(f"{self.schema.__name__}: {_name(keys)} has a type that settings cannot have: {hint}")

    def _dataclass(self, schema: type[Any], value: Any, keys: Keys) -> Any:
        if not isinstance(value, Mapping):
            raise self._expected(schema, value, keys)
        hints = typing.get_type_hints(schema)
        fields = {f.name: f for f in dataclasses.fields(schema)}
        arguments = {}
        for name in value:
            if name not in fields:
                raise self._unknown((*keys, str(name)), fields)
        for name, field in fields.items():
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if name in value and value[name] != "???":
                arguments[name] = self.build(hints[name], value[name], (*keys, name))
            elif required and dataclasses.is_dataclass(hints[name]):
                arguments[name] = self.build(hints[name], {}, (*keys, name))
            elif required:
                key = _name((*keys, name))
                raise UsageError(f"{key} has no value", hint=f"--set {key}=…", code="config.missing")
        try:
            return schema(**arguments)
        except ValueError as error:
            raise _wrong(keys, str(error), self.origins) from error

    def _union(self, members: tuple[Any, ...], value: Any, keys: Keys) -> Any:
        if value is None and types.NoneType in members:
            return None
        others = [m for m in members if m is not types.NoneType]
        for member in others[:-1]:
            try:
                return self.build(member, value, keys)
            except UsageError:
                continue
        if len(others) == 1:
            return self.build(others[0], value, keys)
        try:
            return self.build(others[-1], value, keys)
        except UsageError:
            raise self._expected(typing.Union[members], value, keys) from None  # noqa: UP007 (made at run time)

    def _choice(self, choices: tuple[Any, ...], value: Any, keys: Keys) -> Any:
        for choice in choices:
            if value == choice or value == str(choice):
                return choice
        error = self._expected(Literal[choices], value, keys)
        error.hint = nearest(str(value), map(str, choices))
        raise error

    def _sequence(self, hint: Any, value: Any, keys: Keys) -> Any:
        if not isinstance(value, list | tuple):
            raise self._expected(hint, value, keys)
        members = typing.get_args(hint)
        if typing.get_origin(hint) is list or members[-1] is Ellipsis:
            members = members[:1] * len(value)
        if len(members) != len(value):
            raise self._expected(hint, list(value), keys)
        items = [self.build(m, v, (*keys, i)) for i, (m, v) in enumerate(zip(members, value, strict=True))]
        return items if typing.get_origin(hint) is list else tuple(items)

    def _scalar(self, hint: type[Any], value: Any, keys: Keys) -> Any:
        if value is None or isinstance(value, Mapping | list | tuple):
            raise self._expected(hint, value, keys)
        if hint is str:
            return str(value)
        if hint is bool:
            text = str(value).lower()
            if text in ("true", "false"):
                return text == "true"
        elif not isinstance(value, bool) and not (hint is int and isinstance(value, float)):
            try:
                number = hint({".inf": "inf", "-.inf": "-inf", ".nan": "nan"}.get(value, value))  # as YAML spells them
            except ValueError:
                number = math.nan
            if not math.isnan(number):  # nothing is greater or less than nan, so no limit would hold
                return number
        raise self._expected(hint, value, keys)

    def _expected(self, hint: Any, value: Any, keys: Keys) -> UsageError:
        found = "nothing" if value is None else repr(value)
        return _wrong(keys, f"expected {_type_name(hint)}, found {found}", self.origins)

    def _unknown(self, keys: Keys, siblings: Mapping[str, Any]) -> UsageError:
        near = difflib.get_close_matches(str(keys[-1]), list(siblings), n=1)
        suggestion = _name((*keys[:-1], near[0])) if near else ""
        if not near:  # the right name at another place, such as max_steps for train.max_steps
            places = {path[-1]: path for path in reversed(list(_paths(self.schema)))}
            elsewhere = difflib.get_close_matches(str(keys[-1]), list(places), n=1)
            suggestion = _name(places[elsewhere[0]]) if elsewhere else ""
        hint = f"did you mean {suggestion}?" if suggestion else f"known here: {', '.join(siblings)}"
        return UsageError(
            f"{_where(keys, self.origins)}: unknown setting {_name(keys)!r}", hint=hint, code="config.unknown"
        )


def _paths(schema: type[Any], keys: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, hint in typing.get_type_hints(schema).items():
        yield (*keys, name)
        for inner in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(inner) and typing.get_origin(hint) is not tuple:
                yield from _paths(typing.cast("type[Any]", inner), (*keys, name))


def _wrong(keys: Keys, problem: str, origins: Mapping[Keys, str]) -> UsageError:
    where = _where(keys, origins)
    name = f"{_name(keys)}: " if keys and where != f"--set {_name(keys)}" else ""
    return UsageError(f"{where}: {name}{problem}", code="config.value")


def _where(keys: Keys, origins: Mapping[Keys, str]) -> str:
    while keys not in origins and keys:
        keys = keys[:-1]
    return origins.get(keys, "settings")


def _name(keys: Keys) -> str:
    return "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in keys).removeprefix(".")


def _keys(name: str) -> Keys:
    """Undo `_name`."""
    return tuple(int(k[1:-1]) if k.startswith("[") else k for k in re.findall(r"\[\d+\]|[^.\[\]]+", name))


def _type_name(hint: Any) -> str:
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(str(m) for m in members)
    if origin in (types.UnionType, typing.Union):
        return " or ".join("null" if m is types.NoneType else _type_name(m) for m in members)
    if origin in (tuple, list):
        if origin is tuple and members[-1] is not Ellipsis:
            return f"a list of {len(members)}"
        return f"a list of {_type_name(members[0])}"
    if origin is dict:
        return f"a mapping to {_type_name(members[1])}"
    name = str(hint.__name__)
    return f"the settings of {name}" if dataclasses.is_dataclass(hint) else name
