"""Models × verbs: what tfprune does with architectures as people write them.

    python benchmarks/verbs.py [--applications] [--work DIR] [--only TEXT] [--verb NAME]
                               [--limit SECONDS] [--table]

The models are those of benchmarks/architectures, or all of keras.applications.
Cells run in a child process; what ends it is a fault of the cell that was under way, and the next
cells go on in a new one. A finished cell is a line in DIR/cells.jsonl; killed and
started again, the run goes on from there. The table is stored once all cells that were asked for
are finished, unless only some were asked for.
"""

import argparse
import itertools
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from architectures import ARCHITECTURES, Architecture
from cells import read, store
from harness import publish
from verb_cells import SPARSITY, VERBS, cells_of

from tfprune.workers.pool import MODULE, ChildError, stream_job
from tfprune.workers.process import module_command

Key = tuple[str, str]
Cells = dict[Key, dict[str, Any]]

HEADS = {
    "shrink": "shrink, half of the MACs",
    "prune": f"prune {SPARSITY:.0%} while fitting",
    "quantize_aware": "quantize_aware, fit, int8",
}
KINDS = ("done", "refused", "fault")
OF_APPLICATIONS = ("shrink", "prune", "quantize_aware", "int8", "ONNX")
"""The verbs for keras.applications, which take a minute each."""
APPLICATIONS = "applications"
TABLES = {
    False: ("verbs", "Architectures as people write them × what tfprune does"),
    True: ("verbs_applications", "keras.applications × what tfprune does"),
}
A_CHILD = 60
"""Cells after which a new child process begins: TensorFlow gives little of its memory back."""
A_CHILD_OF_APPLICATIONS = 6


def read_cells(work: Path) -> Cells:
    """Return the finished cells; of one that was done twice, the later."""
    return {(cell["name"], cell["verb"]): cell for cell in read(work)}


def kind_of(cell: dict[str, Any]) -> str:
    """Return what became of a cell: done, refused or fault."""
    return next(kind for kind in KINDS if kind in cell)


def outcomes(keys: Sequence[Key], limit_s: float) -> Iterator[dict[str, Any]]:
    """Yield cells; one that ends the child process or takes too long is a fault."""
    left = list(keys)
    # Of this kind, a child may take as much memory as a training needs.
    command = module_command(MODULE, "converter")
    while left:
        large = ARCHITECTURES[left[0][0]].domain == APPLICATIONS
        some = left[: A_CHILD_OF_APPLICATIONS if large else A_CHILD]
        try:
            for cell in stream_job(cells_of, some, limit_s=limit_s, command=command):
                left.pop(0)
                yield cell
            continue
        except ChildError as error:
            fault = " ".join(str(error).split())[:400]
        name, verb = left.pop(0)
        yield {"name": name, "verb": verb, "fault": fault, "seconds": None}


def finish(work: Path, names: Sequence[str], verbs: Sequence[str], limit_s: float) -> None:
    """Do the cells that are missing."""
    done = read_cells(work)
    keys = [key for key in itertools.product(names, verbs) if key not in done]
    for cell in outcomes(keys, limit_s):
        store(work, cell)
        kind = kind_of(cell)
        print(f"{cell['name']}, {cell['verb']}: {kind}: {cell[kind]} ({cell['seconds']} s)")
        sys.stdout.flush()


def without_names(text: str) -> str:
    """Return a refusal without what differs from model to model, to explain each one once."""
    text = re.sub(r"'[^']*'|[\w.]+/[\w./]+", "'…'", text)
    text = re.sub(r"architectures\.\w+|\bdynamic\b|\([^()]*has no rule.*\)", "#", text)
    return re.sub(r"\b[\w.+-]*\d[\w.+-]*\b", "#", text)


