"""Train wrapped tf_keras layers and write what tensorflow-model-optimization masked, and when.

Usage: python masks.py OUT.npz. Runs in a process of its own, since importing the peer changes
`tf.keras`. For every kernel and every mask update the file holds the dense weights just before,
the wrapper's step, the schedule's sparsity and the mask just after.
"""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras
from layers import COMMON, RUNS, cases

api = tfmot.sparsity.keras
layers = tf_keras.layers


def record(run: dict, store: dict) -> None:
    """Train all layers of a run in one model, each as a branch of its own."""
    tf_keras.utils.set_random_seed(0)
    schedule = getattr(api, run["schedule"]["class_name"])(**run["schedule"]["config"])
    wrapped, inputs, outputs = {}, [], []
    for case in cases(layers, run["cases"]):
        x = tf_keras.Input(case.shape, dtype=case.dtype)
        if case.twice:
            case.layer(x, x)  # The wrapper cannot build it.
        wrapper = api.prune_low_magnitude(case.layer, schedule, **run["options"])
        y = wrapper(x, value=x) if case.twice else wrapper(x)
        inputs.append(x)
        # Weights of its own for every output: a plain mean gives equal gradients, and so ties.
        outputs.append(layers.Dense(1)(layers.Flatten()(y)))
        wrapped[case.name] = wrapper
    model = tf_keras.Model(inputs, layers.Concatenate()(outputs))
    model.compile(tf_keras.optimizers.Adam(0.02), "mse")
    rng = np.random.default_rng(0)
    callback = api.UpdatePruningStep()
    callback.set_model(model)
    callback.on_train_begin()
    for _ in range(run["steps"]):
        step = int(wrapped[next(iter(wrapped))].pruning_step) + 1
        due, sparsity = schedule(tf.constant(step, tf.int64))
        due = step == 1 if run["options"].get("sparsity_m_by_n") else bool(due)
        before = {name: [w.numpy() for w, _, _ in wrapper.pruning_vars]
                  for name, wrapper in wrapped.items()} if due else {}  # fmt: skip
        x = [
            rng.integers(0, 8, (2, *i.shape[1:]))
            if i.dtype == "int32"
            else rng.standard_normal((2, *i.shape[1:])).astype("float32")
            for i in inputs
        ]
        model.train_on_batch(x, rng.standard_normal((2, len(inputs))).astype("float32"))
        for name, arrays in before.items():
            for number, array in enumerate(arrays):
                mask = wrapped[name].pruning_vars[number][1].numpy()
                key = f"{run['name']}/{name}/{number}/{step}"
                store[f"{key}/weights"] = array
                store[f"{key}/mask"] = mask.astype(bool)
                store[f"{key}/sparsity"] = sparsity.numpy()


def tie(store: dict) -> None:
    """Have the peer keep half of four weights of which three are equally large."""
    schedule = api.ConstantSparsity(0.5, 1)
    wrapper = api.prune_low_magnitude(layers.Dense(2), schedule)
    wrapper.build((1, 2))
    weight, mask, _ = wrapper.pruning_vars[0]
    weight.assign([[3.0, -1.0], [1.0, 1.0]])
    wrapper.pruning_step.assign(1)
    wrapper.pruning_obj.conditional_mask_update()
    store["tie/dense/0/1/weights"] = weight.numpy()
    store["tie/dense/0/1/mask"] = mask.numpy().astype(bool)
    store["tie/dense/0/1/sparsity"] = np.float32(0.5)


def refusals() -> dict[str, str]:
    """Try the patterns that the peer takes for some kernels only, and return its messages."""
    messages = {}
    patterns = (("block", {"block_size": (2, 2)}), ("2:4", {"sparsity_m_by_n": (2, 4)}))
    for label, options in patterns:
        for case in cases(layers, COMMON):
            x = tf.zeros((1, *case.shape), case.dtype)
            case.layer(x, x) if case.twice else case.layer(x)
            schedule = api.ConstantSparsity(0.5, 1)
            wrapper = api.prune_low_magnitude(case.layer, schedule, **options)
            try:
                wrapper.build(x.shape)
                wrapper.pruning_step.assign(1)
                wrapper.pruning_obj.conditional_mask_update()
            except ValueError as error:
                messages[f"{label}/{case.name}"] = str(error)
    return messages


def main(path: str) -> None:
    store: dict = {}
    for run in RUNS:
        record(run, store)
    tie(store)
    store["refusals"] = np.array(json.dumps(refusals()))
    np.savez(path, **store)


if __name__ == "__main__":
    main(sys.argv[1])
