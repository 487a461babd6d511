"""Parsing of TOML to a `Recipe`, with all errors found in one pass and without TensorFlow."""

import dataclasses
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfprune.errors import OptionError, RecipeError, nearest
from tfprune.recipe.kinds import Refused, show
from tfprune.recipe.recipe import TABLES, Recipe
from tfprune.recipe.sources import is_file

PATHS = {("model", "source"), ("model", "weights"), ("data", "source")}
"""Keys whose value may be the path of a file that must exist."""


@dataclass
class _Found:
    """The errors so far, and the source of each key: the file, or a `--set` option."""

    name: str
    folder: Path
    faults: list[str]
    settings: dict[tuple[str, str], str]

    def where(self, table: str, key: str) -> str:
        return self.settings.get((table, key), f"{self.name} [{table}] {key}")

    def add(self, table: str, key: str, message: str) -> None:
        self.faults.append(f"{self.where(table, key)}: {message}")


def load_recipe(path: str | os.PathLike[str], settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe file.

    Args:
        path: A TOML file. Its paths are relative to its folder.
        settings: `table.key=value` each, as after `--set`; they override the file, and their paths
            are relative to the current folder.

    Returns:
        The recipe.

    Raises:
        RecipeError: With all errors, one per line: file, table, key, what was received, what is
            allowed.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file. Give a .toml file or a shipped recipe.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read as a recipe: {error}") from None
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: not TOML: {error}") from None
    return parse_recipe(tables, settings, name=str(path), folder=path.parent)


def parse_recipe(
    tables: Mapping[str, Any],
    settings: Sequence[str] = (),
    *,
    name: str = "recipe",
    folder: str | os.PathLike[str] = ".",
) -> Recipe:
    """Convert tables, as `tomllib` returns them, to a `Recipe`.

    Args:
        tables: Table name → key → value.
        settings: `table.key=value` each; they override `tables`.
        name: The source of `tables` in error messages.
        folder: The folder of relative paths in `tables`.

    Raises:
        RecipeError: As `load_recipe`.

    Example:
        >>> parse_recipe({"prune": {"sparsity": 0.9}}, ["prune.epochs=3"]).prune.epochs
        3
        >>> parse_recipe({"prune": {"sparsity": 80}})
        Traceback (most recent call last):
        tfprune.errors.RecipeError: recipe [prune] sparsity: expected a number in [0, 1).
        Received 80. Did you mean 0.8?
    """
    found = _Found(name, Path(folder), [], {})
    merged: dict[str, Any] = {
        table: dict(keys) if isinstance(keys, Mapping) else keys for table, keys in tables.items()
    }
    for setting in settings:
        _apply(setting, merged, found)
    parsed = {table: _table(table, keys, found) for table, keys in merged.items()}
    if not found.faults:
        recipe = Recipe(**parsed)
        for table, key, message in recipe.faults():
            found.add(table, key, message)
    if found.faults:
        raise RecipeError("\n".join(found.faults))
    return recipe


def parse_table(table: str, values: Mapping[str, Any], option: Callable[[str], str]) -> Any:
    """Return one table of a recipe, of values that options of a command gave.

    Args:
        table: The name of the table.
        values: Its keys and values.
        option: Returns the option of a key, for error messages.

    Raises:
        OptionError: With all errors, one per line.
    """
    found = _Found("", Path(), [], {(table, key): option(key) for key in values})
    made = _table(table, values, found)
    if found.faults:
        raise OptionError("\n".join(found.faults))
    return made


SETTING = re.compile(r"(?P<table>\w+)\.(?P<key>[\w-]+)(?P<inner>(\.[\w-]+)*)=(?P<value>.*)", re.S)


def _apply(setting: str, tables: dict[str, Any], found: _Found) -> None:
    match = SETTING.fullmatch(setting)
    if match is None:
        found.faults.append(
            f"--set {setting}: expected table.key=value, such as prune.sparsity=0.9. "
            f"Received {show(setting)}."
        )
        return
    table, key, inner = match["table"], match["key"], match["inner"].split(".")[1:]
    where = f"--set {match['table']}.{match['key']}{match['inner']}"
    found.settings[table, key] = where
    try:
        value = read_value(match["value"])
    except tomllib.TOMLDecodeError as error:
        found.faults.append(f"{where}: not a TOML value: {error}. Received {match['value']}")
        return
    if (table, key) in PATHS and isinstance(value, str) and is_file(value):
        value = str(Path(value).absolute())
    target = tables.setdefault(table, {})
    for name in [key, *inner][:-1]:
        if not isinstance(target, dict):
            break
        target[name] = dict(target[name]) if isinstance(target.get(name), Mapping) else {}
        target = target[name]
    if isinstance(target, dict):
        target[[key, *inner][-1]] = value


def read_value(text: str) -> Any:
    """Return a value written as TOML, or the text itself if it is a bare word.

    Raises:
        TOMLDecodeError: It is empty, or begins as a value of TOML and is none.
    """
    try:
        return tomllib.loads(f"value = {_whole_float(text)}")["value"]
    except tomllib.TOMLDecodeError:
        if not text.strip() or text[0] in "\"'[{":
            raise
        return text


def _whole_float(text: str) -> str:
    """Add the digits that TOML requires on both sides of the point to a number such as .9."""
    if re.fullmatch(r"[+-]?(\.\d+|\d+\.)", text):
        return text.replace(".", "0.") if text.lstrip("+-")[0] == "." else f"{text}0"
    return text


def _table(table: str, keys: object, found: _Found) -> Any:
    if table not in TABLES:
        written = [where for (name, _), where in found.settings.items() if name == table]
        where = written[0] if written else f"{found.name} [{table}]"
        found.faults.append(f"{where}: unknown table {show(table)}. {nearest(table, TABLES)}")
        return None
    if not isinstance(keys, Mapping):
        found.faults.append(f"{found.name} {table}: expected a table. Received {show(keys)}.")
        return None
    kind = TABLES[table]
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    refused = set()
    for key in [*keys, *(name for name in fields if name not in keys)]:
        if key not in fields:
            found.add(table, key, f"unknown key. {nearest(key, fields)}")
            continue
        allowed = fields[key].metadata["kind"]
        if key not in keys:
            if fields[key].default is dataclasses.MISSING:
                found.faults.append(f"{found.name} [{table}] {key}: required: {allowed.allowed}")
                return None
            continue
        try:
            values[key] = allowed.read(_located(table, key, keys[key], found))
        except Refused as hint:
            message = f"expected {allowed.allowed}. Received {show(keys[key])}. {hint}"
            found.add(table, key, message.strip())
            refused.add(key)
    if any(fields[key].default is dataclasses.MISSING for key in refused):
        return None
    # Refused keys have their defaults here, so that the other keys are checked too.
    made = kind(**values)
    for key, purpose in made.unread().items():
        if key in values:
            found.add(table, key, f"{purpose}. Remove it.")
    for keys_together, message in made.faults():
        if refused.isdisjoint(keys_together):
            found.add(table, keys_together[0], message)
    return made


def _located(table: str, key: str, value: object, found: _Found) -> object:
    if (table, key) not in PATHS or not isinstance(value, str) or not is_file(value):
        return value
    path = found.folder.absolute() / Path(value).expanduser()
    if not path.is_file():
        start = (
            "the current folder" if (table, key) in found.settings else "the folder of the recipe"
        )
        found.add(table, key, f"no such file: {path}. Paths are relative to {start}.")
    return str(path)
