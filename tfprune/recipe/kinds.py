"""Allowed values of recipe keys: a description, and a function that checks them."""

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import UnionType
from typing import Any

from tfprune.errors import OptionError, nearest, type_name
from tfprune.utils.registry import Registry

FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
"""`package.module:function`, which names the user's code in a recipe."""


class Refused(ValueError):
    """A value is not allowed; the message, which may be empty, is a hint on the fix."""


@dataclass(frozen=True)
class Kind:
    """The allowed values of a key.

    Args:
        allowed: The end of the sentence "expected …".
        read: Converts the value of TOML to that of the dataclass, or raises `Refused`.
        names: The registries whose names are allowed.
    """

    allowed: str
    read: Callable[[object], Any]
    names: tuple[Iterable[str], ...] = ()

    def described(self) -> str:
        """Return what is allowed, with the known names, for help."""
        if not self.names:
            return self.allowed
        known = sorted(name for registry in self.names for name in registry)
        head, comma, tail = self.allowed.partition(",")
        return f"{head} ({', '.join(known)}){comma}{tail}"


def option(
    kind: Kind, help: str, default: Any = dataclasses.MISSING, former: tuple[Any, ...] = ()
) -> Any:
    """Declare a field of a table: its kind, one line of help, and the default (none: required).

    `former` are defaults of earlier versions that the default stands for, so that their runs are
    resumed.
    """
    metadata = {"kind": kind, "help": help, "former": former}
    return dataclasses.field(default=default, metadata=metadata)


Faults = Iterator[tuple[tuple[str, ...], str]]
"""Errors, with the received value, and the keys involved, the wrong one first."""


class Table:
    """The base of all tables."""

    def unread(self) -> dict[str, str]:
        """Return the keys without effect given the others, each with its purpose."""
        return {}

    def faults(self) -> Faults:
        """Yield combinations of values that are not allowed."""
        yield from ()


def _number(value: object) -> float:
    if isinstance(value, str):
        try:
            number = float(Fraction(value))
        except (ValueError, ZeroDivisionError, OverflowError):
            raise Refused from None
        if "/" in value:
            # TOML has no fractions.
            raise Refused(f"Did you mean {number!r}?")
        raise Refused(f"Did you mean {number:g}, without quotes?")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Refused
    return float(value)


def _whole(value: object) -> int:
    number = _number(value)
    if number != int(number):
        raise Refused(f"Did you mean {round(number)}?")
    return int(number)


def number(allowed: str, holds: Callable[[float], bool]) -> Kind:
    """Return the kind of finite numbers for which `holds` is true."""

    def read(value: object) -> float:
        found = _number(value)
        if not holds(found):
            raise Refused
        return found

    return Kind(allowed, read)


def whole(least: int) -> Kind:
    """Return the kind of whole numbers of at least `least`."""

    def read(value: object) -> int:
        found = _whole(value)
        if found < least:
            raise Refused
        return found

    return Kind(f"a whole number, {least} or more", read)


def _fraction(value: object) -> float:
    found = _number(value)
    if 1 < found < 100:
        raise Refused(f"Did you mean {found / 100:g}?")
    if not 0 <= found < 1:
        raise Refused
    return found


def _share(value: object) -> float:
    found = _number(value)
    # 1 is probably meant as one percent; as a share it would allow everything.
    if found == 1:
        raise Refused("Did you mean 0.01?")
    return _fraction(found)


FRACTION = Kind("a number in [0, 1)", _fraction)
SHARE = Kind("a number in [0, 1), such as 0.01 for one point of accuracy", _share)
POSITIVE = number("a number above 0", lambda value: value > 0)
NOT_NEGATIVE = number("a number, 0 or more", lambda value: value >= 0)
RATIO = number("a number, 1 or more", lambda value: value >= 1)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Refused
    return value


TEXT = Kind("a text", _text)


def _names(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple) or not all(
        isinstance(name, str) and name for name in value
    ):
        raise Refused
    for name in value:
        try:
            re.compile(name)
        except re.error as error:
            raise Refused(f"{name!r} is not a regular expression: {error}.") from None
    return tuple(value)


NAMES = Kind('a list of layer names or regular expressions, such as ["conv.*", "head"]', _names)


def _sizes(value: object) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise Refused
    return tuple(map(whole(1).read, value))


SIZES = Kind("a list of sizes without the batch, such as [224, 224, 3]", _sizes)


def _options(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise Refused
    return dict(value)


OPTIONS = Kind("a table of arguments, such as { width = 64 }", _options)


def _yes_or_no(value: object) -> bool:
    if not isinstance(value, bool):
        raise Refused
    return value


YES_OR_NO = Kind("true or false", _yes_or_no)


def choice(*names: str) -> Kind:
    """Return the kind of one of a few names."""

    def read(value: object) -> str:
        if value not in names:
            raise Refused(nearest(str(value), names).partition(". ")[2])
        return str(value)

    return Kind(f"one of {', '.join(names)}", read)


def named(value: object, names: tuple[str, ...]) -> str | dict[str, Any]:
    """Return one of a few names, or a table with one and arguments."""
    name = value.get("name") if isinstance(value, Mapping) else value
    if name not in names:
        raise Refused(nearest(str(name), names).partition(". ")[2])
    return dict(value) if isinstance(value, Mapping) else str(value)


def resolved(
    function: Callable[[Any], Any],
    allowed: str,
    takes: type | UnionType = str,
    names: tuple[Iterable[str], ...] = (),
) -> Kind:
    """Return the kind of values that a function accepts without an OptionError.

    Its module must not load TensorFlow, since a recipe is parsed without it.
    """

    def read(value: object) -> Any:
        if not isinstance(value, takes):
            raise Refused
        try:
            function(value)
        except OptionError as error:
            raise Refused(f"{str(error)[0].upper()}{str(error)[1:]}") from None
        return value

    return Kind(allowed, read, names)


def registered(registry: Registry[Any], allowed: str) -> Kind:
    """Return the kind of names in a registry, with or without `:address`."""

    def read(value: object) -> str:
        if not isinstance(value, str) or value.partition(":")[0] not in registry:
            raise Refused(nearest(str(value), registry))
        return value

    return Kind(allowed, read, (registry,))


def show(value: object) -> str:
    """Return a received value as TOML, short enough for one line.

    Example:
        >>> show("a" * 90)
        '"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…'
        >>> show(True)
        'true'
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        text = f'"{value}"'
    elif isinstance(value, int | float):
        return repr(value)
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(map(show, value)) + "]"
    elif isinstance(value, Mapping):
        text = "{ " + ", ".join(f"{key} = {show(item)}" for key, item in value.items()) + " }"
    else:
        text = f"{value} ({type_name(value)})"
    return text if len(text) <= 60 else text[:60] + "…"
