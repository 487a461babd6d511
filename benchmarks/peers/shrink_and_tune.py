"""Trains networks in Keras, shrinks them with tfprune and tunes them, in a process of its own.

Started by benchmarks/structure_accuracy.py.
"""

import itertools
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cifar_networks
import keras
import numpy as np
import tensorflow as tf
import tuning
from numpy.typing import NDArray
from workers import Job, serve

import tfprune

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
Batch = tuple[NDArray, NDArray]

LOGITS = 64
"""Test images whose logits are kept, for the peer to be compared with."""


def build(job: Job) -> Any:
    keras.utils.set_random_seed(job["seed"])
    return getattr(cifar_networks, job["network"])()


def loaded(job: Job) -> Any:
    """The dense network of a job's seed."""
    model = build(job)
    with np.load(job["weights"]) as file:
        model.set_weights([file[f"w{i}"] for i in range(len(model.weights))])
    return model


def fit(model: Any, batches: Iterable[Batch], steps: int, job: Job, rate: float) -> None:
    """Train on batches, of which there are so many; the rate falls to 0."""
    falling = keras.optimizers.schedules.CosineDecay(rate, steps)
    adam = keras.optimizers.Adam(falling, epsilon=job["epsilon"])
    model.compile(adam, LOSS, jit_compile=False)
    for images, labels in batches:
        model.train_on_batch(images, labels)


def tuning_batches(x: NDArray, y: NDArray, job: Job) -> tuple[Iterator[Batch], int]:
    """All batches of the tuning, and how many there are."""
    epochs = job["tune_epochs"]
    batches = tuning.batches(x, y, epochs, 1000 + job["seed"], flip=job["flip"])
    return batches, tuning.steps_of(len(x), epochs)


def tune(model: Any, x: NDArray, y: NDArray, job: Job) -> None:
    batches, steps = tuning_batches(x, y, job)
    fit(model, batches, steps, job, job["tune_rate"])


