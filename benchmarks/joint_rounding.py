"""Zeros and few bits at once without training: accuracy and bytes of the files.

    TFPRUNE_DATA=… python benchmarks/joint_rounding.py [--work DIR] [--table]

The networks, data and samples are those of benchmarks/oneshot.py. A finished cell is a line in
DIR/cells.jsonl, a trained network a file there; killed and started again, the run goes on.
"""

import argparse
import itertools
import sys
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from cells import Cell, finished, store
from harness import publish
from numpy.typing import NDArray
from oneshot import BATCH_SIZE, NETWORKS, SAMPLES, SEEDS, accuracy, scaled, spread

import tfprune
from tfprune.few_bits.grid import round_nearest
from tfprune.graph.kernels import find_kernels
from tfprune.runtime.litert import Runner

BUDGET = {"samples": SAMPLES, "sparsity": 0.7}
SCHEMES = {"dense": "int8", "nearest": "int4", "joint": "int4"}


def trained(name: str, seed: int, work: Path, x: NDArray, y: NDArray) -> Any:
    """Return the network, trained now or before."""
    build, _, epochs = NETWORKS[name]
    path = work / f"{build.__name__}-{seed}.keras"
    if path.exists():
        return keras.models.load_model(path)
    keras.utils.set_random_seed(seed)
    model = build(keras)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss=loss)
    model.fit(x, y, batch_size=128, epochs=epochs, verbose=0)
    model.save(path)
    return model


def nearest(model: Any, bits: int) -> Any:
    """Prune by magnitude, then round every weight by itself, with the best step per output."""
    model = tfprune.strip_pruning(tfprune.prune(model, BUDGET["sparsity"]))
    for kernel in find_kernels([model])[0]:
        view = kernel.view(kernel.variable.value.numpy())
        rounded = round_nearest(view.reshape(1, -1, view.shape[-1]), bits)
        kernel.variable.assign(kernel.unview(rounded.reshape(view.shape)))
    return model


def joint(model: Any, bits: int, samples: NDArray, seed: int) -> Any:
    """Prune and round at once."""
    options = {"bits": bits, "batch_size": BATCH_SIZE, "seed": seed}
    return tfprune.strip_pruning(
        tfprune.prune_oneshot(model, samples, BUDGET["sparsity"], **options)
    )


def measure(name: str, seed: int, method: str, bits: int, work: Path) -> Cell:
    """Return the accuracy of the model and of its file, and the bytes of the file."""
    (x, y), (x_test, y_test) = NETWORKS[name][1]()
    x, x_test = scaled(x), scaled(x_test)
    model = trained(name, seed, work, x, y)
    samples = x[np.random.default_rng(seed).choice(len(x), SAMPLES, replace=False)]
    if method != "dense":
        model = nearest(model, bits) if method == "nearest" else joint(model, bits, samples, seed)
    file = tfprune.to_tflite(
        model,
        scheme=SCHEMES[method],
        calibration=samples if method == "dense" else None,
        io="float32",
    )
    kernels = [kernel.variable.value.numpy() for kernel in find_kernels([model])[0]]
    return {
        "network": name,
        "seed": seed,
        "method": method,
        "bits": bits,
        **BUDGET,
        "model": accuracy(model, x_test, y_test),
        "file": 100 * float(np.mean(Runner(file.bytes)(x_test).argmax(-1) == y_test)),
        "zeros": 100 * float(np.mean(np.concatenate([k.ravel() for k in kernels]) == 0)),
        "raw_bytes": file.report.raw_bytes,
        "gzip_bytes": file.report.gzip_bytes,
    }


def key(cell: Cell) -> tuple[Any, ...]:
    return cell["network"], cell["seed"], cell["method"], cell["bits"]


def row(name: str, method: str, bits: int, cells: list[Cell]) -> list[str]:
    sizes = [f"{np.mean([c[k] for c in cells]) / 1e3:.1f}" for k in ("raw_bytes", "gzip_bytes")]
    words = {
        "dense": "dense, int8",
        "nearest": f"magnitude, then nearest, {bits} bits",
        "joint": f"`prune_oneshot(bits={bits})`",
    }
    spreads = [spread([cell[which] for cell in cells]) for which in ("model", "file")]
    zeros = f"{np.mean([cell['zeros'] for cell in cells]):.1f}"
    return [name, words[method], zeros, *spreads, *sizes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir(), "joint_rounding"))
    parser.add_argument("--table", action="store_true", help="publish the finished cells")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    cells = finished(arguments.work, BUDGET, key)
    cases = [("dense", 8), *itertools.product(("nearest", "joint"), (4, 3, 2))]
    for (method, bits), seed, name in itertools.product(reversed(cases), SEEDS, NETWORKS):
        if (name, seed, method, bits) not in cells and not arguments.table:
            cell = measure(name, seed, method, bits, arguments.work)
            store(arguments.work, cell)
            cells[key(cell)] = cell
            print(*key(cell), f"{cell['model']:.2f} {cell['file']:.2f}", file=sys.stderr)
    rows = []
    for name, (method, bits) in itertools.product(NETWORKS, cases):
        found = [cells[k] for seed in SEEDS if (k := (name, seed, method, bits)) in cells]
        rows += [row(name, method, bits, found)] if len(found) == len(SEEDS) else []
    publish(
        "joint_rounding",
        title="Zeros and few bits at once, without training",
        columns=["network", "method", "zeros %", "model %", "file %", "raw KB", "gzip KB"],
        rows=rows,
        numbers=list(cells.values()),
        seeds=SEEDS,
        remarks=[
            f"Mean ± sd over seeds {SEEDS}: weights, training order and the {SAMPLES} unlabeled "
            "samples differ. The whole test set, no retraining. 70 % zeros are asked for in every "
            "kernel, the last layer's too. «Model» is the Keras model after rounding, «file» its "
            "int4 file under LiteRT, whose activations have 8 bits (dense: int8).",
            "Deep Compression (Han et al., 2016) with its trained pruning, trained centroids and "
            "Huffman codes: LeNet-300-100 27 KB, LeNet-5 (of 431k weights, not 62k) 44 KB.",
        ],
    )


if __name__ == "__main__":
    main()
