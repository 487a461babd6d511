import keras
import pytest
from keras import layers as kl

from tfprune.structure.rules.activation import MIXING, POINTWISE

NAMES = sorted(
    name for name in POINTWISE if hasattr(keras.activations, name) and name != "threshold"
)


@pytest.mark.parametrize("name", NAMES)
def test_a_pointwise_activation_gives_a_channel_from_that_channel_alone(name: str) -> None:
    x = keras.random.normal((2, 6), seed=1)
    whole = keras.activations.get(name)(x)
    part = keras.activations.get(name)(x[:, 1:4])
    assert keras.ops.convert_to_numpy(whole)[:, 1:4] == pytest.approx(
        keras.ops.convert_to_numpy(part), abs=1e-6
    )


@pytest.mark.parametrize("name", sorted(MIXING))
def test_a_mixing_one_does_not(name: str) -> None:
    x = keras.random.normal((2, 6), seed=1)
    whole = keras.activations.get(name)(x)
    part = keras.activations.get(name)(x[:, 1:4])
    assert keras.ops.convert_to_numpy(whole)[:, 1:4] != pytest.approx(
        keras.ops.convert_to_numpy(part), abs=1e-3
    )


def test_an_activation_may_be_a_layer_or_a_function_of_tensorflow(sizes) -> None:
    import tensorflow as tf

    inputs = keras.Input((4,))
    x = kl.Dense(8, activation=kl.LeakyReLU(0.1), name="a")(inputs)
    x = kl.Dense(8, activation=kl.ReLU(), name="b")(x)
    x = kl.Dense(6, activation=tf.nn.relu, name="c")(x)
    assert sizes(keras.Model(inputs, kl.Dense(2)(x))) == {"a": 8, "b": 8, "c": 6}
