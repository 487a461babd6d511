"""Options that several commands share; many are the keys of a recipe's tables."""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

from tfprune.errors import OptionError


def option_of(key: str) -> str:
    """Return the option for a key of a recipe.

    Example:
        >>> option_of("round_to")
        '--round-to'
    """
    return f"--{key.replace('_', '-')}"


def add_keys(command: argparse.ArgumentParser, table: str, keys: Sequence[str]) -> None:
    """Declare an option for some keys of a recipe's table, with the help and default of the key."""
    from tfprune.recipe.kinds import NAMES, show
    from tfprune.recipe.recipe import TABLES

    fields = {field.name: field for field in dataclasses.fields(TABLES[table])}  # type: ignore[arg-type]
    for key in keys:
        field = fields[key]
        kind, default = field.metadata["kind"], field.default
        required = default is dataclasses.MISSING
        shown = "" if required or default in (None, ()) else f"; default {show(default)}"
        words = f"{field.metadata['help']}: {kind.described()}{shown}"
        command.add_argument(
            option_of(key),
            dest=key,
            metavar="NAME" if kind is NAMES else "VALUE",
            action="append" if kind is NAMES else "store",
            required=required,
            help=words.replace("%", "%%"),
        )


def read_keys(arguments: argparse.Namespace, table: str, keys: Sequence[str], **more: Any) -> Any:
    """Return the table of a recipe that the given options make; `more` are keys of no option.

    Raises:
        OptionError: A value is not allowed, with its option; one line for each.
    """
    from tfprune.recipe.parse import parse_table

    given = {key: getattr(arguments, key) for key in keys if getattr(arguments, key) is not None}
    values = {key: _value(value) for key, value in given.items()}
    return parse_table(table, {**more, **values}, option_of)


def _value(text: Any) -> Any:
    """Return the value of an option: TOML, a table such as macs=0.5, or plain text."""
    import tomllib

    from tfprune.recipe.parse import read_value

    if not isinstance(text, str):
        return text
    try:
        if "=" in text and not text.lstrip().startswith(("{", "[", '"', "'")):
            parts = [part.partition("=") for part in text.split(",")]
            return {key.strip(): read_value(value.strip()) for key, _, value in parts}
        return read_value(text)
    except tomllib.TOMLDecodeError as error:
        raise OptionError(f"{text}: not a TOML value: {error}") from None


def add_model(command: argparse.ArgumentParser, output: str) -> None:
    """Declare the model that a command takes and the file that it writes."""
    command.add_argument("model", metavar="MODEL", help="a .keras or .h5 file, or a SavedModel")
    command.add_argument("-o", "--out", metavar="FILE", required=True, help=output)
    add_code(command)


def add_code(command: argparse.ArgumentParser) -> None:
    """Declare the option that trusts a model's file."""
    command.add_argument(
        "--allow-code",
        action="store_true",
        help="let code in the model's file run (Lambda layers, own classes); only "
        "for files that you trust",
    )


def add_input_shape(command: argparse.ArgumentParser) -> None:
    """Declare the option for models that leave sizes open."""
    command.add_argument(
        "--input-shape",
        metavar="SIZES",
        help="sizes without the batch, such as 224,224,3, where the model leaves "
        "sizes open; for several inputs NAME=SIZES, repeated",
        action="append",
        default=[],
    )


def add_timing(command: argparse.ArgumentParser, runs: str) -> None:
    """Declare where and how files are timed."""
    command.add_argument(
        "--device",
        default="host",
        help="where to measure: host (the default), adb:SERIAL or ssh:HOST",
    )
    command.add_argument("--threads", type=int, default=1, help="threads of the runtime; default 1")
    command.add_argument("--runs", type=int, default=50, help=f"{runs}; default 50")
    command.add_argument(
        "--input-shape",
        metavar="NAME=SIZES",
        action="append",
        default=[],
        help="for an input with open sizes, such as tokens=1,128",
    )


def sizes_by_name(given: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return shapes by the name of the input.

    Raises:
        OptionError: One has another form than tokens=1,128.
    """
    found = {}
    for text in given:
        name, _, sizes = text.rpartition("=")
        if not name:
            raise OptionError(f"--input-shape {text}: expected NAME=SIZES, such as tokens=1,128")
        found[name] = _sizes(text, sizes, "NAME=SIZES, such as tokens=1,128")
    return found


def one_shape(given: Sequence[str]) -> tuple[int, ...] | dict[str, tuple[int, ...]] | None:
    """Return the shape of the input, shapes by name, or None if none is given."""
    if len(given) == 1 and "=" not in given[0]:
        return _sizes(given[0], given[0], "SIZES, such as 224,224,3")
    return sizes_by_name(given) or None


def _sizes(text: str, sizes: str, form: str) -> tuple[int, ...]:
    parts = sizes.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise OptionError(f"--input-shape {text}: expected {form}")
    return tuple(map(int, parts))
