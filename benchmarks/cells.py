"""Finished cells of a long study, a line of JSON each, so that a run that was killed goes on."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

Cell = dict[str, Any]

FILE = "cells.jsonl"


def read(work: Path) -> Iterator[Cell]:
    """Give the finished cells in a folder; a line that was cut off in writing does not count."""
    path = work / FILE
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue  # its cell is done again


def store(work: Path, cell: Cell) -> None:
    """Append a cell, on a line of its own even if the last one was cut off."""
    with open(work / FILE, "a+b") as file:
        start = b""
        if file.tell():
            file.seek(-1, 2)
            start = b"" if file.read() == b"\n" else b"\n"
        file.write(start + json.dumps(cell).encode() + b"\n")


def finished(work: Path, budget: Mapping[str, Any], key: Callable[[Cell], Any]) -> dict[Any, Cell]:
    """Return the finished cells by their keys, all made with the budget."""
    found = {}
    for cell in read(work):
        check_budget(work, cell, budget)
        found[key(cell)] = cell
    return found


def check_budget(work: Path, cell: Cell, budget: Mapping[str, Any]) -> None:
    """End the program if a cell was made with another budget: it does not compare."""
    stale = {name for name, value in budget.items() if cell[name] != value}
    if stale:
        raise SystemExit(
            f"{work / FILE}: made with another {', '.join(stale)}; give another --work"
        )
