"""Accuracy after units were removed: tfprune beside Torch-Pruning, equal tuning budgets.

    TFPRUNE_DATA=… python benchmarks/structure_accuracy.py [--work DIR] [--table]
        [--sides tfprune torch] [--networks …] [--seeds …] [--methods …] [--torch-python PATH]

For every network and seed a dense network is trained once, in Keras. Each method then removes
units of those same weights until a share of the multiplications is left, and tunes what stays
with the same batches, optimizer and rates; Torch-Pruning gets the weights carried over to
PyTorch, in an interpreter that has torch and torch-pruning. A finished cell is a line in
DIR/cells.jsonl; killed and started again, the run goes on from there, and several runs with other
networks or seeds may share DIR. The test set gives the final numbers and nothing else.
"""

import argparse
import itertools
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import tuning
from cells import check_budget, read, store
from harness import publish
from workers import Job, Worker, WorkerError

Key = tuple[Any, ...]
Cells = dict[Key, Job]

NETWORKS: dict[str, Job] = {
    "fashion_convnet": {
        "title": "convnet 109k, Fashion-MNIST",
        "data": "fashion_mnist",
        "budget": {"images": 20_000, "dense_epochs": 5, "tune_epochs": 2, "flip": False},
    },
    "resnet_8": {
        "title": "ResNet-8, CIFAR-10 JPEG q75",
        "data": "cifar10_jpeg75",
        "budget": {"images": 10_000, "dense_epochs": 8, "tune_epochs": 2, "flip": True},
    },
    "resnet_20": {
        "title": "ResNet-20, CIFAR-10 JPEG q75",
        "data": "cifar10_jpeg75",
        "budget": {"images": 10_000, "dense_epochs": 8, "tune_epochs": 1, "flip": True},
    },
}
RATIOS = (0.5, 0.25)
SEEDS = (0, 1, 2)
METHODS = {
    "l2-uniform": "tfprune, l2, uniform",
    "l2-global": "tfprune, l2, global",
    "taylor-global": "tfprune, taylor, global",
    "taylor-global-repaired": "tfprune, taylor, global, tuned from repaired",
    "bn_scale-global": "tfprune, bn_scale, global",
    "random-uniform": "tfprune, random (control)",
    "gates": "tfprune, gates learned in half of the tuning",
    "torch_pruning-uniform": "Torch-Pruning, GroupMagnitude, uniform",
    "torch_pruning-global": "Torch-Pruning, GroupMagnitude, global",
}
DENSE = {
    "dense": "dense",
    "dense-tuned": "dense, tuned as long",
    "torch_dense-tuned": "dense, tuned as long, in PyTorch",
}
WITHOUT = {("fashion_convnet", "bn_scale-global"): "has no BatchNormalization"}
"""What there cannot be, and why."""


def side_of(method: str) -> str:
    return "torch" if method.startswith("torch") else "tfprune"


def jobs(side: str, work: Path, options: argparse.Namespace) -> Iterator[Job]:
    """Yield one worker's cells, seed by seed, so that a run cut short has whole tables."""
    for network, seed in itertools.product(options.networks, options.seeds):
        about = NETWORKS[network]
        common = {
            "network": network,
            "seed": seed,
            "weights": str(work / f"{network}-{seed}.npz"),
            "arrays": str(tuning.cached(work, about["data"])),
            **tuning.TRAINING,
            **about["budget"],
        }
        cells = [(method, 1.0) for method in DENSE]
        cells += [(m, r) for m, r in itertools.product(METHODS, RATIOS)]
        for method, ratio in cells:
            if method not in options.methods or (network, method) in WITHOUT:
                continue
            if side_of(method) == side:
                yield {"method": method, "ratio": ratio, **common, **more_of(method)}


def more_of(method: str) -> Job:
    """What a method is told beside the others."""
    return tuning.GATES if method == "gates" else {}


def key(job: Job) -> Key:
    return job["network"], job["seed"], job["method"], job["ratio"]


def read_cells(work: Path) -> Cells:
    """Return the finished cells."""
    found = {}
    for cell in read(work):
        budget = NETWORKS[cell["network"]]["budget"]
        check_budget(work, cell, {**tuning.TRAINING, **budget, **more_of(cell["method"])})
        found[key(cell)] = cell
    return found


def cache_images(work: Path, data: str) -> None:
    """Hand the images of a data set to all workers, as one file."""
    path = tuning.cached(work, data)
    if path.exists():
        return
    (x, y), (x_test, y_test) = getattr(datasets, data)()
    if x.ndim == 3:
        x, x_test = x[..., None], x_test[..., None]
    partial = path.with_suffix(".partial.npz")
    labels = {"y_train": y.astype(np.int32), "y_test": y_test.astype(np.int32)}
    np.savez(partial, x_train=x, x_test=x_test, **labels)
    partial.replace(path)