class Notes:
    """Refusals and faults by number, each shown once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self.lines: list[str] = []
        self.counts: Counter[int] = Counter()

    def number(self, kind: str, text: str) -> int:
        """Return the number of a refusal or fault, a new one if none is like it."""
        like = f"{kind} {without_names(text)}"
        if like not in self._numbers:
            self._numbers[like] = len(self.lines) + 1
            self.lines.append(f"{'FAULT ' if kind == 'fault' else ''}{text}")
        self.counts[self._numbers[like]] += 1
        return self._numbers[like]

    def shown(self) -> Iterator[str]:
        """Yield the notes below the table."""
        for number, line in enumerate(self.lines, 1):
            times = f" ({self.counts[number]} cells, this is the first)"
            yield f"\n({number}) {line}{times if self.counts[number] > 1 else ''}"


def words(cell: dict[str, Any] | None, notes: Notes) -> str:
    """Return a cell as words: its figure, or the number of a note."""
    if cell is None:
        return "–"
    kind = kind_of(cell)
    if kind == "done":
        return str(cell["done"])
    number = notes.number(kind, cell[kind])
    return f"**FAULT** ({number})" if kind == "fault" else f"refused ({number})"


def sums(cells: Cells, verbs: Sequence[str]) -> list[str]:
    """Return the last row: how many models each verb did."""
    found = []
    for verb in verbs:
        kinds = Counter(kind_of(cell) for (_, other), cell in cells.items() if other == verb)
        found.append(f"{kinds['done']} of {kinds.total()}")
    return found


def publish_table(
    cells: Cells, chosen: Sequence[Architecture], verbs: Sequence[str], name: str, title: str
) -> None:
    """Print and store the table of some models and verbs."""
    notes = Notes()
    rows = [
        [one.domain, one.name, *(words(cells.get((one.name, verb)), notes) for verb in verbs)]
        for one in chosen
    ]
    missing = len(chosen) * len(verbs) - len(cells)
    publish(
        name,
        title=title,
        columns=("domain", "model", *(HEADS.get(verb, verb) for verb in verbs)),
        rows=[*rows, ["", "done", *sums(cells, verbs)]],
        numbers=list(cells.values()),
        seeds=(0,),
        remarks=[
            *([f"Unfinished: {missing} cells are missing."] if missing else []),
            "Models of random weights (benchmarks/architectures/). `units`: the groups that can be "
            "removed, and their share of the weights. `shrink`: the MACs left, and the difference "
            "from the silenced original. `prune`: the kernels whose zeros were counted after "
            "stripping. Files: the root mean square of the difference from the Keras model, "
            "as a share of the output's standard deviation, and how often the largest output is "
            "the same one (of random weights, whose outputs are close to each other). `bound=`: "
            "noise of half a step of 8 bits on the tensors moves the outputs by more than the "
            "bound, as it does in deep networks of random weights; any difference was accepted.",
            *notes.shown(),
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    default = Path(tempfile.gettempdir()) / "tfprune-verbs"
    parser.add_argument("--work", type=Path, default=default, help=f"default {default}")
    parser.add_argument("--only", default="", help="only models whose domain and name hold this")
    parser.add_argument("--verb", choices=VERBS, action="append", help="only this verb, or these")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for a cell")
    parser.add_argument("--applications", action="store_true", help="keras.applications instead")
    parser.add_argument("--table", action="store_true", help="only print what is finished")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    # Where the child processes find the cells' module.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [sys.path[0], os.getenv("PYTHONPATH")]))
    ours = [o for o in ARCHITECTURES.values() if options.applications == (o.domain == APPLICATIONS)]
    verbs = options.verb or (OF_APPLICATIONS if options.applications else list(VERBS))
    names = [one.name for one in ours if options.only in f"{one.domain} {one.name}"]
    if not names:
        raise SystemExit(f"--only: no model holds {options.only!r}")
    if not options.table:
        finish(options.work, names, verbs, options.limit)
    if (options.only or options.verb) and not options.table:
        return
    known = {(one.name, verb) for one in ours for verb in verbs}
    cells = {key: cell for key, cell in read_cells(options.work).items() if key in known}
    file, title = TABLES[options.applications]
    publish_table(cells, ours, verbs, file, title)
    faults = sum(kind_of(cell) == "fault" for cell in cells.values())
    if faults:
        raise SystemExit(f"{faults} cells are faults")


if __name__ == "__main__":
    main()
