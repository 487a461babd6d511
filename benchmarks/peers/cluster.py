"""Clusters networks, in a process of its own: tfprune, or tfmot on tf_keras.

Started by benchmarks/clustering.py. Both kinds run this same code but for the clustering and the
quantization itself.
"""

import sys
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from quantize import accuracy, fit, load, outputs, prune, train_dense
from workers import Job, serve

import tfprune
from tfprune.deploy.verify.operations import float_operations
from tfprune.measure.size import sizes, stored_weights
from tfprune.runtime import flatbuffer
from tfprune.runtime.litert import Runner


def figures(job: Job, data: bytes, trained: NDArray) -> Job:
    """Score a file on the test set, and measure it."""
    _, (x, y) = load(job["images"])
    contents, size = flatbuffer.parse(data), sizes(data)
    kernels = [values for tensor, values in stored_weights(contents) if len(tensor.shape) > 1]
    return {
        "trained": accuracy(trained, y),
        "file": accuracy(Runner(data)(x), y),
        "values": max(np.unique(kernel).size for kernel in kernels),
        "zeros": 100 * sum(int((k == 0).sum()) for k in kernels) / sum(k.size for k in kernels),
        "raw_bytes": size.raw_bytes,
        "gzip_bytes": size.gzip_bytes,
        "entropy_bytes": size.entropy_bytes,
        "float_operations": float_operations(contents),
    }


def start_of(job: Job) -> Any:
    return keras.saving.load_model(job["pruned" if job["zeros"] else "dense"], compile=False)


def plain(job: Job) -> Job:
    """Write the network as it is, in floats."""
    model = start_of(job)
    _, (x, _) = load(job["images"])
    data = tfprune.to_tflite(model).bytes
    return {"float32": figures(job, data, outputs(model, x))}


def ours(job: Job) -> Job:
    """Cluster and quantize with tfprune."""
    (x, _), (x_test, _) = load(job["images"])
    model, found = start_of(job), {}
    samples = x[: job["calibration"]]
    if job["clusters"]:
        model = tfprune.cluster(model, job["clusters"], seed=job["seed"])
        fit(keras, model, job, "cluster")
        model = tfprune.strip_clustering(model)
        trained = outputs(model, x_test)
        found["float32"] = figures(job, tfprune.to_tflite(model).bytes, trained)
        data = tfprune.to_tflite(model, scheme="int8", calibration=samples).bytes
        found["int8"] = figures(job, data, trained)
    model = tfprune.quantize_aware(model, keep_clusters=bool(job["clusters"]))
    fit(keras, model, job, "quantize")
    data = tfprune.to_tflite(model, scheme="int8", calibration=samples).bytes
    return {**found, "aware": figures(job, data, outputs(model, x_test))}


def theirs(job: Job) -> Job:
    """Cluster and quantize with tensorflow-model-optimization."""
    import tensorflow_model_optimization as tfmot
    import tf_keras

    (x, _), (x_test, _) = load(job["images"])
    model, found = tfprune.to_tf_keras(start_of(job)), {}
    combine = tfmot.experimental.combine
    scheme = combine.Default8BitPrunePreserveQuantizeScheme()
    if job["clusters"]:
        api = tfmot.clustering.keras
        model = api.cluster_weights(model, job["clusters"], preserve_sparsity=bool(job["zeros"]))
        fit(tf_keras, model, job, "cluster")
        model = api.strip_clustering(model)
        trained = outputs(model, x_test)
        found["float32"] = figures(job, converted(model, None), trained)
        found["int8"] = figures(job, converted(model, x[: job["calibration"]]), trained)
        scheme = combine.Default8BitClusterPreserveQuantizeScheme(bool(job["zeros"]))
    api = tfmot.quantization.keras
    model = api.quantize_apply(api.quantize_annotate_model(model), scheme)
    fit(tf_keras, model, job, "quantize")
    trained = outputs(model, x_test)
    if job["clusters"]:
        from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.cluster_preserve.cluster_utils import (  # noqa: E501
            strip_clustering_cqat,
        )

        model = strip_clustering_cqat(model)
    return {**found, "aware": figures(job, converted(model, ()), trained)}


def converted(model: Any, samples: Any) -> bytes:
    """Return a file in floats (None), in integers by samples, or by trained ranges (empty)."""
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if samples is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        if len(samples):
            converter.representative_dataset = lambda: ([one[None]] for one in samples)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    data: bytes = converter.convert()
    return data


def answer(job: Job) -> Job:
    keras.backend.clear_session()
    start = time.process_time()
    work = {"dense": train_dense, "prune": prune, "plain": plain, "ours": ours, "theirs": theirs}
    return {**work[job["method"]](job), "cpu_seconds": time.process_time() - start}


if __name__ == "__main__":
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if sys.argv[1] == "tfmot":
        # Imported first, before anything has looked at tf.keras.
        import tensorflow_model_optimization  # noqa: F401 - for what importing it does
    serve(answer)