def follow(side: str, work: Path, options: argparse.Namespace, failures: list[WorkerError]) -> None:
    """Do all cells of one worker that nobody has done."""
    todo = [job for job in jobs(side, work, options) if key(job) not in read_cells(work)]
    if not todo:
        return
    script, python = {
        "tfprune": ("shrink_and_tune.py", sys.executable),
        "torch": ("torch_prune_and_tune.py", options.torch_python),
    }[side]
    try:
        with Worker(script, side, python) as worker:
            for job in todo:
                if key(job) in read_cells(work):
                    continue  # another run has done it meanwhile
                dense = (job["network"], job["seed"], "dense", 1.0)
                while job["method"] != "dense" and dense not in read_cells(work):
                    if failures:
                        return
                    time.sleep(5)
                if side == "torch":
                    job["dense"] = {n: read_cells(work)[dense][n] for n in ("macs", "params")}
                cell = {**job, **worker.ask(job)}
                store(work, cell)
                print(*key(cell), f"{cell['seconds']:.0f} s", flush=True)
    except WorkerError as error:
        failures.append(error)


def column(cells: Cells, network: str, method: str, ratio: float, what: str) -> list[float]:
    """Return one figure of the seeds that are finished and have it."""
    keys = [(network, seed, method, ratio) for seed in SEEDS]
    return [cells[key][what] for key in keys if what in cells.get(key, {})]


def spread(values: list[float]) -> str:
    """Mean ± standard deviation in per cent, with the number of seeds where some are missing."""
    if len(values) < 2:
        return f"{100 * values[0]:.1f} (1 seed)" if values else "–"
    short = "" if len(values) == len(SEEDS) else f" ({len(values)} seeds)"
    return f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f}{short}"


def repaired_of(network: str) -> str:
    """Where there is BatchNormalization, what was repaired is recalibrated too."""
    return "repaired" if network == "fashion_convnet" else "repaired_recalibrated"


def rows(cells: Cells) -> list[list[str]]:
    """Return the table: one row for each method of a network and share that has a finished cell."""
    found: list[list[str]] = []
    for network, about in NETWORKS.items():
        title = about["title"]
        for ratio, methods in ((1.0, DENSE), *((ratio, METHODS) for ratio in RATIOS)):
            asked = f"{ratio:.0%}"
            for method, label in methods.items():
                if not column(cells, network, method, ratio, "after"):
                    continue
                figures = ("plain", "recalibrated", repaired_of(network), "after")
                counts = [column(cells, network, method, ratio, w) for w in ("macs", "params")]
                shares = [f"{100 * np.mean(c):.1f}" if c and ratio < 1 else "100" for c in counts]
                accuracies = [spread(column(cells, network, method, ratio, w)) for w in figures]
                found.append([title, asked, label, *shares, *accuracies])
                title = asked = ""
    return found


def shared(cells: Cells, network: str, ratio: float, what: str) -> dict[str, list[float]]:
    """A figure of every method that has begun, on the seeds that all of them have finished."""
    begun = [m for m in METHODS if column(cells, network, m, ratio, "after")]
    seeds = [s for s in SEEDS if all((network, s, method, ratio) in cells for method in begun)]
    found = {m: [cells[network, s, m, ratio].get(what) for s in seeds] for m in begun}
    return {method: values for method, values in found.items() if values and None not in values}


def best_of(found: dict[str, list[float]], side: str) -> str | None:
    """The method of a side with the highest mean; the control is none."""
    methods = [m for m in found if side_of(m) == side and not m.startswith("random")]
    return max(methods, key=lambda m: np.mean(found[m]), default=None)


def verdicts(cells: Cells) -> list[str]:
    """Say for every network and share who is ahead, tuned and before, and by how much."""
    found = []
    for network, ratio in itertools.product(NETWORKS, RATIOS):
        where = f"{NETWORKS[network]['title']} at {ratio:.0%}"
        after = shared(cells, network, ratio, "after")
        us, them = best_of(after, "tfprune"), best_of(after, "torch")
        if us is None or them is None:
            continue
        lead = 100 * float(np.mean(after[us]) - np.mean(after[them]))
        doubt = ", of one seed only"
        if len(after[us]) > 1:
            noise = 100 * max(float(np.std(after[m], ddof=1)) for m in (us, them))
            doubt = ", which is less than the seeds differ by" if abs(lead) < noise else ""
        worse = [METHODS[m] for m in after if np.mean(after[m]) < np.mean(after[them])]
        behind = f" Behind Torch-Pruning's best: {'; '.join(worse)}." if worse else ""
        found.append(
            f"{where}, tuned: {METHODS[us]} {spread(after[us])}, {METHODS[them]} "
            f"{spread(after[them])}: {lead:+.1f} points{doubt}.{behind}"
        )
        before = shared(cells, network, ratio, repaired_of(network))
        what = "plain" if network == "fashion_convnet" else "recalibrated"
        peer = shared(cells, network, ratio, what)
        us, them = best_of(before, "tfprune"), best_of(peer, "torch")
        if us is not None and them is not None:
            found.append(
                f"{where}, before tuning: {METHODS[us]}, repaired, {spread(before[us])}; "
                f"{METHODS[them]}, {'as it is' if what == 'plain' else what}, {spread(peer[them])}."
            )
    return found


