"""Shrinks Keras networks with tfprune, in a process of its own.

Started by benchmarks/structure.py.
"""

import gc
from collections.abc import Callable
from typing import Any

import attention_networks
import keras
import tensorflow as tf
from workers import Cost, Job, memory_growth, serve, stopwatch

import tfprune

NETWORKS: dict[str, Callable[[], Any]] = {
    "resnet50": lambda: keras.applications.ResNet50(weights=None, classifier_activation=None),
    "mobilenet_v2": lambda: keras.applications.MobileNetV2(
        weights=None, classifier_activation=None
    ),
    "vit_b16": attention_networks.vit_b16,
    "bert_base": attention_networks.bert_base,
}

_built: dict[str, Any] = {}


def answer(job: Job) -> Job:
    """Shrink a network; `do` says whether time or memory is wanted."""
    name = job["network"]
    if name not in _built:
        _built.clear()
        keras.backend.clear_session()
        keras.utils.set_random_seed(0)
        _built[name] = NETWORKS[name]()
    gc.collect()
    cost: Cost = {}
    measure = memory_growth if job["do"] == "memory" else stopwatch
    with measure(cost):
        small, report = tfprune.shrink(
            _built[name],
            {"channels": 0.5},
            ranking="uniform",
            round_to=8,
            heads=False,
            verify=job["verify"],
        )
    return {
        **cost,
        "before": report.before.params,
        "after": small.count_params(),
        "error": report.error,
        "exact": report.exact,
    }


if __name__ == "__main__":
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    serve(answer)