def logits(model: Any, x: NDArray) -> NDArray:
    parts = np.array_split(x, max(1, len(x) // 500))
    return np.concatenate([np.asarray(model(tuning.scaled(part))) for part in parts])


def accuracy(model: Any, x: NDArray, y: NDArray) -> float:
    return float(np.mean(np.argmax(logits(model, x), axis=-1) == y))


def dense(job: Job, x: NDArray, y: NDArray, x_test: NDArray, y_test: NDArray) -> Job:
    """Train the dense network of a seed and keep its weights."""
    model = build(job)
    epochs = job["dense_epochs"]
    batches = tuning.batches(x, y, epochs, job["seed"], flip=job["flip"])
    fit(model, batches, tuning.steps_of(len(x), epochs), job, job["dense_rate"])
    weights = Path(job["weights"])
    partial = weights.with_suffix(".partial.npz")
    named = {f"w{i}": weight for i, weight in enumerate(model.get_weights())}
    names = [f"{layer.name}/{v.name}" for layer in model.layers for v in layer.weights]
    np.savez(partial, names=names, logits=logits(model, x_test[:LOGITS]), **named)
    partial.replace(weights)
    return {
        "after": accuracy(model, x_test, y_test),
        "macs": tfprune.macs(model).total,
        "params": model.count_params(),
    }


def dense_tuned(job: Job, x: NDArray, y: NDArray, x_test: NDArray, y_test: NDArray) -> Job:
    """Train the dense network on, as the small ones are tuned."""
    model = loaded(job)
    tune(model, x, y, job)
    return {"after": accuracy(model, x_test, y_test)}


def shrunk(job: Job, x: NDArray, y: NDArray, x_test: NDArray, y_test: NDArray) -> Job:
    """Shrink the dense network, judge it as it is, made up for, and tuned."""
    model = loaded(job)
    importance, ranking = job["method"].split("-")[:2]
    small, report = tfprune.shrink(
        model, {"macs": job["ratio"]}, importance=importance, ranking=ranking, round_to=1,
        data=tuning.in_batches(x, y, tuning.TAYLOR), loss=LOSS, seed=job["seed"],
    )  # fmt: skip
    found = {"plain": accuracy(small, x_test, y_test), **shares(report)}
    unlabeled = tuning.in_batches(x, y, tuning.REPAIR)
    whole, _ = tfprune.shrink(model, report.plan, repair=unlabeled, verify=False)
    found["repaired"] = accuracy(whole, x_test, y_test)
    statistics = tuning.in_batches(x, y, tuning.RECALIBRATE)
    if any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers):
        copy = keras.models.clone_model(small)
        copy.set_weights(small.get_weights())
        found["recalibrated"] = accuracy(tfprune.recalibrate(copy, statistics), x_test, y_test)
        tfprune.recalibrate(whole, statistics)
        found["repaired_recalibrated"] = accuracy(whole, x_test, y_test)
    start = whole if job["method"].endswith("-repaired") else small
    tune(start, x, y, job)
    return {**found, "after": accuracy(start, x_test, y_test)}


def gated(job: Job, x: NDArray, y: NDArray, x_test: NDArray, y_test: NDArray) -> Job:
    """Learn gates in the first half of the tuning, fold the closed ones away, tune what stays."""
    model = loaded(job)
    wide = tfprune.add_gates(model, kind="l1", penalty=job["gate_penalty"])
    batches, steps = tuning_batches(x, y, job)
    first = steps // 2
    fit(wide, itertools.islice(batches, first), first, job, job["tune_rate"])
    limit = job["ratio"] * tfprune.macs(model).total
    small, report = close_gates(wide, limit)
    found = {"plain": accuracy(small, x_test, y_test), **shares(report)}
    # The gates multiply too, and go; the shares are of the network that came without them.
    found["macs"] = report.after.macs / tfprune.macs(model).total
    found["params"] = report.after.params / model.count_params()
    fit(small, batches, steps - first, job, job["tune_rate"])
    return {**found, "after": accuracy(small, x_test, y_test)}


def close_gates(wide: Any, limit: float) -> tuple[Any, Any]:
    """Close the fewest of the smallest gates that leave no more than so many multiplications."""
    gates = [layer for layer in wide.layers if isinstance(layer, tfprune.layers.ChannelGate)]
    learned = [np.asarray(layer.gate) for layer in gates]
    relative = [np.abs(values) / np.abs(values).mean() for values in learned]
    order = np.argsort(np.concatenate(relative), kind="stable")
    ends = np.cumsum([len(values) for values in learned])[:-1]

    def folded(count: int, *, verify: bool) -> tuple[Any, Any]:
        closed = np.zeros(len(order), bool)
        closed[order[:count]] = True
        for layer, values, mine in zip(gates, learned, np.split(closed, ends), strict=True):
            layer.gate.assign(values)
            layer.close(np.flatnonzero(mine))
        return tfprune.shrink(wide, "gates", verify=verify)

    low, high = 0, len(order)
    while high - low > 1:
        middle = (low + high) // 2
        _, report = folded(middle, verify=False)
        low, high = (low, middle) if report.after.macs <= limit else (middle, high)
    return folded(high, verify=True)


def shares(report: Any) -> Job:
    """What stays, as shares, and how many units of each group."""
    return {
        "macs": report.after.macs / report.before.macs,
        "params": report.after.params / report.before.params,
        "kept": {group.name: [group.after, group.before] for group in report.groups},
        "oracle_error": report.error,
        "notes": list(report.notes),
    }


def main() -> None:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    kinds = {"dense": dense, "dense-tuned": dense_tuned, "gates": gated}

    def answer(job: Job) -> Job:
        keras.backend.clear_session()
        start, cpu = time.perf_counter(), time.process_time()
        arrays = tuning.load(Path(job["arrays"]), job["images"])
        result = kinds.get(job["method"], shrunk)(job, *arrays)
        result["seconds"] = time.perf_counter() - start
        result["cpu_seconds"] = time.process_time() - cpu
        return result

    serve(answer)


if __name__ == "__main__":
    assert sys.argv[1] == "tfprune"
    main()
