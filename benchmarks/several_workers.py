"""The accuracy of a run on one device, on two, and on two workers, with the same global batch.

    python benchmarks/several_workers.py [--seeds 3]

Each run trains, prunes and converts the network of the recipe quickstart on the digits that
scikit-learn has. Two devices are two logical CPUs of one process; two workers are two processes
that TF_CONFIG lists.
"""

import argparse
import functools
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from typing import Any

KINDS = {"one device": None, "two devices": "mirrored", "two workers": "multi_worker"}
BATCH = 64
FIGURES = {"dense": "dense file", "int8": "pruned int8 file"}


def recipe(kind: str, seed: int) -> dict[str, Any]:
    """Return the recipe of a run."""
    strategy = {} if KINDS[kind] is None else {"strategy": KINDS[kind]}
    return {
        "model": {"source": "convnet", "options": {"width": 8}},
        "data": {"source": "digits"},
        "train": {
            "epochs": 12, "batch_size": BATCH, "learning_rate": 3e-3, "seed": seed, **strategy,
        },
        "prune": {"sparsity": 0.8, "epochs": 12, "learning_rate": 3e-3},
        "quantize": {"scheme": "int8"},
        "measure": {"runs": 2},
    }  # fmt: skip


def child(kind: str, seeds: int, out: str) -> None:
    """Run with each seed, and print the accuracies and the zeros as JSON, a line each."""
    import tensorflow as tf

    if kind == "two devices":
        cpu = tf.config.list_physical_devices("CPU")[0]
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, two)
    tf.config.experimental.enable_op_determinism()

    import tfprune
    from tfprune.pipeline import compress
    from tfprune.training import strategies

    # TensorFlow makes one strategy of several workers in a process.
    strategies.make_strategy = functools.cache(strategies.make_strategy)
    for seed in range(seeds):
        result = compress(None, recipe(kind, seed), out=f"{out}/{seed}")
        dense, small = result.report.rows
        found = {"dense": dense.score, "int8": small.score}
        zeros = tfprune.sparsity_of(result.model).sparsity
        print(json.dumps({**found, "zeros": zeros}), flush=True)


def environments(kind: str) -> list[dict[str, str]]:
    """Return the environment of each process of a run."""
    common = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if kind != "two workers":
        return [common]
    sockets = [socket.create_server(("localhost", 0)) for _ in range(2)]
    cluster = {"worker": [f"localhost:{one.getsockname()[1]}" for one in sockets]}
    for one in sockets:
        one.close()
    tasks = [{"cluster": cluster, "task": {"type": "worker", "index": n}} for n in range(2)]
    return [{**common, "TF_CONFIG": json.dumps(task)} for task in tasks]


def measured(kind: str, seeds: int) -> list[dict[str, float]]:
    """Return the figures of a run with each seed, which all its processes must agree on."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--child", kind, str(seeds), folder]
        processes = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
            for environment in environments(kind)
        ]
        outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        sys.exit(f"{kind}: a process failed")
    found = [[json.loads(line) for line in output.splitlines()] for output in outputs]
    if any(one != found[0] for one in found):
        sys.exit(f"{kind}: the workers differ: {found}")
    return found[0]


def row(kind: str, runs: list[dict[str, float]], alone: list[dict[str, float]]) -> list[str]:
    """Return a row of the table: mean, spread, and the difference from one device."""
    cells = [kind]
    for figure in FIGURES:
        values = [run[figure] for run in runs]
        change = statistics.mean(values) - statistics.mean(run[figure] for run in alone)
        cells += [
            f"{statistics.mean(values):.2%} [{min(values):.2%}, {max(values):.2%}]",
            f"{100 * change:+.2f}",
        ]
    return [*cells, ", ".join(sorted({f"{run['zeros']:.2%}" for run in runs}))]


def main() -> None:
    """Run all kinds with each seed, and publish the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--child", nargs=3, metavar=("KIND", "SEEDS", "OUT"))
    options = parser.parse_args()
    if options.child:
        kind, seeds, out = options.child
        child(kind, int(seeds), out)
        return
    from harness import publish  # TF_CONFIG must not meet a TensorFlow of this process

    found: dict[str, list[dict[str, float]]] = {}
    for kind in KINDS:
        found[kind] = measured(kind, options.seeds)
        print(kind, found[kind], flush=True)
    alone = found["one device"]
    spread = {figure: statistics.stdev(run[figure] for run in alone) * 100 for figure in FIGURES}
    publish(
        "several_workers",
        title="Accuracy on one device, two devices and two workers",
        columns=(
            "trained on", "dense file", "points to one device", "pruned int8 file",
            "points to one device", "zeros",
        ),
        rows=[row(kind, runs, alone) for kind, runs in found.items()],
        numbers=found,
        seeds=range(options.seeds),
        remarks=[
            f"Digits, 449 in the test set, a convnet of width 8, a global batch of {BATCH}, 12 "
            "epochs of training and 12 of pruning to 80 %. Mean of "
            f"{options.seeds} seeds [smallest, largest]. On one device the seeds have a standard "
            f"deviation of {spread['dense']:.2f} and {spread['int8']:.2f} points. Both workers had "
            "the same figures in each run."
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
