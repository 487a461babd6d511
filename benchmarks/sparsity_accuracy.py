"""Accuracy after pruning: tensorflow-model-optimization beside tfprune, equal training budgets.

    TFPRUNE_DATA=… python benchmarks/sparsity_accuracy.py [--work DIR] [--table]

For every network and seed a dense network is trained once. Each method then prunes those same
weights while it fine-tunes them with the same batches, optimizer, rate and schedule. A finished
cell is a line in DIR/cells.jsonl; killed and started again, the run goes on from there. The test
set gives the final numbers and nothing else.
"""

import argparse
import itertools
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from cells import finished, store
from harness import publish
from workers import Job, Worker, WorkerError, peer_versions

Cells = dict[tuple[Any, ...], Job]

NETWORKS = {
    "lenet_300_100": ("LeNet-300-100", "mnist"),
    "lenet_5": ("LeNet-5", "mnist"),
    "fashion_convnet": ("convnet 109k", "fashion_mnist"),
}
SPARSITIES = (0.8, 0.9, 0.95, 0.98)
SEEDS = (0, 1, 2)
METHODS = {
    "tfmot": "tfmot, magnitude",
    "magnitude-uniform": "tfprune, magnitude, uniform",
    "magnitude-global": "tfprune, magnitude, global",
    "movement": "tfprune, movement, uniform",
    "movement-global": "tfprune, movement, global",
    "random": "tfprune, random (control)",
}
BUDGET = {
    "batch": 128,
    "dense_epochs": 4,
    "dense_rate": 1e-3,
    "prune_epochs": 2,
    "prune_rate": 3e-3,
    "ramp": 0.7,
    "frequency": 20,
}
"""`ramp`: the share of the fine-tuning in which sparsity rises, cut to a multiple of `frequency`
so that tensorflow-model-optimization, which only prunes at such multiples, reaches its target."""


def jobs(peer: str, work: Path) -> Iterator[Job]:
    """Yield one worker's cells, seed by seed, so that a run cut short has whole tables."""
    for seed, (network, (_, data)) in itertools.product(SEEDS, NETWORKS.items()):
        common = {
            "network": network,
            "data": data,
            "seed": seed,
            "weights": str(work / f"{network}-{seed}.npz"),
            **BUDGET,
        }
        if peer == "tfprune":
            yield {"method": "dense", "sparsity": 0.0, **common}
        for sparsity, method in itertools.product(reversed(SPARSITIES), METHODS):
            if (method == "tfmot") == (peer == "tfmot"):
                yield {"method": method, "sparsity": sparsity, **common}


def key(job: Job) -> tuple[Any, ...]:
    return job["network"], job["seed"], job["method"], job["sparsity"]


class Run:
    """Two workers, one a generation of Keras, that finish cells side by side."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.cells = finished(work, BUDGET, key)
        self.changed = threading.Condition()
        self.failure: WorkerError | None = None

    def store(self, cell: Job) -> None:
        with self.changed:
            store(self.work, cell)
            self.cells[key(cell)] = cell
            self.changed.notify_all()

    def wait_for_dense(self, job: Job) -> bool:
        """Wait until the dense network of a job's seed is there; False if it will never be."""
        dense = (job["network"], job["seed"], "dense", 0.0)
        with self.changed:
            self.changed.wait_for(lambda: dense in self.cells or self.failure)
            return dense in self.cells

    def follow(self, peer: str) -> None:
        """Do all cells of one worker."""
        todo = [job for job in jobs(peer, self.work) if key(job) not in self.cells]
        if not todo:
            return
        try:
            with Worker("train_and_prune.py", peer) as worker:
                for job in todo:
                    if job["method"] != "dense" and not self.wait_for_dense(job):
                        return
                    cell = {**job, **worker.ask(job)}
                    self.store(cell)
                    print(*key(cell), f"validation {cell['validation']:.4f}", flush=True)
        except WorkerError as error:
            with self.changed:
                self.failure = error
                self.changed.notify_all()


def rows(cells: Cells) -> list[list[str]]:
    """Return the test accuracies in per cent, mean ± standard deviation over the seeds."""
    found = []
    for network, (title, data) in NETWORKS.items():
        dense = spread(column(cells, network, "dense", 0.0, "test"))
        found.append([f"{title}, {data.replace('_', '-')}", "dense", *[dense] * len(SPARSITIES)])
        for method, label in METHODS.items():
            accuracies = [column(cells, network, method, s, "test") for s in SPARSITIES]
            found.append(["", label, *map(spread, accuracies)])
    return found


