"""Times training steps under int8 rounding, in a process of its own: tfprune, or tfmot on tf_keras.

Started by benchmarks/qat_steps.py. Both run this same code, from the same Keras 3 model, but for
the rounding itself. All times are CPU time of this process.
"""

import sys
from typing import Any

import keras
import networks
import numpy as np
import tensorflow as tf
from train_steps import cpu_seconds
from workers import Job, serve

import tfprune

CLUSTERS = 16
KEEPS = {"rounded": (), "zeros": ("zeros",), "clusters": ("zeros", "clusters")}


class Tfprune:
    """tfprune on Keras 3."""

    keras = keras

    def plain(self, model: Any) -> Any:
        return model

    def rounded(self, model: Any, kind: str) -> Any:
        return tfprune.quantize_aware(
            model, keep_zeros="zeros" in KEEPS[kind], keep_clusters="clusters" in KEEPS[kind]
        )


class Tfmot:
    """tensorflow-model-optimization on the model that `to_tf_keras` gives."""

    def __init__(self) -> None:
        import tensorflow_model_optimization as tfmot
        import tf_keras

        self.keras = tf_keras
        self.api = tfmot.quantization.keras
        combine = tfmot.experimental.combine
        self.schemes = {
            "rounded": self.api.default_8bit.Default8BitQuantizeScheme,
            "zeros": combine.Default8BitPrunePreserveQuantizeScheme,
            "clusters": combine.Default8BitClusterPreserveQuantizeScheme,  # with its zeros
        }

    def plain(self, model: Any) -> Any:
        return tfprune.to_tf_keras(model)

    def rounded(self, model: Any, kind: str) -> Any:
        annotated = self.api.quantize_annotate_model(self.plain(model))
        return self.api.quantize_apply(annotated, self.schemes[kind]())


def start(network: str, kind: str) -> Any:
    """Return a network with the weights that are to be kept."""
    keras.utils.set_random_seed(0)
    model = getattr(networks, network)(keras)
    if "clusters" in KEEPS.get(kind, ()):
        tfprune.strip_clustering(tfprune.cluster(model, CLUSTERS, seed=0))
    if "zeros" in KEEPS.get(kind, ()):
        for weight in (w for w in model.trainable_weights if len(w.shape) > 1):
            values = np.asarray(weight)
            weight.assign(np.where(np.abs(values) > np.median(np.abs(values)), values, 0))
    return model


class Bench:
    """What stays between jobs: a compiled model for every network and kind of rounding."""

    def __init__(self, peer: Any) -> None:
        self.peer = peer
        self.ready: dict[tuple[str, str], tuple[Any, Any]] = {}

    def answer(self, job: Job) -> Job:
        """Run `steps` steps of `fit` and return the time of one. A first call builds and warms."""
        key = job["network"], job["kind"]
        if key not in self.ready:
            self.ready[key] = self._prepare(*key, job["batch"])
            self.answer({**job, "steps": 3})
        model, data = self.ready[key]

        def work() -> None:
            model.fit(data, steps_per_epoch=job["steps"], verbose=0)

        return {"seconds": cpu_seconds(work) / job["steps"]}

    def _prepare(self, network: str, kind: str, batch: int) -> tuple[Any, Any]:
        model = start(network, kind)
        plain = kind.startswith("plain")
        model = self.peer.plain(model) if plain else self.peer.rounded(model, kind)
        loss = self.peer.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(self.peer.keras.optimizers.Adam(1e-4), loss, jit_compile=False)
        rng = np.random.default_rng(0)
        x = rng.random((batch, *model.input_shape[1:]), np.float32)
        y = rng.integers(0, 10, batch)
        return model, tf.data.Dataset.from_tensors((x, y)).repeat()


if __name__ == "__main__":
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    if sys.argv[1] == "tfmot":
        # Imported first, before anything has looked at tf.keras.
        import tensorflow_model_optimization  # noqa: F401 - for what importing it does
    serve(Bench({"tfmot": Tfmot, "tfprune": Tfprune}[sys.argv[1]]()).answer)
