"""Training under int8 rounding with zeros kept: tensorflow-model-optimization beside tfprune.

    TFPRUNE_DATA=… python benchmarks/qat.py [--work DIR] [--table]

For every network and seed a dense network is trained and pruned once. Each method then makes an
int8 file of those same weights, after training with the same batches, optimizer and rate (the
first one after none). A finished cell is a line in DIR/cells.jsonl; killed and started again, the
run goes on from there.
"""

import argparse
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from cells import finished, store
from harness import publish
from workers import Job, Worker, peer_versions

Cells = dict[tuple[Any, ...], Job]

NETWORKS = {"fashion_convnet": "convnet 109k", "resnet_8": "ResNet-8"}
SPARSITIES = (0.5, 0.8)
SEEDS = (0, 1, 2)
METHODS = {
    "ptq": "tfprune, int8 without training",
    "qat": "tfprune, `quantize_aware`",
    "tfmot-pqat": "tfmot, PQAT",
    "qat-plain": "tfprune, `keep_zeros=False`",
    "tfmot-qat": "tfmot, QAT",
}
BUDGET = {
    "images": 20_000,
    "batch": 128,
    "dense_epochs": 3,
    "dense_rate": 2e-3,
    "prune_epochs": 2,
    "prune_rate": 1e-3,
    "quantize_epochs": 1,
    "quantize_rate": 3e-4,
    "calibration": 500,
}


def jobs(work: Path) -> Iterator[Job]:
    """Yield all cells, seed by seed, so that a run cut short has whole tables."""
    for seed, network in itertools.product(SEEDS, NETWORKS):
        common = {
            "network": network,
            "seed": seed,
            "dense": str(work / f"{network}-{seed}.keras"),
            **BUDGET,
        }
        yield {"method": "dense", "sparsity": 0.0, **common}
        for sparsity in SPARSITIES:
            pruned = str(work / f"{network}-{seed}-{sparsity}.keras")
            for method in ("prune", *METHODS):
                yield {"method": method, "sparsity": sparsity, "pruned": pruned, **common}


def key(job: Job) -> tuple[Any, ...]:
    return job["network"], job["seed"], job["method"], job["sparsity"]


def finish(work: Path) -> Cells:
    """Do the cells that are missing, one at a time: the methods take turns."""
    cells = finished(work, BUDGET, key)
    todo = [job for job in jobs(work) if key(job) not in cells]
    if not todo:
        return cells
    with Worker("quantize.py", "tfprune") as ours, Worker("quantize.py", "tfmot") as theirs:
        for job in todo:
            worker = theirs if job["method"].startswith("tfmot") else ours
            cell = {**job, **worker.ask(job)}
            store(work, cell)
            cells[key(cell)] = cell
            shown = {name: cell.get(name) for name in ("trained", "file", "gzip_bytes")}
            print(*key(cell), shown, f"{cell['cpu_seconds']:.0f} s", flush=True)
    return cells


def of_seeds(cells: Cells, network: str, sparsity: float, method: str) -> list[Job]:
    """Return the finished cells of one row of the table."""
    keys = [(network, seed, method, sparsity) for seed in SEEDS]
    return [cells[key] for key in keys if key in cells]


def rows(cells: Cells) -> list[list[str]]:
    found = []
    for (network, title), sparsity in itertools.product(NETWORKS.items(), SPARSITIES):
        for method, label in METHODS.items():
            done = of_seeds(cells, network, sparsity, method)
            if not done:
                continue
            first = method == next(iter(METHODS))
            found.append(
                [
                    f"{title}, {sparsity:.0%} zeros" if first else "",
                    label,
                    spread([cell["trained"] for cell in done]),
                    spread([cell["file"] for cell in done]),
                    f"{max(abs(cell['file'] - cell['trained']) for cell in done):.2f}",
                    f"{np.mean([cell['agreement'] for cell in done]):.1f}",
                    spread([100 * cell["file_zeros"] / cell["weights"] for cell in done], 1),
                    f"{max(cell['lost_zeros'] for cell in done):,}",
                    f"{np.mean([cell['gzip_bytes'] for cell in done]) / 1e3:.1f}",
                    "yes" if not any(cell["float_operations"] for cell in done) else "no",
                ]
            )
    return found