def unfinished(cells: Cells, options: argparse.Namespace) -> list[str]:
    """Name the cells that are missing, by network and method."""
    wanted = [job for side in ("tfprune", "torch") for job in jobs(side, Path(), options)]
    missing = [key(job) for job in wanted if key(job) not in cells]
    if not missing:
        return []
    lines = []
    for network in NETWORKS:
        mine = [k for k in missing if k[0] == network]
        seeds = sorted({k[1] for k in mine})
        if mine:
            whose = f"seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"seed {seeds[0]}"
            lines.append(f"{NETWORKS[network]['title']} {len(mine)} of {whose}")
    return [f"Unfinished: {len(missing)} of {len(wanted)} cells are missing: {'; '.join(lines)}."]


def budgets() -> str:
    """The training of each network, in words."""
    found = []
    for about in NETWORKS.values():
        budget = about["budget"]
        flip = ", half of them flipped" if budget["flip"] else ""
        found.append(
            f"{about['title']}: {budget['images']:,} training images{flip}, "
            f"{budget['dense_epochs']} epochs dense and {budget['tune_epochs']} of tuning"
        )
    return "; ".join(found)


def table(work: Path, options: argparse.Namespace) -> None:
    """Print and store what is finished."""
    cells = read_cells(work)
    versions = {
        f"{name} {number}"
        for cell in cells.values()
        for name, number in cell.get("versions", {}).items()
    }
    errors = [cell["carry_error"] for cell in cells.values() if "carry_error" in cell]
    carried = f"{max(errors):.1g}" if errors else "not measured"
    setup = tuning.TRAINING
    publish(
        "structure_accuracy",
        title="Accuracy after units were removed",
        columns=(
            "network, data",
            "asked",
            "method",
            "MACs %",
            "parameters %",
            "before tuning",
            "recalibrated",
            "repaired",
            "tuned",
        ),
        rows=rows(cells),
        numbers={
            "training": {**setup, **tuning.GATES},
            "cells": [
                {name: value for name, value in cell.items() if name not in ("weights", "arrays")}
                for cell in cells.values()
            ],
        },
        seeds=SEEDS,
        remarks=[
            *unfinished(cells, options),
            "JPEG q75: the CIFAR-10 images went through JPEG of quality 75, and the networks are "
            "trained on a part of them for a few epochs. These numbers do not compare with "
            "published CIFAR-10.",
            f"Test accuracy in per cent on the first {tuning.TEST:,} test images, mean ± standard "
            f"deviation over seeds {SEEDS}. {budgets()}. Adam, batches of {setup['batch']}, the "
            f"rate falling along a cosine from {setup['dense_rate']:g} (dense) and "
            f"{setup['tune_rate']:g} (tuning). Nothing of this was searched for, for any method.",
            "All methods of a seed start from the same dense weights and tune on the same batches "
            "in the same order. The MACs are the largest share not above what was asked that the "
            "method's own ranking reaches, in steps of one channel.",
            f"Recalibrated: BatchNormalization statistics of {tuning.RECALIBRATE:,} training "
            f"images. Repaired: least squares on {tuning.REPAIR:,} unlabeled training images, "
            "then recalibrated where there is BatchNormalization. Tuned: from the network as it "
            "was before tuning, neither recalibrated nor repaired, unless the row says so. Gates: "
            "before tuning is after half of it, in which the gates learned with the weights.",
            "Torch-Pruning: BasePruner with GroupMagnitudeImportance(p=2), not global or global, "
            "the pruning ratio sought by bisection; the dense weights carried over (logits differ "
            f"by {carried} of the largest at most), tuned in PyTorch with the same batches.",
            *verdicts(cells),
            *([f"The peer: {', '.join(sorted(versions))}."] if versions else []),
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    default = Path(tempfile.gettempdir()) / "tfprune-structure-accuracy"
    parser.add_argument("--work", type=Path, default=default, help=f"default {default}")
    parser.add_argument("--table", action="store_true", help="only print what is finished")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--seeds", nargs="+", type=int, choices=SEEDS, default=SEEDS)
    every = [*DENSE, *METHODS]
    parser.add_argument("--methods", nargs="+", choices=every, default=every)
    parser.add_argument("--sides", nargs="+", choices=("tfprune", "torch"),
                        default=("tfprune", "torch"))  # fmt: skip
    parser.add_argument("--torch-python", default=sys.executable, help="has torch, torch-pruning")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if not options.table:
        for network in options.networks:
            cache_images(options.work, NETWORKS[network]["data"])
        failures: list[WorkerError] = []
        threads = [
            threading.Thread(target=follow, args=[side, options.work, options, failures])
            for side in options.sides
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise SystemExit(str(failures[0]))
    if options.table or all(side in options.sides for side in ("tfprune", "torch")):
        table(options.work, options)


if __name__ == "__main__":
    main()
