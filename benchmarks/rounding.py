"""Accuracy of int8 and int4 files without retraining, by how their weights were rounded.

    TFPRUNE_DATA=… python benchmarks/rounding.py [--work DIR] [--table]

A finished cell is a line in DIR/cells.jsonl, a trained network a file there; killed and started
again, the run goes on.
"""

import argparse
import itertools
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from cells import Cell, finished, store
from datasets import Data
from harness import publish
from numpy.typing import NDArray
from rounding_networks import NETWORKS, TRAINING_IMAGES, trained

import tfprune
from tfprune.runtime.litert import Runner

SEEDS = (0, 1, 2)
SAMPLES = 256
BUDGET = {"samples": SAMPLES, "training_images": TRAINING_IMAGES}
WORDS = {
    "none": "float32",
    "nearest": "nearest",
    "corrected": "equalized, biases corrected",
    "learned": "learned",
}
CASES = (
    ("float32", "none"),
    *itertools.product(("int8", "int4"), ("nearest", "corrected", "learned")),
)
ANY = 100.0  # The bound: the table shows what is lost, whatever it is.


def measure(name: str, seed: int, scheme: str, method: str, model: Any, data: Data) -> Cell:
    """Return the accuracy of a file on the whole test set, and its bytes."""
    (x, _), (x_test, y_test) = data
    options: dict[str, Any] = {}
    if scheme != "float32":
        options["calibration"] = samples_of(x, seed)
        options["io"] = "float32"
        options["rounding"] = method
    start = time.process_time()
    file = tfprune.to_tflite(model, scheme=scheme, bound=ANY, **options)
    seconds = time.process_time() - start
    runner = Runner(file.bytes)
    pieces = np.array_split(x_test, max(len(x_test) // 500, 1))
    found = np.concatenate([runner(piece) for piece in pieces])
    wanted = np.concatenate([model(piece, training=False).numpy() for piece in pieces])
    return {
        "network": name,
        "seed": seed,
        "scheme": scheme,
        "method": method,
        **BUDGET,
        "accuracy": 100 * float(np.mean(found.argmax(-1) == y_test)),
        "error": 100 * float(np.sqrt(np.mean(np.square(found - wanted))) / wanted.std()),
        "raw_bytes": file.report.raw_bytes,
        "gzip_bytes": file.report.gzip_bytes,
        "cpu_s": seconds,
        "notes": file.report.notes,
    }


def samples_of(x: NDArray, seed: int) -> NDArray:
    """Return some of the training inputs."""
    return x[np.random.default_rng(seed).choice(len(x), SAMPLES, replace=False)]


def key(cell: Cell) -> tuple[Any, ...]:
    return cell["network"], cell["seed"], cell["scheme"], cell["method"]


def row(name: str, scheme: str, method: str, cells: dict[Any, Cell]) -> list[str] | None:
    """Return a row of the table; None if there are fewer than two seeds."""
    found = [cells.get((name, seed, scheme, method)) for seed in SEEDS]
    floats = [cells.get((name, seed, "float32", "none")) for seed in SEEDS]
    whole = [(a, b) for a, b in zip(found, floats, strict=True) if a and b]
    if len(whole) < 2:
        return None
    accuracy = np.array([a["accuracy"] for a, _ in whole])
    change = accuracy - [b["accuracy"] for _, b in whole]
    sizes = [f"{np.mean([a[k] for a, _ in whole]) / 1e3:.1f}" for k in ("raw_bytes", "gzip_bytes")]
    shown = [f"{accuracy.mean():.2f} ± {accuracy.std(ddof=1):.2f}", f"{change.mean():+.2f}"]
    shown.append(" ".join(f"{one:+.2f}" for one in change))
    shown.append(f"{np.mean([a['error'] for a, _ in whole]):.2f}")
    shown = shown if scheme != "float32" else [shown[0], "", "", ""]
    seconds = f"{np.mean([a['cpu_s'] for a, _ in whole]):.1f}"
    return [name, scheme, WORDS[method], *shown, *sizes, seconds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir(), "rounding"))
    parser.add_argument("--table", action="store_true", help="publish the finished cells")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    cells = finished(arguments.work, BUDGET, key)
    for seed, (name, network) in itertools.product(SEEDS, NETWORKS.items()):
        missing = [case for case in CASES if (name, seed, *case) not in cells]
        if arguments.table or not missing:
            continue
        data = network.data()
        model = trained(name, seed, arguments.work, data)
        for scheme, method in missing:
            cell = measure(name, seed, scheme, method, model, data)
            store(arguments.work, cell)
            cells[key(cell)] = cell
            print(*key(cell), f"{cell['accuracy']:.2f}", f"{cell['cpu_s']:.1f}s", file=sys.stderr)
    rows = [row(name, *case, cells) for name, case in itertools.product(NETWORKS, CASES)]
    columns = ["network", "file", "weights", "accuracy %", "change", "each seed", "error %"]
    publish(
        "rounding",
        title="Rounding weights without training",
        columns=[*columns, "raw KB", "gzip KB", "CPU s"],
        rows=[one for one in rows if one],
        numbers=list(cells.values()),
        seeds=SEEDS,
        remarks=[
            "`to_tflite(rounding=…)` on the networks of rounding_networks.py, trained briefly, "
            f"seeds {SEEDS}; {SAMPLES} unlabeled samples calibrate. Accuracy of the files on the "
            "whole test set, on which nothing was chosen; «change» is against the float32 file, in "
            "points; «error» is that of the logits, root mean square, of their standard deviation. "
            f"Images: Fashion-MNIST, {TRAINING_IMAGES:,} to train on. The transformer reads TREC "
            "questions, of which 500 are the test set: 0.2 points are one question; its embedding "
            "is float in 4-bit files. «CPU s»: in this process, without the converter's child.",
        ],
    )


if __name__ == "__main__":
    main()
