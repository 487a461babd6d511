"""Frozen dataclasses from untrusted JSON; each value is checked against its field's type."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

_LARGEST = 2**63
"""Integers must be below it: no size, count or hash is larger, and a float can represent it."""


class RecordFault(ValueError):
    """A value does not match the type of its field; a one-line message."""


def record(kind: type[T], data: Any, where: str = "") -> T:
    """Return a dataclass, and all dataclasses in it, from plain dicts and lists.

    A list becomes a tuple where the field is one, and null becomes NaN in a tuple of floats, which
    is how curves are written. A field with a default may be missing. Errors name the data `where`.

    Raises:
        RecordFault: A field is missing or unknown, or a value has another type.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Stage:
        ...     name: str
        ...     seconds: float = 0.0
        >>> record(Stage, {"name": "train", "seconds": 2})
        Stage(name='train', seconds=2)
        >>> record(Stage, {"name": "train", "seconds": "2"})
        Traceback (most recent call last):
        tfprune.storage.records.RecordFault: seconds: expected a number. Received '2'
    """
    if not isinstance(data, dict):
        raise RecordFault(_expected(where, "a table", data))
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(map(str, data.keys() - fields))
    if unknown:
        raise RecordFault(f"{_inside(where, unknown[0])}: unknown field")
    missing = [
        name
        for name, field in fields.items()
        if name not in data
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise RecordFault(f"{_inside(where, missing[0])}: is missing")
    hints = typing.get_type_hints(kind)
    return kind(**{name: value_of(hints[name], data[name], _inside(where, name)) for name in data})


def value_of(hint: Any, value: Any, where: str = "") -> Any:
    """Return a value converted to its type, or raise RecordFault; see `record`."""
    if dataclasses.is_dataclass(hint):
        return record(hint, value, where)  # type: ignore[arg-type]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _one_of(arguments, value, where)
    if origin is tuple:
        return _tuple(arguments, value, where)
    if origin in (list, Sequence):
        return [*_items(arguments[0], value, where)]
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            raise RecordFault(_expected(where, "a table", value))
        return {
            value_of(arguments[0], key, where): value_of(arguments[1], item, _inside(where, key))
            for key, item in value.items()
        }
    if hint is Any:
        return value
    return _plain(hint, value, where)


def _plain(hint: Any, value: Any, where: str) -> Any:
    if hint is type(None):
        fits = value is None
    elif hint is float:
        whole = type(value) is int and abs(value) < _LARGEST
        fits = whole or (type(value) is float and math.isfinite(value))
    elif hint is int:
        fits = type(value) is int and abs(value) < _LARGEST
    else:
        fits = type(value) is hint
    if not fits:
        raise RecordFault(_expected(where, _NAMES.get(hint, str(hint)), value))
    return value


def _one_of(kinds: Sequence[Any], value: Any, where: str) -> Any:
    """Try the types in turn; an error inside a table is reported for the table's type."""
    tables = [kind for kind in kinds if dataclasses.is_dataclass(kind)]
    if tables and isinstance(value, dict):
        return record(tables[0], value, where)  # type: ignore[arg-type]
    for kind in kinds:
        try:
            return value_of(kind, value, where)
        except RecordFault:
            continue
    names = " or ".join(_NAMES.get(kind, "a table") for kind in kinds)
    raise RecordFault(_expected(where, names, value))


def _tuple(kinds: Sequence[Any], value: Any, where: str) -> tuple[Any, ...]:
    if len(kinds) == 2 and kinds[1] is ...:
        return tuple(_items(kinds[0], value, where))
    if not isinstance(value, list) or len(value) != len(kinds):
        raise RecordFault(_expected(where, f"a list of {len(kinds)}", value))
    return tuple(value_of(kind, item, where) for kind, item in zip(kinds, value, strict=True))


def _items(kind: Any, value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise RecordFault(_expected(where, "a list", value))
    return [
        math.nan if kind is float and item is None else value_of(kind, item, f"{where}[{number}]")
        for number, item in enumerate(value)
    ]


_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false",
          type(None): "null"}  # fmt: skip


def _inside(where: str, name: object) -> str:
    return f"{where}.{name}" if where else str(name)


def _expected(where: str, what: str, value: Any) -> str:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:60]}…"
    return f"{where}: expected {what}. Received {shown}" if where else f"expected {what}"
