"""Weight clustering: tensorflow-model-optimization beside tfprune, in floats and under rounding.

    TFPRUNE_DATA=… python benchmarks/clustering.py [--work DIR] [--table]

For every seed a dense network is trained and pruned once. From the dense and from the pruned
weights, both packages cluster, and then train under int8 rounding, with the same batches, optimizer
and rate. A finished cell is a line in DIR/cells.jsonl; killed and started again, the run goes on.
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
from qat import cell_of, spread
from workers import Job, Worker, peer_versions

Key = tuple[Any, ...]
Cells = dict[Key, Job]

NETWORKS = {"fashion_convnet": "convnet 109k"}
SEEDS = (0, 1, 2)
SPARSITY = 0.5
CLUSTERS = (16,)
MAKERS = {"ours": "tfprune", "theirs": "tfmot"}
FILES = {
    "float32": "float32",
    "int8": "int8, without training under rounding",
    "aware": "int8, trained under rounding",
}
NAMES = {(True, False): "PQAT", (False, True): "CQAT", (True, True): "PCQAT"}
BUDGET = {
    "images": 10_000,
    "batch": 128,
    "dense_epochs": 4,
    "dense_rate": 2e-3,
    "prune_epochs": 2,
    "prune_rate": 1e-3,
    "cluster_epochs": 1,
    "cluster_rate": 3e-4,
    "quantize_epochs": 1,
    "quantize_rate": 3e-4,
    "calibration": 200,
}


def jobs(work: Path) -> Iterator[Job]:
    """Yield all cells, seed by seed, so that a run cut short has whole tables."""
    for seed, network in itertools.product(SEEDS, NETWORKS):
        common = {
            "network": network,
            "seed": seed,
            "dense": str(work / f"{network}-{seed}.keras"),
            "pruned": str(work / f"{network}-{seed}-pruned.keras"),
            "sparsity": SPARSITY,
            **BUDGET,
        }
        yield {"method": "dense", "zeros": False, "clusters": 0, **common}
        yield {"method": "prune", "zeros": True, "clusters": 0, **common}
        for zeros in (False, True):
            yield {"method": "plain", "zeros": zeros, "clusters": 0, **common}
        for clusters, zeros in [*itertools.product(CLUSTERS, (False, True)), (0, True)]:
            for maker in MAKERS:
                yield {"method": maker, "zeros": zeros, "clusters": clusters, **common}


def key(job: Job) -> Key:
    return job["network"], job["seed"], job["method"], job["zeros"], job["clusters"]


def finish(work: Path, only_read: bool) -> Cells:
    """Return the finished cells, after doing those that are missing unless only reading."""
    cells: Cells = finished(work, BUDGET, key)
    todo = [] if only_read else [job for job in jobs(work) if key(job) not in cells]
    if not todo:
        return cells
    with Worker("cluster.py", "tfprune") as ours, Worker("cluster.py", "tfmot") as theirs:
        for job in todo:
            cell = {**job, **(theirs if job["method"] == "theirs" else ours).ask(job)}
            store(work, cell)
            cells[key(cell)] = cell
            print(*key(cell), f"{cell['cpu_seconds']:.0f} s", flush=True)
    return cells


def of_seeds(cells: Cells, network: str, method: str, zeros: bool, clusters: int) -> list[Job]:
    keys = [(network, seed, method, zeros, clusters) for seed in SEEDS]
    return [cells[key] for key in keys if key in cells]


def rows(cells: Cells) -> list[list[str]]:
    found = []
    for network, title in NETWORKS.items():
        for zeros in (False, True):
            found += row(f"{title}, {start_of(zeros)}", "", "float32",
                         of_seeds(cells, network, "plain", zeros, 0))  # fmt: skip
        for clusters, zeros in [(0, True), *itertools.product(CLUSTERS, (False, True))]:
            what = f"{start_of(zeros)}, {clusters or 'no'} clusters"
            for file, (maker, label) in itertools.product(FILES, MAKERS.items()):
                name = f" ({NAMES[zeros, bool(clusters)]})" if file == "aware" else ""
                done = of_seeds(cells, network, maker, zeros, clusters)
                found += row(what, label, file, [cell for cell in done if file in cell], name)
    return found


def start_of(zeros: bool) -> str:
    return f"{SPARSITY:.0%} zeros" if zeros else "dense"


def row(what: str, label: str, file: str, cells: list[Job], name: str = "") -> list[list[str]]:
    done = [cell[file] for cell in cells]
    if not done:
        return []

    def kilobytes(figure: str) -> str:
        return f"{np.mean([one[figure] for one in done]) / 1e3:.1f}"

    return [
        [
            what,
            label,
            FILES[file] + name,
            spread([one["trained"] for one in done]),
            spread([one["file"] for one in done]),
            str(max(one["values"] for one in done)),
            f"{np.mean([one['zeros'] for one in done]):.1f}",
            kilobytes("raw_bytes"),
            kilobytes("gzip_bytes"),
            kilobytes("entropy_bytes"),
        ]
    ]


def beside_peer(cells: Cells) -> Iterator[str]:
    """Compare accuracy and zipped bytes with the peer's, seed by seed."""
    for network, clusters, zeros in itertools.product(NETWORKS, CLUSTERS, (False, True)):
        ours, theirs = (of_seeds(cells, network, maker, zeros, clusters) for maker in MAKERS)
        for file in FILES:
            pairs = [(a[file], b[file]) for a, b in zip(ours, theirs, strict=False)]
            points = ", ".join(f"{a['file'] - b['file']:+.2f}" for a, b in pairs)
            ratios = ", ".join(f"{a['gzip_bytes'] / b['gzip_bytes']:.3f}" for a, b in pairs)
            yield (
                f"tfprune beside tfmot, {start_of(zeros)}, {clusters} clusters, {FILES[file]}: "
                f"{points} points; zipped bytes {ratios}."
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    default = Path(tempfile.gettempdir()) / "tfprune-clustering"
    parser.add_argument("--work", type=Path, default=default, help=f"default {default}")
    parser.add_argument("--table", action="store_true", help="only print what is finished")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    cells = finish(options.work, options.table)
    total = sum(1 for _ in jobs(options.work))
    unfinished = [] if len(cells) == total else [f"Unfinished: {len(cells)} of {total} cells."]
    publish(
        "clustering",
        title="Weight clustering, in floats and under int8 rounding",
        columns=("start", "by", "file", "trained %", "file %", "values a kernel, at most",
                 "zeros %", "raw KB", "gzip KB", "entropy KB"),
        rows=rows(cells),
        numbers={"budget": BUDGET, "cells": [cell_of(cell) for cell in cells.values()]},
        seeds=SEEDS,
        remarks=[
            *unfinished,
            "Fashion-MNIST, the whole test set; mean ± standard deviation over seeds "
            f"{SEEDS}. «Trained» is the Keras model, «file» the .tflite made of it under LiteRT.",
            "Both packages start from the same weights and see the same batches: "
            f"{BUDGET['cluster_epochs']} epoch of {BUDGET['images']:,} images for clustering and "
            f"{BUDGET['quantize_epochs']} under rounding, Adam at {BUDGET['cluster_rate']:g}, one "
            "set of values for each kernel, k-means++. tfmot trains the model that `to_tf_keras` "
            "gives, with its default gradient aggregation.",
            *beside_peer(cells),
            peer_versions(),
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
