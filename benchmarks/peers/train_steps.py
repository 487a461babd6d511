"""Times training steps, mask updates and first batches, in a process of its own.

Started by benchmarks/sparsity.py, once as `tfprune` on Keras 3 and once as `tfmot` on tf_keras.
Both run this same code but for the pruning itself. All times are CPU time of this process.
"""

import sys
import time
import warnings
from typing import Any

import networks
import numpy as np
import tensorflow as tf
import workers

Job = dict[str, Any]

SHAPES = {1_000_000: (1000, 1000), 10_000_000: (2500, 4000)}
NEVER = 10**6
"""An end of the schedule that is not reached: every update then asks for a new sparsity, so that
none can be spared because nothing has changed."""


class Tfmot:
    """tensorflow-model-optimization on tf_keras."""

    def __init__(self) -> None:
        import tensorflow_model_optimization as tfmot
        import tf_keras

        self.keras = tf_keras
        self.api = tfmot.sparsity.keras

    def prune(self, model: Any, frequency: int) -> Any:
        schedule = self.api.PolynomialDecay(0.5, 0.8, 0, NEVER, frequency=frequency)
        return self.api.prune_low_magnitude(model, pruning_schedule=schedule)

    def callbacks(self) -> list[Any]:
        return [self.api.UpdatePruningStep()]

    def mask_update(self, shape: tuple[int, int], zeros: bool, weights: Any) -> float:
        schedule = self.api.ConstantSparsity(0.8, 0, frequency=1)
        layer = self.keras.layers.Dense(shape[1], use_bias=False)
        wrapped = self.api.prune_low_magnitude(layer, pruning_schedule=schedule)
        wrapped.build((None, shape[0]))
        wrapped.pruning_step.assign(1)
        kernel, mask, _ = wrapped.pruning_vars[0]

        @tf.function
        def update() -> None:
            wrapped.pruning_obj.conditional_mask_update()
            wrapped.pruning_obj.weight_mask_op()

        def reset() -> None:
            kernel.assign(weights)
            mask.assign(tf.ones_like(mask))

        update()
        if not zeros:
            reset()
        return cpu_seconds(update)


class Tfprune:
    """tfprune on Keras 3."""

    def __init__(self) -> None:
        import keras

        import tfprune
        import tfprune.errors

        self.keras = keras
        self.api = tfprune
        # The schedule is longer than the bursts on purpose.
        warnings.simplefilter("ignore", tfprune.errors.ScheduleWarning)

    def prune(self, model: Any, frequency: int) -> Any:
        schedule = self.api.PolynomialDecay(0.5, 0.8, 0, NEVER, frequency=frequency)
        return self.api.prune_low_magnitude(model, pruning_schedule=schedule)

    def callbacks(self) -> list[Any]:
        return [self.api.UpdatePruningStep()]

    def mask_update(self, shape: tuple[int, int], zeros: bool, weights: Any) -> float:
        from tfprune.sparsity.masks import prunings_of

        model = networks.one_dense(self.keras, *shape)
        schedule = self.api.ConstantSparsity(0.8, 0, frequency=1)
        (pruning,) = prunings_of(self.api.prune_low_magnitude(model, pruning_schedule=schedule))
        (hold,) = pruning.holds
        hold.kernel.variable.assign(weights)
        pruning.update(0.8)
        if not zeros:
            hold.set_mask(np.ones(shape, bool))
            hold.kernel.variable.assign(weights)
        pruning.sparsity = None  # or it would see that there is nothing to do
        return cpu_seconds(lambda: pruning.update(0.8))


def cpu_seconds(work: Any) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


class Bench:
    """What stays between jobs: a model for every network and kind of pruning."""

    def __init__(self, peer: Any) -> None:
        self.peer = peer
        self.models: dict[tuple[str, str, bool], tuple[Any, Any, list[Any]]] = {}
        self.rng = np.random.default_rng(0)

    def answer(self, job: Job) -> Job:
        work = {"burst": self.burst, "mask_update": self.mask_update, "first": self.first_batch}
        return {"seconds": work[job["do"]](job)}

    def compiled(self, model: Any, jit: bool) -> Any:
        loss = self.peer.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(self.peer.keras.optimizers.Adam(1e-3), loss, jit_compile=jit)
        return model

    def burst(self, job: Job) -> float:
        """Run `steps` steps of `fit` and return the time of one. A first call builds and warms."""
        key = job["network"], job["kind"], job["jit"]
        if key not in self.models:
            self.models[key] = self._prepare(*key)
            self.burst({**job, "steps": 3})
        model, data, callbacks = self.models[key]

        def work() -> None:
            model.fit(data, steps_per_epoch=job["steps"], verbose=0, callbacks=callbacks)

        return cpu_seconds(work) / job["steps"]

    def _prepare(self, network: str, kind: str, jit: bool) -> tuple[Any, Any, list[Any]]:
        self.peer.keras.utils.set_random_seed(0)
        model = getattr(networks, network)(self.peer.keras)
        shape = (64, *model.input_shape[1:])
        data = self._examples(shape)
        callbacks = []
        if not kind.startswith("plain"):
            model = self.peer.prune(model, int(kind))
            callbacks = self.peer.callbacks()
        return self.compiled(model, jit), data.repeat(), callbacks

    def _examples(self, shape: tuple[int, ...]) -> Any:
        x = self.rng.random(shape, np.float32)
        y = self.rng.integers(0, 10, shape[0])
        return tf.data.Dataset.from_tensors((x, y))

    def mask_update(self, job: Job) -> float:
        shape = SHAPES[job["weights"]]
        weights = self.rng.standard_normal(shape, np.float32)
        return self.peer.mask_update(shape, job["zeros"], weights)

    def first_batch(self, job: Job) -> float:
        """Time pruning, compiling and the first batch of a model that is built."""
        self.peer.keras.backend.clear_session()
        self.peer.keras.utils.set_random_seed(0)
        model = networks.mobilenet(self.peer.keras)
        data = self._examples((16, 96, 96, 3))

        def work() -> None:
            ready, callbacks = model, []
            if job["kind"] != "plain":
                ready, callbacks = self.peer.prune(model, 100), self.peer.callbacks()
            self.compiled(ready, False).fit(data, verbose=0, callbacks=callbacks)

        return cpu_seconds(work)


if __name__ == "__main__":
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    workers.serve(Bench({"tfmot": Tfmot, "tfprune": Tfprune}[sys.argv[1]]()).answer)
