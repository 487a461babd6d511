"""Weights and zeros of Keras models."""

import keras
import pytest

from tfprune.errors import ModelError
from tfprune.measure.counts import count_weights

L = keras.layers


def test_weights_and_zeros_by_arithmetic(convnet) -> None:
    counts = count_weights(convnet)
    assert counts.params == counts.trainable == 3 * 3 * 1 * 8 + 8 + 200 * 10 + 10
    assert counts.zeros == 0
    assert [(kernel.name, kernel.shape, kernel.zeros) for kernel in counts.kernels] == [
        ("conv/kernel", (3, 3, 1, 8), 0),
        ("head/kernel", (200, 10), 0),
    ]


def test_statistics_and_frozen_layers_are_parameters_but_not_trainable() -> None:
    frozen = L.Dense(2, use_bias=False, trainable=False)
    model = keras.Sequential([keras.Input((5,)), L.BatchNormalization(), frozen])
    counts = count_weights(model)
    assert counts.params == 4 * 5 + 5 * 2
    assert counts.trainable == 2 * 5


def test_the_state_of_a_random_generator_is_no_weight() -> None:
    model = keras.Sequential([keras.Input((5,)), L.Dropout(0.5, seed=1), L.Dense(2)])
    assert count_weights(model).params == 5 * 2 + 2


def test_a_shared_layer_counts_once() -> None:
    inputs = keras.Input((4,))
    shared = L.Dense(4, use_bias=False)
    model = keras.Model(inputs, shared(shared(inputs)))
    assert count_weights(model).params == 16


def test_tf_keras_models_are_counted_too() -> None:
    import tf_keras

    model = tf_keras.Sequential([tf_keras.layers.Dense(3, input_shape=(4,))])
    counts = count_weights(model)
    assert (counts.params, counts.zeros) == (4 * 3 + 3, 3)
    assert counts.kernels[0].shape == (4, 3)


def test_unbuilt_models_and_other_objects_are_refused() -> None:
    with pytest.raises(ModelError, match="not built"):
        count_weights(keras.Sequential([L.Dense(3)], name="empty"))
    with pytest.raises(ModelError, match=r"Received str"):
        count_weights("model.keras")
