"""Accuracy after pruning without training: nothing but a few hundred unlabeled samples.

TFPRUNE_DATA names the folder of data sets. Networks are trained briefly, pruned by each method at
each sparsity, and judged on the whole test set before any retraining.
"""

import sys
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import keras
import networks
import numpy as np
from datasets import Data, fashion_mnist, mnist
from harness import publish
from numpy.typing import NDArray

import tfprune
from tfprune.few_bits.moments import Problem, damped
from tfprune.sparsity.oneshot import work
from tfprune.sparsity.oneshot.solve import Choose, Solution

SEEDS = (0, 1, 2)
SAMPLES = 256
BATCH_SIZE = 64
GOALS = ((0.5, "unstructured"), (0.7, "unstructured"), (0.8, "unstructured"), (0.5, "2:4"))
NETWORKS: dict[str, tuple[Callable[[Any], Any], Callable[[], Data], int]] = {
    "LeNet-300-100, MNIST": (networks.lenet_300_100, mnist, 3),
    "LeNet-5, MNIST": (networks.lenet_5, mnist, 2),
    "convnet 109k, Fashion-MNIST": (networks.fashion_convnet, fashion_mnist, 3),
}


def sweep(weights: NDArray, problem: Problem, stages: list[Choose], *, damping: float) -> Solution:
    """Choose as `reconstruct` does, then update in SparseGPT's one sweep over the inputs.

    Each input that goes is made up for by the inputs after it, by the rows of the Cholesky factor
    of H⁻¹; see Frantar and Alistarh, SparseGPT, 2023, of which this is the update.
    """
    held = damped(problem, weights, damping)
    inverse = np.linalg.inv(held.gram)
    values = inverse @ held.cross
    diagonal = np.diagonal(inverse, axis1=1, axis2=2)[:, :, None]
    mask = stages[-1](values**2 / diagonal)
    factors = np.linalg.cholesky(inverse).transpose(0, 2, 1)
    for p, factor in enumerate(factors):
        for i, row in enumerate(factor):
            gone = np.where(mask[p, i], 0.0, values[p, i]) / row[i]
            values[p, i:] -= row[i:, None] * gone
    return Solution(np.where(mask, values, 0.0), mask)


def random(model: Any, samples: NDArray, sparsity: float, pattern: str, seed: int) -> None:
    """Take weights at random."""
    tfprune.prune(model, sparsity, pattern=pattern, score="random", seed=seed)


def magnitude(model: Any, samples: NDArray, sparsity: float, pattern: str, seed: int) -> None:
    """Take the smallest weights."""
    tfprune.prune(model, sparsity, pattern=pattern)


def wanda(model: Any, samples: NDArray, sparsity: float, pattern: str, seed: int) -> None:
    """Take the weights of least |w|·‖x‖."""
    tfprune.prune_oneshot(
        model, samples, sparsity, pattern=pattern, method="wanda", batch_size=BATCH_SIZE, seed=seed
    )


def one_sweep(model: Any, samples: NDArray, sparsity: float, pattern: str, seed: int) -> None:
    """Reconstruct with SparseGPT's update in the place of the exact one."""
    with mock.patch.object(work, "reconstruct", sweep):
        tfprune.prune_oneshot(
            model, samples, sparsity, pattern=pattern, batch_size=BATCH_SIZE, seed=seed
        )


def reconstruct(model: Any, samples: NDArray, sparsity: float, pattern: str, seed: int) -> None:
    """What `prune_oneshot` does."""
    tfprune.prune_oneshot(
        model, samples, sparsity, pattern=pattern, batch_size=BATCH_SIZE, seed=seed
    )


METHODS = (random, magnitude, wanda, one_sweep, reconstruct)


def scaled(images: NDArray) -> NDArray:
    """Return images as floats in [0, 1] with a channel axis."""
    return images[..., None].astype("float32") / 255


def accuracy(model: Any, x: NDArray, y: NDArray) -> float:
    """Return the percentage of examples that the model names rightly."""
    return 100 * float(np.mean(model.predict(x, batch_size=1000, verbose=0).argmax(1) == y))


def measure(name: str, seed: int) -> dict[str, Any]:
    """Train a network and return its accuracy after each method at each goal."""
    build, load, epochs = NETWORKS[name]
    (x, y), (x_test, y_test) = load()
    x, x_test = scaled(x), scaled(x_test)
    keras.utils.set_random_seed(seed)
    model = build(keras)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss=loss)
    model.fit(x, y, batch_size=128, epochs=epochs, verbose=0)
    trained = model.get_weights()
    samples = x[np.random.default_rng(seed).choice(len(x), SAMPLES, replace=False)]
    found: dict[str, Any] = {"dense": accuracy(model, x_test, y_test), "cpu_seconds": {}}
    for sparsity, pattern in GOALS:
        for method in METHODS:
            key = f"{method.__name__} {sparsity:.0%} {pattern}"
            start = time.process_time()
            method(model, samples, sparsity, pattern, seed)
            found["cpu_seconds"][key] = time.process_time() - start
            found[key] = accuracy(model, x_test, y_test)
            print(f"{name} seed {seed}: {key}: {found[key]:.2f}", file=sys.stderr, flush=True)
            tfprune.strip_pruning(model)
            model.set_weights(trained)
    return found


def spread(values: list[float]) -> str:
    """Return mean ± sample standard deviation."""
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"


def main() -> None:
    numbers = {name: [measure(name, seed) for seed in SEEDS] for name in NETWORKS}
    rows = []
    for name, runs in numbers.items():
        for sparsity, pattern in GOALS:
            keys = [f"{method.__name__} {sparsity:.0%} {pattern}" for method in METHODS]
            cells = [spread([run[key] for run in runs]) for key in ("dense", *keys)]
            gains = [run[keys[-1]] - run[keys[1]] for run in runs]
            rows.append([name, f"{sparsity:.0%} {pattern}", *cells, spread(gains)])
    publish(
        "oneshot",
        title="Accuracy (%) after pruning without training",
        columns=["network", "zeros", "dense", "random", "magnitude", "wanda",
                 "SparseGPT's sweep", "reconstruct", "gain over magnitude"],
        rows=rows,
        numbers=numbers,
        seeds=SEEDS,
        remarks=[
            f"Mean ± sd over {len(SEEDS)} seeds: weights, training order and the {SAMPLES} samples "
            "differ. The whole test set, no retraining, no labels. Every kernel has the zeros "
            "named, the last layer's too.",
            "SparseGPT's sweep chooses weights and takes inputs and wanted outputs as reconstruct "
            "does, but updates in one sweep and chooses in one stage.",
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
