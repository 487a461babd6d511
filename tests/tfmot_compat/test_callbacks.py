"""One callback serves both generations of Keras."""

import keras
import numpy as np
import tf_keras

import tfprune


def test_one_callback_serves_a_model_of_each_generation_in_turn() -> None:
    callback = tfprune.UpdatePruningStep()
    x, y = np.ones((16, 8), "float32"), np.zeros((16, 1), "float32")
    for api in (tf_keras, keras, tf_keras, keras):
        model = api.Sequential([api.layers.Input((8,)), api.layers.Dense(1)])
        model = tfprune.prune_low_magnitude(model, tfprune.ConstantSparsity(0.5, 1, frequency=1))
        model.compile("sgd", "mse")
        model.fit(x, y, batch_size=4, verbose=0, callbacks=[callback])
        kernel = tfprune.strip_pruning(model).get_weights()[0]
        assert np.count_nonzero(kernel) == 4, api.__name__
