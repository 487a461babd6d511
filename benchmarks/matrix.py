"""Architectures × generations of Keras × schemes: the table of what can be converted.

    python benchmarks/matrix.py [--work DIR] [--only TEXT] [--table]

A finished cell is a line in DIR/cells.jsonl; killed and started again, the run goes on from there.
Ends with an error if a cell is neither right nor a refusal that is known. The same cells are the
tests of tests/deploy/test_matrix.py.
"""

import argparse
import itertools
import re
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cells import read, store
from harness import publish

from tfprune.runtime.schemes import SCHEMES

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.deploy.matrix import ARCHITECTURES, GENERATIONS, Outcome, fault, outcome

Key = tuple[str, str, str]
Cells = dict[Key, dict[str, Any]]


def keys() -> list[Key]:
    return list(itertools.product(GENERATIONS, ARCHITECTURES, SCHEMES))


def read_cells(work: Path) -> Cells:
    """Return the finished cells."""
    return {(cell["generation"], cell["name"], cell["scheme"]): cell for cell in read(work)}


def finish(work: Path, only: str) -> None:
    """Do the cells that are missing and whose key holds a text."""
    for key in keys():
        if only not in " ".join(key) or key in read_cells(work):
            continue
        start = time.perf_counter()
        found = asdict(outcome(*key))
        cell = {**dict(zip(("generation", "name", "scheme"), key, strict=True)), **found}
        store(work, cell)
        print(*key, found, f"{time.perf_counter() - start:.0f} s", flush=True)


def verdict(key: Key, cell: dict[str, Any]) -> str:
    """Return what is wrong with a cell, if anything is."""
    return fault(key, Outcome(cell["refusal"], cell["error"], cell["correlation"]))


def shown(cell: dict[str, Any] | None, notes: list[str]) -> str:
    """Return a cell as words: the correlation and the error, or the number of a note."""
    if cell is None:
        return "–"
    if not cell["refusal"]:
        return f"{cell['correlation']:.5f}, {cell['error']:.1g}"
    text = re.sub(r"model '\w+'|output '[^']*'", lambda m: m.group().split(" ")[0], cell["refusal"])
    if text not in notes:
        notes.append(text)
    return f"refused ({notes.index(text) + 1})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    default = Path(tempfile.gettempdir()) / "tfprune-matrix"
    parser.add_argument("--work", type=Path, default=default, help=f"default {default}")
    parser.add_argument("--only", default="", help="only cells whose key holds this text")
    parser.add_argument("--table", action="store_true", help="only print what is finished")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if not options.table:
        finish(options.work, options.only)
    if options.only:
        return
    cells = read_cells(options.work)
    notes: list[str] = []
    rows = [
        [name, generation, *(shown(cells.get((generation, name, s)), notes) for s in SCHEMES)]
        for name, generation in itertools.product(ARCHITECTURES, GENERATIONS)
    ]
    faults = {key: verdict(key, cell) for key, cell in cells.items() if key in keys()}
    faults = {key: fault for key, fault in faults.items() if fault}
    missing = [key for key in keys() if key not in cells]
    publish(
        "matrix",
        title="Models, both Keras, every scheme: right or refused",
        columns=("model", "Keras", *SCHEMES),
        rows=rows,
        numbers=list(cells.values()),
        seeds=(0,),
        remarks=[
            *([f"Unfinished: {len(cells)} of {len(keys())} cells."] if missing else []),
            "MobileNetV2, EfficientNetB0 and ResNet50 learned scikit-learn's digits for a few "
            "epochs, and half of their weights are zero; the others have random weights, 80 % of "
            "them zero, and BatchNorm statistics of the samples. A cell is the "
            "correlation of the file with the model and their largest difference, as a fraction of "
            "the output's scale, on 24 samples under the default runtime; or the refusal.",
            *(f"\n({number}) {note}" for number, note in enumerate(notes, 1)),
            *(f"\nFAULT {' '.join(key)}: {fault}" for key, fault in faults.items()),
        ],
    )
    if faults:
        raise SystemExit(f"{len(faults)} cells are wrong")


if __name__ == "__main__":
    main()