def spread(values: list[float], digits: int = 2) -> str:
    """Return mean ± sample standard deviation."""
    if len(values) < 2:
        return f"{values[0]:.{digits}f} (1 seed)"
    short = "" if len(values) == len(SEEDS) else f" ({len(values)} seeds)"
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}{short}"


def before(cells: Cells) -> Iterator[str]:
    """Say what the networks were before they were quantized."""
    for network, title in NETWORKS.items():
        parts = []
        for sparsity, method in ((0.0, "dense"), *((s, "prune") for s in SPARSITIES)):
            done = of_seeds(cells, network, sparsity, method)
            if done:
                parts.append(f"{sparsity:.0%} {spread([cell['trained'] for cell in done])}")
        yield f"{title} in floats, accuracy by zeros: {', '.join(parts)}."


def bytes_beside_peer(cells: Cells) -> Iterator[str]:
    """Compare the zipped bytes with those of the peer's PQAT, seed by seed."""
    for (network, title), sparsity in itertools.product(NETWORKS.items(), SPARSITIES):
        ours = of_seeds(cells, network, sparsity, "qat")
        theirs = of_seeds(cells, network, sparsity, "tfmot-pqat")
        ratios = [
            a["gzip_bytes"] / b["gzip_bytes"]
            for a in ours
            for b in theirs
            if a["seed"] == b["seed"]
        ]
        if ratios:
            yield (
                f"Zipped bytes of `quantize_aware` over PQAT, {title}, {sparsity:.0%}: "
                f"{', '.join(f'{ratio:.3f}' for ratio in ratios)}."
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    default = Path(tempfile.gettempdir()) / "tfprune-qat"
    parser.add_argument("--work", type=Path, default=default, help=f"default {default}")
    parser.add_argument("--table", action="store_true", help="only print what is finished")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    cells = finished(options.work, BUDGET, key) if options.table else finish(options.work)
    total = sum(1 for _ in jobs(options.work))
    unfinished = [] if len(cells) == total else [f"Unfinished: {len(cells)} of {total} cells."]
    publish(
        "qat",
        title="Training under int8 rounding, with pruned zeros kept",
        columns=("network", "method", "trained %", "file %", "apart, at most", "same class %",
                 "zeros in the file %", "pruned weights that came back", "gzip KB", "full int8"),
        rows=rows(cells),
        numbers={"budget": BUDGET, "cells": [cell_of(cell) for cell in cells.values()]},
        seeds=SEEDS,
        remarks=[
            *unfinished,
            "Fashion-MNIST, the whole test set; mean ± standard deviation over seeds "
            f"{SEEDS}. «Trained» is the Keras model with its rounding, «file» the .tflite made "
            "of it (int8 in and out) under LiteRT; «apart» is the largest difference of the two "
            "in points of accuracy, «same class» how often they name the same one.",
            f"All methods of a seed start from the same pruned weights and see the same batches: "
            f"{BUDGET['quantize_epochs']} epoch of {BUDGET['images']:,} images, Adam at "
            f"{BUDGET['quantize_rate']:g}. «PQAT» is tfmot's prune-preserving scheme on the model "
            "that `to_tf_keras` gives.",
            *before(cells),
            *bytes_beside_peer(cells),
            peer_versions(),
        ],
    )  # fmt: skip


def cell_of(cell: Job) -> Job:
    """Return a cell without what all share and without its folder."""
    hidden = {*BUDGET, "dense", "pruned"}
    return {name: value for name, value in cell.items() if name not in hidden}


if __name__ == "__main__":
    main()
