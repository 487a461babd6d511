"""What every benchmark here does alike: take turns, repeat, and store what it printed.

A result is two files in results/: NAME.md, the table as it was printed, and NAME.json, its numbers
with the versions, the seeds and the machine.
"""

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from house_source import commit_of

from tfprune.measure.comparison import versions
from tfprune.measure.devices.host import processor
from tfprune.measure.latency import ratio_of
from tfprune.report.data import Ratio
from tfprune.storage.files import write_atomic
from tfprune.utils.text_table import markdown_table

RESULTS = Path(__file__).parent / "results"

Case = Callable[[], float]


def take_turns(cases: Mapping[str, Case], rounds: int) -> dict[str, list[float]]:
    """Call each case once a round and return what they gave.

    A case measures one thing and returns its figure, such as milliseconds. Every round begins with
    the next case, so that none always runs after the same other one.

    Example:
        >>> take_turns({"a": lambda: 1.0, "b": lambda: 2.0}, rounds=3)
        {'a': [1.0, 1.0, 1.0], 'b': [2.0, 2.0, 2.0]}
    """
    names = list(cases)
    found: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            found[name].append(cases[name]())
    return found


def ratios_to(baseline: str, samples: Mapping[str, Sequence[float]]) -> dict[str, Ratio]:
    """Return each case's ratio to the baseline, round by round.

    Example:
        >>> ratios_to("a", {"a": [1.0, 2.0], "b": [2.0, 4.0]})["b"].median
        2.0
    """
    base = samples[baseline]
    return {
        name: ratio_of([value / beside for value, beside in zip(values, base, strict=True)])
        for name, values in samples.items()
    }


def publish(
    name: str,
    *,
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers: Any,
    seeds: Sequence[int],
    remarks: Sequence[str] = (),
    folder: Path = RESULTS,
) -> None:
    """Print a table and store it, and its numbers, under a name.

    Args:
        name: The name of both files.
        title: The heading.
        columns: The heads of the columns.
        rows: The table, as words.
        numbers: All figures, as JSON can hold them.
        seeds: Of everything random.
        remarks: Sentences under the table.
        folder: Where to store it.
    """
    # How many processes wanted a core in the last minute; more than there are cores means noise.
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    machine = f"{host()['processor']}, {host()['cores']} cores, {host()['system']}, load {load}"
    packages = ", ".join(f"{package} {version}" for package, version in versions().items())
    text = "\n".join(
        [
            f"# {title}",
            "",
            markdown_table(columns, rows),
            "",
            *remarks,
            "",
            f"{machine}. {packages}.",
            "",
        ]
    )
    record = {
        "title": title,
        "host": host(),
        "versions": versions(),
        "load": load,
        "commit": commit_of(Path(__file__).parent),
        "seeds": list(seeds),
        "remarks": list(remarks),
        "numbers": numbers,
    }
    write_atomic(folder / f"{name}.md", text)
    write_atomic(folder / f"{name}.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(text)


def host() -> dict[str, str | int]:
    """Return what this machine is."""
    return {
        "processor": processor(),
        "cores": os.cpu_count() or 0,
        "system": f"{platform.system()} {platform.machine()}",
    }
