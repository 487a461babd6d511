"""Trains pruned networks for int8 files, in a process of its own: tfprune, or tfmot on tf_keras.

Started by benchmarks/qat.py. Both kinds run this same code but for the quantization itself.
"""

import sys
import time
from typing import Any

import datasets
import keras
import networks
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from workers import Job, serve

import tfprune
from tfprune.deploy.verify.operations import float_operations
from tfprune.runtime import flatbuffer
from tfprune.runtime.litert import Runner

_loaded: dict[int, tuple[Any, ...]] = {}


def load(images: int) -> tuple[Any, ...]:
    """Return x, y of the first training images and of all test images of Fashion-MNIST."""
    if images not in _loaded:
        (x, y), test = datasets.fashion_mnist()
        _loaded[images] = tuple(
            (np.float32(x)[..., None] / np.float32(255), y.astype(np.int32))
            for x, y in ((x[:images], y[:images]), test)
        )
    return _loaded[images]


def fit(api: Any, model: Any, job: Job, stage: str, callbacks: Any = ()) -> None:
    """Train with the batches of a seed, in the same order for every method."""
    (x, y), _ = load(job["images"])
    size = job["batch"]
    rng = np.random.default_rng([job["seed"], len(stage)])
    order = np.stack(
        [
            rng.permutation(len(x))[: len(x) // size * size].reshape(-1, size)
            for _ in range(job[f"{stage}_epochs"])
        ]
    )
    images, labels = tf.constant(x), tf.constant(y)
    data = (
        tf.data.Dataset.from_tensor_slices(order.reshape(-1, size))
        .map(lambda index: (tf.gather(images, index), tf.gather(labels, index)))
        .prefetch(2)
    )
    loss = api.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(api.optimizers.Adam(job[f"{stage}_rate"]), loss, jit_compile=False)
    model.fit(data, verbose=0, callbacks=list(callbacks))


def accuracy(logits: NDArray, y: NDArray) -> float:
    return 100 * float(np.mean(logits.argmax(1) == y))


def outputs(model: Any, x: NDArray) -> NDArray:
    return np.concatenate([np.asarray(model(part)) for part in np.array_split(x, 20)])


def train_dense(job: Job) -> Job:
    """Train the dense network of a seed and keep it."""
    keras.utils.set_random_seed(job["seed"])
    model = getattr(networks, job["network"])(keras)
    fit(keras, model, job, "dense")
    model.save(job["dense"])
    _, (x, y) = load(job["images"])
    return {"trained": accuracy(outputs(model, x), y), "parameters": model.count_params()}


def prune(job: Job) -> Job:
    """Prune the dense network while it is fine-tuned, and keep what is left."""
    model = keras.saving.load_model(job["dense"], compile=False)
    steps = job["images"] // job["batch"] * job["prune_epochs"]
    schedule = tfprune.PolynomialDecay(0.0, job["sparsity"], 0, int(0.7 * steps), frequency=10)
    model = tfprune.prune(model, job["sparsity"], schedule=schedule)
    fit(keras, model, job, "prune", [tfprune.UpdatePruningStep()])
    model = tfprune.strip_pruning(model)
    model.save(job["pruned"])
    _, (x, y) = load(job["images"])
    return {"trained": accuracy(outputs(model, x), y), **zeros(model, None)}


def kernels(model: Any) -> list[NDArray]:
    return [np.asarray(w) for w in model.get_weights() if np.ndim(w) > 1]


def zeros(pruned: Any, data: bytes | None) -> Job:
    """Count the zeros of the kernels, and those among them that a file has lost."""
    given = kernels(pruned)
    found: Job = {
        "weights": sum(k.size for k in given),
        "pruned_zeros": sum(int((k == 0).sum()) for k in given),
    }
    if data is None:
        return found
    contents = flatbuffer.parse(data)
    stored = [
        np.frombuffer(contents.raw(tensor), np.int8).reshape(tensor.shape)
        for tensor in contents.subgraphs[0].tensors
        if tensor.dtype == "int8" and len(tensor.shape) > 1 and contents.raw(tensor)
    ]
    found["file_zeros"] = sum(int((k == 0).sum()) for k in stored)
    # Kernels are stored with the output channels first. Which of several of one shape is whose,
    # its zeros tell.
    found["lost_zeros"] = 0
    for kernel in given:
        holes = np.moveaxis(kernel == 0, -1, 0)
        same = [other for other in stored if other.shape == holes.shape]
        found["lost_zeros"] += min(int(np.count_nonzero(other[holes])) for other in same)
    return found


def file_figures(job: Job, data: bytes, trained: NDArray, pruned: Any) -> Job:
    """Score a file on the test set and beside what was trained."""
    _, (x, y) = load(job["images"])
    got = Runner(data)(x)
    contents = flatbuffer.parse(data)
    inspection = tfprune.inspect(data)
    return {
        "trained": accuracy(trained, y),
        "file": accuracy(got, y),
        "agreement": 100 * float(np.mean(got.argmax(1) == trained.argmax(1))),
        "raw_bytes": inspection.raw_bytes,
        "gzip_bytes": inspection.gzip_bytes,
        "float_operations": float_operations(contents),
        **zeros(pruned, data),
    }


def convert_ours(job: Job) -> Job:
    """Quantize with tfprune, with or without training."""
    pruned = keras.saving.load_model(job["pruned"], compile=False)
    (x, _), (x_test, _) = load(job["images"])
    model = pruned
    if job["method"] != "ptq":
        model = tfprune.quantize_aware(pruned, keep_zeros=job["method"] == "qat")
        fit(keras, model, job, "quantize")
    data = tfprune.to_tflite(model, scheme="int8", calibration=x[: job["calibration"]]).bytes
    return file_figures(job, data, outputs(model, x_test), pruned)


def convert_theirs(job: Job) -> Job:
    """Quantize with tensorflow-model-optimization, preserving zeros or not."""
    import tensorflow_model_optimization as tfmot
    import tf_keras

    api = tfmot.quantization.keras
    pruned = keras.saving.load_model(job["pruned"], compile=False)
    bridged = tfprune.to_tf_keras(pruned)
    if job["method"] == "tfmot-pqat":
        model = api.quantize_apply(
            api.quantize_annotate_model(bridged),
            tfmot.experimental.combine.Default8BitPrunePreserveQuantizeScheme(),
        )
    else:
        model = api.quantize_model(bridged)
    fit(tf_keras, model, job, "quantize")
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    data = converter.convert()
    _, (x_test, _) = load(job["images"])
    return file_figures(job, data, outputs(model, x_test), pruned)


def answer(job: Job) -> Job:
    keras.backend.clear_session()
    start = time.process_time()
    work = {"dense": train_dense, "prune": prune}.get(job["method"])
    if work is None:
        work = convert_theirs if job["method"].startswith("tfmot") else convert_ours
    return {**work(job), "cpu_seconds": time.process_time() - start}


if __name__ == "__main__":
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if sys.argv[1] == "tfmot":
        # Imported first, before anything has looked at tf.keras.
        import tensorflow_model_optimization  # noqa: F401 - for what importing it does
    serve(answer)
