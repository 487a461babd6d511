"""Writing of TOML, which the standard library only reads."""

import json
import re
from collections.abc import Mapping
from typing import Any

from tfprune.errors import OptionError, type_name


def to_toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Return TOML text that `tomllib` reads back to equal tables.

    Example:
        >>> print(to_toml({"prune": {"sparsity": 0.8, "only": ["conv*"]}}), end="")
        [prune]
        sparsity = 0.8
        only = ["conv*"]
    """
    parts = []
    for name, keys in tables.items():
        lines = [f"{_key(key)} = {_value(value)}" for key, value in keys.items()]
        parts.append("\n".join([f"[{_key(name)}]", *lines]) + "\n")
    return "\n".join(parts)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def _text(value: str) -> str:
    # JSON's escapes are valid in TOML, except for DEL, which TOML escapes too, and for characters
    # beyond U+FFFF, which JSON would write as surrogate pairs: those are not escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items())
        return f"{{ {pairs} }}"
    raise OptionError(f"a recipe cannot contain {value!r} of type {type_name(value)}")
