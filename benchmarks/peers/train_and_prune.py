"""Trains and prunes networks, in a process of its own: tfprune on Keras 3, or tfmot on tf_keras.

Started by benchmarks/sparsity_accuracy.py. Both kinds run this same code but for the pruning
itself.
"""

import sys
import time
from pathlib import Path
from typing import Any

import datasets
import networks
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from workers import Job, serve

DATA = {"mnist": datasets.mnist, "fashion_mnist": datasets.fashion_mnist}
VALIDATION = 5_000

_loaded: dict[str, tuple[Any, ...]] = {}


def load(name: str) -> tuple[Any, ...]:
    """Return x, y for training, validation and test; the last 5,000 of training validate."""
    if name not in _loaded:
        (x, y), test = DATA[name]()
        parts = [(x[:-VALIDATION], y[:-VALIDATION]), (x[-VALIDATION:], y[-VALIDATION:]), test]
        _loaded[name] = tuple(
            (np.float32(x)[..., None] / np.float32(255), y.astype(np.int32)) for x, y in parts
        )
    return _loaded[name]


def batches(x: NDArray, y: NDArray, job: Job, epochs: int, seed: int) -> Any:
    """Return all epochs in one data set: the same batches in the same order for every method."""
    size = job["batch"]
    steps = len(x) // size
    rng = np.random.default_rng(seed)
    order = np.stack([rng.permutation(len(x))[: steps * size] for _ in range(epochs)])
    images, labels = tf.constant(x), tf.constant(y)
    return (
        tf.data.Dataset.from_tensor_slices(order.reshape(epochs * steps, size))
        .map(lambda index: (tf.gather(images, index), tf.gather(labels, index)))
        .prefetch(2)
    )


def build(keras: Any, job: Job) -> Any:
    keras.utils.set_random_seed(job["seed"])
    return getattr(networks, job["network"])(keras)


def compile_model(keras: Any, model: Any, rate: float) -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, jit_compile=False)


def accuracy(model: Any, x: NDArray, y: NDArray) -> float:
    guesses = np.concatenate(
        [np.argmax(model(part), axis=-1) for part in np.array_split(x, len(x) // 1000)]
    )
    return float(np.mean(guesses == y))


def train_dense(keras: Any, job: Job, weights: Path) -> Job:
    """Train the dense network of a seed and keep its weights."""
    (x, y), validation, test = load(job["data"])
    model = build(keras, job)
    compile_model(keras, model, job["dense_rate"])
    model.fit(batches(x, y, job, job["dense_epochs"], job["seed"]), verbose=0)
    partial = weights.with_suffix(".partial.npz")
    np.savez(partial, *model.get_weights())
    partial.replace(weights)
    return {
        "validation": accuracy(model, *validation),
        "test": accuracy(model, *test),
        "parameters": int(sum(np.size(w) for w in model.get_weights())),
    }


def prune(keras: Any, job: Job, weights: Path) -> Job:
    """Prune a trained network while it is fine-tuned."""
    (x, y), validation, test = load(job["data"])
    model = build(keras, job)
    with np.load(weights) as file:
        model.set_weights([file[name] for name in file.files])
    steps = (len(x) // job["batch"]) * job["prune_epochs"]
    ramp = int(steps * job["ramp"]) // job["frequency"] * job["frequency"]
    ramps = {"begin_step": 0, "end_step": ramp, "frequency": job["frequency"]}
    data = batches(x, y, job, job["prune_epochs"], 1000 + job["seed"])
    if job["method"] == "tfmot":
        import tensorflow_model_optimization as tfmot

        api = tfmot.sparsity.keras
        schedule = api.PolynomialDecay(0.0, job["sparsity"], **ramps)
        model = api.prune_low_magnitude(model, pruning_schedule=schedule)
        compile_model(keras, model, job["prune_rate"])
        model.fit(data, verbose=0, callbacks=[api.UpdatePruningStep()])
        model = api.strip_pruning(model)
    else:
        import tfprune

        score, _, allocation = job["method"].partition("-")
        schedule = tfprune.PolynomialDecay(0.0, job["sparsity"], **ramps)
        model = tfprune.prune(
            model, job["sparsity"], score=score, allocation=allocation or "uniform",
            schedule=schedule, seed=job["seed"],
        )  # fmt: skip
        compile_model(keras, model, job["prune_rate"])
        model.fit(data, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
        model = tfprune.strip_pruning(model)
    kernels = [w for w in model.get_weights() if w.ndim > 1]
    return {
        "validation": accuracy(model, *validation),
        "test": accuracy(model, *test),
        "kept": [int(np.count_nonzero(w)) for w in kernels],
        "sizes": [int(w.size) for w in kernels],
        "ramp_steps": ramp,
        "steps": steps,
    }


def main(peer: str) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if peer == "tfmot":
        import tf_keras as keras
    else:
        import keras

    def answer(job: Job) -> Job:
        keras.backend.clear_session()
        start, cpu = time.perf_counter(), time.process_time()
        work = train_dense if job["method"] == "dense" else prune
        result = work(keras, job, Path(job["weights"]))
        result["seconds"] = time.perf_counter() - start
        result["cpu_seconds"] = time.process_time() - cpu
        return result

    serve(answer)


if __name__ == "__main__":
    main(sys.argv[1])