def column(cells: Cells, network: str, method: str, sparsity: float, what: str) -> list[Any]:
    """Return one figure of the seeds that are finished."""
    keys = [(network, seed, method, sparsity) for seed in SEEDS]
    return [cells[key][what] for key in keys if key in cells]


def spread(values: list[float]) -> str:
    if len(values) < 2:
        return f"{100 * values[0]:.2f} (1 seed)" if values else "–"
    short = "" if len(values) == len(SEEDS) else f" ({len(values)} seeds)"
    return f"{100 * np.mean(values):.2f} ± {100 * np.std(values, ddof=1):.2f}{short}"


def layers(cells: Cells) -> list[str]:
    """Say for every network what each allocation leaves of each kernel at the highest sparsity."""
    found = []
    for network, (title, _) in NETWORKS.items():
        kept = {method: column(cells, network, method, SPARSITIES[-1], "kept") for method in
                ("magnitude-uniform", "magnitude-global")}  # fmt: skip
        sizes = column(cells, network, "magnitude-uniform", SPARSITIES[-1], "sizes")
        if not all(kept.values()):
            continue
        shown = {m: ", ".join(f"{n:,.0f}" for n in np.mean(k, axis=0)) for m, k in kept.items()}
        found.append(
            f"{title} at {SPARSITIES[-1]:.0%}, weights kept a kernel (mean over seeds), of "
            f"{', '.join(f'{n:,}' for n in sizes[0])}: uniform {shown['magnitude-uniform']}; "
            f"global {shown['magnitude-global']}."
        )
    return found


def means(cells: Cells, sparsity: float) -> str:
    """Compare global with uniform magnitude at a sparsity, in points of accuracy."""
    gains = []
    for network, (title, _) in NETWORKS.items():
        of_all = column(cells, network, "magnitude-global", sparsity, "test")
        of_each = column(cells, network, "magnitude-uniform", sparsity, "test")
        if of_all and len(of_all) == len(of_each):
            gains.append(f"{title} {100 * (np.mean(of_all) - np.mean(of_each)):+.2f}")
    return f"Global minus uniform magnitude at {sparsity:.0%}, in points: {', '.join(gains)}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    default = Path(tempfile.gettempdir()) / "tfprune-sparsity-accuracy"
    parser.add_argument("--work", type=Path, default=default, help=f"default {default}")
    parser.add_argument("--table", action="store_true", help="only print what is finished")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    run = Run(options.work)
    if not options.table:
        threads = [threading.Thread(target=run.follow, args=[p]) for p in ("tfprune", "tfmot")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if run.failure:
            raise SystemExit(str(run.failure))
    cells = run.cells
    done = sum(key(job) in cells for peer in ("tfprune", "tfmot") for job in jobs(peer, Path()))
    total = sum(1 for peer in ("tfprune", "tfmot") for _ in jobs(peer, Path()))
    unfinished = [] if done == total else [f"Unfinished: {done} of {total} cells are done."]
    publish(
        "sparsity_accuracy",
        title="Accuracy after pruning",
        columns=("network, data", "method", *(f"{s:.0%}" for s in SPARSITIES)),
        rows=rows(cells),
        numbers={"budget": BUDGET, "cells": [cell_of(cell) for cell in cells.values()]},
        seeds=SEEDS,
        remarks=[
            *unfinished,
            f"Test accuracy in per cent, mean ± standard deviation over seeds {SEEDS}. All methods "
            f"of a seed start from the same dense weights ({BUDGET['dense_epochs']} epochs of "
            f"Adam at {BUDGET['dense_rate']:g}) and see the same batches of {BUDGET['batch']} in "
            f"{BUDGET['prune_epochs']} epochs of Adam at {BUDGET['prune_rate']:g}, sparsity "
            f"rising polynomially over the first {BUDGET['ramp']:.0%} with an update every "
            f"{BUDGET['frequency']} steps. The rate was chosen among 1e-3 and 3e-3 on 5,000 "
            "training images put aside, with LeNet-5 and tfprune's magnitude scores, and is the "
            "same for all.",
            means(cells, 0.95),
            means(cells, 0.98),
            *layers(cells),
            peer_versions(),
        ],
    )


def cell_of(cell: Job) -> Job:
    """Return a cell without what all share and without its folder."""
    return {name: v for name, v in cell.items() if name not in BUDGET and name != "weights"}


if __name__ == "__main__":
    main()
