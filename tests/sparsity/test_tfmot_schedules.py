"""tensorflow-model-optimization's schedules, on Keras 3 models."""

import keras
import numpy as np
import tensorflow as tf

import tfprune
from tfprune.tfmot_compat import adapter

X = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
Y = X[:, :1]


def test_schedules_of_the_peer_are_accepted_on_keras_3() -> None:
    api = adapter.sparsity_api()

    class Mine(api.PruningSchedule):
        def __call__(self, step):
            return step >= 3, tf.constant(0.8)

        def get_config(self):
            return {"class_name": "Mine", "config": {}}

    for schedule, expected in (
        (api.PolynomialDecay(0.0, 0.8, 0, 16), [16, 2]),
        (api.ConstantSparsity(0.5, 0), [40, 5]),
        (Mine(), [16, 2]),
    ):
        layers = [keras.Input((8,)), keras.layers.Dense(10), keras.layers.Dense(1)]
        model = tfprune.prune_low_magnitude(keras.Sequential(layers), schedule)
        model.compile("adam", "mse")
        model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
        kernels = [layer.kernel.numpy() for layer in tfprune.strip_pruning(model).layers]
        assert [np.count_nonzero(kernel) for kernel in kernels] == expected
